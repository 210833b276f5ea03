//! The tools that a model is given in one turn, and those that it cannot be given.
//!
//! Invariants: one tool that a provider does not take costs that tool and never the turn (L96); what is left out is
//! stored in the turn by name; what the provider refused is forgotten with the turn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::model::ToolDefinition;
use super::schema::{Adapted, Dialect, SchemaProblem};
use super::{Error, Turns};
use crate::tools::{LeftOut, LeftOutReason, OfferedTools, Tool};

/// Tools that a provider may refuse in one turn: a provider that refuses more takes none.
const REFUSALS_MAX: usize = 8;

/// What is known of a tool that the provider refused; its own words are in the log.
const REFUSED_BY_PROVIDER: &str = "its provider refused it";

pub(super) struct ModelTools {
    /// Those that it is given, and all that is left out.
    pub(super) offered: OfferedTools,
    /// Their schemas, by the hash of their definitions.
    schemas: HashMap<String, Arc<Result<Adapted, SchemaProblem>>>,
    refusals: usize,
}

impl ModelTools {
    /// The tools as this dialect takes them. `earlier`: what an interrupted execution of the same turn left out.
    ///
    /// # Errors
    /// [`Error::Stopping`] where adapting them was cut off.
    pub(super) async fn new(
        turns: &Turns,
        offered: OfferedTools,
        dialect: Dialect,
        earlier: &[LeftOut],
    ) -> Result<Self, Error> {
        let adapted = turns.schemas.adapt_all(&offered.tools, dialect).await?;
        let earlier: HashSet<&str> = earlier.iter().filter_map(|left_out| left_out.tool.as_deref()).collect();
        let mut model_tools = Self {
            offered: OfferedTools { tools: Vec::with_capacity(offered.tools.len()), left_out: offered.left_out },
            schemas: HashMap::new(),
            refusals: 0,
        };
        for (tool, schema) in offered.tools.into_iter().zip(adapted) {
            let was_refused = earlier.contains(tool.name.as_str());
            match &*schema {
                Err(problem) => model_tools.push_left_out(&tool, problem.to_string()),
                Ok(_) if !dialect.takes_name(&tool.name) => {
                    model_tools
                        .push_left_out(&tool, "its name begins with a character that its provider refuses".to_owned());
                }
                Ok(_) if was_refused => {
                    model_tools.refusals = model_tools.refusals.saturating_add(1);
                    model_tools.push_left_out(&tool, REFUSED_BY_PROVIDER.to_owned());
                }
                Ok(_) => {
                    model_tools.schemas.insert(tool.definition_hash.clone(), schema);
                    model_tools.offered.tools.push(tool);
                }
            }
        }
        Ok(model_tools)
    }

    /// Whether a tool is left out that the assembly offered.
    pub(super) fn leaves_tools_out(&self) -> bool {
        self.offered.left_out.iter().any(|left_out| left_out.tool.is_some())
    }

    /// Whether the provider may refuse one more.
    pub(super) const fn may_leave_out(&self) -> bool {
        self.refusals < REFUSALS_MAX
    }

    /// Leaves a tool out that the provider refused.
    pub(super) fn leave_out(&mut self, name: &str) {
        let Some(place) = self.offered.tools.iter().position(|tool| tool.name == name) else { return };
        let tool = self.offered.tools.remove(place);
        self.refusals = self.refusals.saturating_add(1);
        self.push_left_out(&tool, REFUSED_BY_PROVIDER.to_owned());
    }

    fn push_left_out(&mut self, tool: &Tool, detail: String) {
        self.offered.left_out.push(LeftOut {
            source: tool.source,
            server: tool.source_slug.clone(),
            tool: Some(tool.name.clone()),
            reason: LeftOutReason::SchemaNotSupported,
            detail: Some(detail),
            connect_url: None,
        });
    }

    /// The tools, as OpenAI-compatible chat completions take them.
    pub(super) fn definitions(&self) -> Vec<ToolDefinition<'_>> {
        let defined = self.offered.tools.iter().filter_map(|tool| {
            let adapted = self.schemas.get(&tool.definition_hash)?.as_ref().as_ref().ok()?;
            let description = match &adapted.alternatives {
                Some(alternatives) => format!("{}\n\n{alternatives}", tool.description).trim_start().to_owned(),
                None => tool.description.clone(),
            };
            Some(ToolDefinition::new(&tool.name, description, &adapted.parameters))
        });
        defined.collect()
    }
}
