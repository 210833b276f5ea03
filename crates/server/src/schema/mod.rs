//! The append-only list of migrations. A published one never changes.

mod m0001_people;
mod m0002_custody;
mod m0003_work;
mod m0004_outside;

use thinkwork_database::Migration;

/// All migrations, oldest first.
pub const MIGRATIONS: &[Migration] =
    &[m0001_people::MIGRATION, m0002_custody::MIGRATION, m0003_work::MIGRATION, m0004_outside::MIGRATION];
