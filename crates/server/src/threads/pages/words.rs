//! What a stored reason means to the person who reads the thread.

/// Why a turn or a step ended badly; the message below it says more where there is more to say.
pub(super) fn failure_sentence(failure: &str) -> String {
    let sentence = match failure {
        "" => "",
        "model_failed" => "The model did not respond. Send your message again to retry.",
        "model_rejected" => "The model's provider rejected the request.",
        "model_declined" => "The model declined to answer.",
        "model_no_answer" => "The model finished without an answer. Send your message again to retry.",
        "tool_not_offered" => "This tool is not available here.",
        "tool_failed" | "tool_error" => "The tool returned an error.",
        "upstream" => "The tool's server is not available.",
        "arguments" => "The arguments are not valid for this tool.",
        "command_malformed" => "The command could not be read.",
        "outcome_unknown" => "It is not known whether this action was completed. Check before you retry.",
        "cancelled" => "It was cancelled.",
        "interrupted" => "It was interrupted.",
        "approval_required" => "This call needs a person's approval first.",
        "too_many_model_calls" => "The agent reached the limit of steps for one request and was stopped.",
        "no_access" => "The person who asked no longer has access to this Space.",
        "internal" => "Something went wrong in ThinkWork. Ask an operator to check the server log.",
        other => return format!("Stopped: {}.", other.replace('_', " ")),
    };
    sentence.to_owned()
}
