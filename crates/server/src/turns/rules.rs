//! Pure decisions about turns: what `/tool` says, what comes next, what may be shown, which marks a turn has.

mod command;
mod marks;
mod plan;
mod preview;
mod result;

pub use command::{Command, CommandError, parse_command};
pub(super) use marks::{belongs_to_another, is_foreign, turn_marks};
pub(super) use plan::{AssistantMessage, Next, ToolCall, assistant_message, next};
pub use preview::preview;
pub(super) use result::result_text;
