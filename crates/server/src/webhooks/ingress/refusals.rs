//! Rows of refused requests: one each up to 60 a minute and webhook, then one counted row.
//!
//! Invariant: when the answer is sent, the request is in the log; a flood costs one write at a time and webhook, since
//! who waits for the write of another is counted in the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thinkwork_database::Db;
use thinkwork_primitives::{DeliveryId, TenantId};

use crate::webhooks::{Delivery, Error, store};

/// Rows a minute, webhook and process: enough to see what is wrong.
const ROWS_MAX: u32 = 60;

#[derive(Default)]
struct State {
    minute: i64,
    rows: u32,
    counted: Option<DeliveryId>,
    uncounted: i64,
}

/// The refused requests of one webhook in this minute.
#[derive(Default)]
pub(crate) struct Refusals {
    state: Mutex<State>,
    writing: tokio::sync::Mutex<()>,
}

impl Refusals {
    /// Writes a request down that was refused in this minute.
    pub(crate) async fn record(&self, db: &Db, tenant: TenantId, minute: i64, refused: Delivery) -> Result<(), Error> {
        if self.has_room(minute) {
            let mut tx = db.write(tenant).await?;
            store::deliveries_insert(&mut tx, std::slice::from_ref(&refused)).await?;
            return Ok(tx.commit().await?);
        }
        let _writing = self.writing.lock().await;
        let (more, counted) = {
            let mut state = self.state();
            (std::mem::take(&mut state.uncounted), state.counted)
        };
        if more == 0 {
            return Ok(());
        }
        let mut tx = db.write(tenant).await?;
        let row = match counted {
            Some(row) => {
                store::delivery_count_add(&mut tx, row, more).await?;
                row
            }
            None => {
                let reason = Some("more refused requests of this minute, counted in one row".to_owned());
                let row = Delivery { count: more, reason, headers: Vec::new(), ..refused };
                store::deliveries_insert(&mut tx, std::slice::from_ref(&row)).await?;
                row.id
            }
        };
        tx.commit().await?;
        self.state().counted = Some(row);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this request gets a row of its own; else it is counted.
    fn has_room(&self, minute: i64) -> bool {
        let mut state = self.state();
        if minute > state.minute {
            *state = State { minute, uncounted: state.uncounted, ..State::default() };
        }
        let room = state.rows < ROWS_MAX;
        if room {
            state.rows = state.rows.saturating_add(1);
        } else {
            state.uncounted = state.uncounted.saturating_add(1);
        }
        room
    }
}
