//! Which errors say that the database cannot be reached or cannot store, whatever it is asked: trying again may do.

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{DbErr, RuntimeErr, sqlx};

/// SQLite's primary codes of a file that is locked, read-only, full, broken or gone, and of too little memory
/// (<https://www.sqlite.org/rescode.html>).
const SQLITE_CODES: [u32; 7] = [5, 7, 8, 10, 13, 14, 15];
/// PostgreSQL's classes of lost connections, insufficient resources, intervention and system errors, and what it says of
/// a server that only reads (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const POSTGRES_CODES: [&str; 5] = ["08", "53", "57P", "58", "25006"];

/// Whether the database is behind this error or one of its sources, and cannot be reached or cannot store.
pub fn is_unavailable(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let found = match error.downcast_ref::<crate::Error>() {
            Some(crate::Error::Orm(error)) => Some(error),
            _ => error.downcast_ref::<DbErr>(),
        };
        if found.is_some_and(is_outage) {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_outage(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => match &**error {
            sqlx::Error::Database(error) => refuses_all(&**error),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        },
        _ => false,
    }
}

fn refuses_all(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        return POSTGRES_CODES.iter().any(|class| code.starts_with(class));
    }
    // The primary code is in the last byte of an extended one.
    code.parse::<u32>().is_ok_and(|code| SQLITE_CODES.contains(&(code & 0xff)))
}
