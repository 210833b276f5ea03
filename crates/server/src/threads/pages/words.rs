//! What a stored reason means to the person who reads the thread.

/// Why a turn or a step ended badly; the message below it says more where there is more to say.
pub(super) fn failure_sentence(failure: &str) -> String {
    let sentence = match failure {
        "" => "",
        "model_failed" => "The model did not answer.",
        "tool_not_offered" => "That tool is not offered here.",
        "tool_failed" | "tool_error" => "The tool answered with an error.",
        "upstream" => "The tool's server could not be used.",
        "arguments" => "The arguments do not fit the tool.",
        "command_malformed" => "The command could not be read.",
        "outcome_unknown" => "It is not known whether this was carried out.",
        "interrupted" => "It was cut off half-way.",
        "approval_required" => "This call needs a person's approval first.",
        "too_many_model_calls" => "The agent asked again and again without coming to an end, so it was stopped.",
        "no_access" => "The person who asked may no longer see this Space.",
        "internal" => "Something failed in ThinkWork; its log says more.",
        other => return format!("It ended early: {}.", other.replace('_', " ")),
    };
    sentence.to_owned()
}
