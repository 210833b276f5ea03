//! A whole thread as one document, written piece by piece.
//!
//! Invariants: what is held at once is one page of rows, however long the thread is; no transaction stays open while
//! the reader takes a piece; each piece is for a caller who may still see the thread.

use axum::BoxError;
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use thinkwork_database::Tx;
use thinkwork_primitives::{Principal, ThreadId, TurnId};

use super::wire::{MessageResponse, ThreadResponse};
use super::{Thread, Threads};

/// Rows of one piece; data messages are large.
const ROWS_AT_ONCE: u64 = 20;

/// Which piece comes next.
enum Piece {
    Head(Box<Thread>),
    Messages(Option<i64>),
    Turns(Option<TurnId>),
}

struct Export {
    threads: Threads,
    caller: Principal,
    thread: ThreadId,
}

impl Threads {
    /// The document of a thread that the caller was let see.
    pub(super) fn export(
        &self,
        thread: Thread,
        caller: Principal,
    ) -> impl Stream<Item = Result<Bytes, BoxError>> + use<> {
        let export = Export { threads: self.clone(), caller, thread: thread.id };
        stream::try_unfold((export, Some(Piece::Head(Box::new(thread)))), |(export, piece)| async move {
            let Some(piece) = piece else { return Ok(None) };
            let (text, next) = export.write(piece).await?;
            Ok(Some((Bytes::from(text), (export, next))))
        })
    }
}

impl Export {
    /// The text of a piece and what follows.
    async fn write(&self, piece: Piece) -> Result<(String, Option<Piece>), BoxError> {
        match piece {
            Piece::Head(thread) => {
                let mut tx = self.look().await?;
                let names = self.threads.names.of_clients(&mut tx, &[thread.client]).await?;
                let head = serde_json::to_string(&ThreadResponse::new(*thread, &names))?;
                Ok((format!("{{\"thread\":{head},\"messages\":["), Some(Piece::Messages(None))))
            }
            Piece::Messages(after) => {
                let mut tx = self.look().await?;
                let found = self.threads.messages(&mut tx, self.thread, ROWS_AT_ONCE, after).await?;
                let names = self
                    .threads
                    .names
                    .of_clients(&mut tx, &found.iter().map(|one| one.client).collect::<Vec<_>>())
                    .await?;
                drop(tx);
                let Some(last) = found.last() else {
                    return Ok(("],\"turns\":[".to_owned(), Some(Piece::Turns(None))));
                };
                let next = Piece::Messages(Some(last.sequence));
                let viewer = self.caller.user();
                let writing = tokio::task::spawn_blocking(move || {
                    let rows = found.into_iter().map(|message| MessageResponse::new(message, viewer, &names));
                    items(rows, after.is_none())
                });
                Ok((writing.await??, Some(next)))
            }
            Piece::Turns(after) => {
                let mut tx = self.look().await?;
                let found = self.threads.turns(&mut tx, self.thread, ROWS_AT_ONCE, after).await?;
                let Some(last) = found.last() else { return Ok(("]}".to_owned(), None)) };
                let next = Piece::Turns(Some(last.id));
                let mut rows = Vec::with_capacity(found.len());
                for turn in found {
                    let steps = self.threads.steps_visible(&mut tx, &turn, &self.caller).await?;
                    rows.push(self.threads.turn_response(&mut tx, turn, steps).await?);
                }
                drop(tx);
                Ok((items(rows, after.is_none())?, Some(next)))
            }
        }
    }

    async fn look(&self) -> Result<Tx, BoxError> {
        let mut tx = self.threads.db.read(self.caller.tenant).await?;
        self.threads.visible(&mut tx, self.thread, &self.caller).await?;
        Ok(tx)
    }
}

/// Items of a list, each behind a comma but the list's first.
fn items<T: Serialize>(rows: impl IntoIterator<Item = T>, is_first: bool) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for (number, row) in rows.into_iter().enumerate() {
        if number > 0 || !is_first {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(&row)?);
    }
    Ok(text)
}
