//! No authentication: requests present nothing.

use serde::{Deserialize, Serialize};

use super::{AuthMode, Description};
use crate::tools::CredentialRequirement;

/// It has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoAuth {}

impl AuthMode for NoAuth {
    fn description(&self) -> &'static Description {
        &Description {
            name: "None",
            help: "Anyone who can reach the server can use it.",
            needs: CredentialRequirement::Nothing,
            settings: &[],
        }
    }
}
