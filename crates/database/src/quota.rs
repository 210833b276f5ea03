//! Rate limits that hold across processes: each process leases a share of a window's quota.

use crate::{Db, Error};

/// A part of a window's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How much was granted; 0 where nothing was left.
    pub granted: i64,
    /// How much is left in the database after it.
    pub left: i64,
}

/// Leases up to `want` of what is left of `limit` in this window.
///
/// `key` names what is limited, `window` is the window's number (for example whole minutes since the epoch).
pub async fn lease(db: &Db, key: &str, window: i64, want: i64, limit: i64) -> Result<Lease, Error> {
    let mut tx = db.write_shared().await?;
    tx.execute("DELETE FROM quota WHERE key = $1 AND window_number < $2", vec![key.into(), window.into()]).await?;
    tx.execute(
        "INSERT INTO quota (key, window_number, used) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
        vec![key.into(), window.into()],
    )
    .await?;
    let rows = tx
        .query("SELECT used FROM quota WHERE key = $1 AND window_number = $2", vec![key.into(), window.into()])
        .await?;
    let used: i64 = rows.first().map(|row| row.try_get("", "used")).transpose()?.unwrap_or(0);
    let available = limit.saturating_sub(used).max(0);
    let granted = want.clamp(0, available);
    if granted > 0 {
        // The condition makes the grant exact where two processes read the same row on PostgreSQL.
        let changed = tx
            .execute(
                "UPDATE quota SET used = used + $3 WHERE key = $1 AND window_number = $2 AND used = $4",
                vec![key.into(), window.into(), granted.into(), used.into()],
            )
            .await?;
        if changed == 0 {
            tx.commit().await?;
            return Box::pin(lease(db, key, window, want, limit)).await;
        }
    }
    tx.commit().await?;
    Ok(Lease { granted, left: available.saturating_sub(granted) })
}

/// Forgets windows before `window` of the keys that begin with `prefix`, at most `count` of them, and returns how many
/// it were: keys that never come again, like the addresses of strangers, would stay for ever.
pub async fn forget(db: &Db, prefix: &str, window: i64, count: u64) -> Result<u64, Error> {
    let mut tx = db.write_shared().await?;
    let forgotten = tx
        .execute(
            "DELETE FROM quota WHERE (key, window_number) IN (SELECT key, window_number FROM quota
             WHERE key LIKE $1 AND window_number < $2 LIMIT $3)",
            vec![format!("{prefix}%").into(), window.into(), i64::try_from(count).unwrap_or(i64::MAX).into()],
        )
        .await?;
    tx.commit().await?;
    Ok(forgotten)
}
