//! Adapted schemas of this process, by the hash of the tool's definition: a definition never changes under its hash.

use std::sync::Arc;

use super::{Adapted, Dialect, SCHEMA_BYTES_MAX, SchemaProblem, adapt};
use crate::tools::Tool;
use crate::turns::Error;

/// Bytes of schemas that are remembered at most.
const CACHED_BYTES_MAX: u64 = 64 * 1_024 * 1_024;
/// What an entry weighs beside its schema.
const ENTRY_BYTES: usize = 256;

type Outcome = Arc<Result<Adapted, SchemaProblem>>;

#[derive(Clone)]
pub(in crate::turns) struct SchemaCache(moka::sync::Cache<(String, Dialect), Outcome>);

impl SchemaCache {
    pub(in crate::turns) fn new() -> Self {
        let bytes = |_: &(String, Dialect), outcome: &Outcome| {
            let schema = outcome.as_ref().as_ref().map_or(0, |adapted| adapted.bytes.min(SCHEMA_BYTES_MAX));
            u32::try_from(schema.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
        };
        Self(moka::sync::Cache::builder().max_capacity(CACHED_BYTES_MAX).weigher(bytes).build())
    }

    /// The schema of each of these tools, in their order. Those that are not known yet are adapted on a thread for
    /// blocking work, since a server chose them.
    ///
    /// # Errors
    /// [`Error::Stopping`] where that thread was cut off.
    pub(in crate::turns) async fn adapt_all(&self, tools: &[Tool], dialect: Dialect) -> Result<Vec<Outcome>, Error> {
        let key = |tool: &Tool| (tool.definition_hash.clone(), dialect);
        let known: Vec<Option<Outcome>> = tools.iter().map(|tool| self.0.get(&key(tool))).collect();
        let missing = tools.iter().zip(&known).filter(|(_, known)| known.is_none());
        let missing: Vec<_> = missing.map(|(tool, _)| (key(tool), Arc::clone(&tool.input_schema))).collect();
        if missing.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let adapting = tokio::task::spawn_blocking(move || {
            let adapted = missing.into_iter().map(|(key, schema)| (key, Arc::new(adapt(&schema, dialect))));
            adapted.collect::<Vec<_>>()
        });
        let mut adapted = adapting.await.map_err(|_| Error::Stopping)?.into_iter();
        let mut outcomes = Vec::with_capacity(known.len());
        for outcome in known {
            match outcome {
                Some(outcome) => outcomes.push(outcome),
                None => {
                    let (key, outcome) = adapted.next().ok_or(Error::Stopping)?;
                    self.0.insert(key, Arc::clone(&outcome));
                    outcomes.push(outcome);
                }
            }
        }
        Ok(outcomes)
    }
}
