//! Who is who on PostgreSQL: one role owns and migrates, another one serves requests.
//!
//! Invariants: the role that serves owns nothing, is bound by row-level security, and can become no role of which that
//! is not true, whatever a statement says; its rights are those of `thinkwork_app`, to which the migrations grant. What
//! breaks this is refused when the database is opened. Used by `connect` and `schema`.

use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{Executor as _, Row as _, query};

use crate::Error;

/// Why the role of this connection must not serve, if so: what it is, or what a role is that it may become.
///
/// Asked of the role that logged in, since `RESET ROLE` leads back to it. Whoever may make roles may, before
/// PostgreSQL 16, also become any that is no superuser.
pub(crate) const PROBLEM: &str = "
    SELECT session_user::text AS role,
      CASE WHEN r.rolname = session_user THEN '' ELSE format('may become %s, which ', r.rolname) END || p.problem AS problem
    FROM pg_roles AS r
    CROSS JOIN LATERAL (
      SELECT CASE
        WHEN r.rolsuper THEN 'is a superuser'
        WHEN r.rolbypassrls THEN 'bypasses row-level security'
        WHEN r.rolcreaterole THEN 'may create and grant roles'
        WHEN r.rolreplication THEN 'may copy the whole server'
        WHEN r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
          THEN 'reaches the files of the database server'
        WHEN EXISTS (SELECT 1 FROM pg_database AS d WHERE d.datname = current_database() AND d.datdba = r.oid)
          THEN 'owns the database'
        WHEN EXISTS (SELECT 1 FROM pg_namespace AS n WHERE n.nspname = 'public' AND n.nspowner = r.oid)
          THEN 'owns the schema'
        WHEN EXISTS (SELECT 1 FROM pg_class AS c
                     WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = r.oid)
          THEN 'owns tables'
      END AS problem
    ) AS p
    WHERE p.problem IS NOT NULL AND pg_has_role(session_user, r.oid, 'MEMBER')
    ORDER BY r.rolname <> session_user, r.rolname LIMIT 1";

/// Makes `thinkwork_app` where it is not there yet, and gives its rights to the role that serves.
///
/// Nothing is done twice, so that an owner who may not do it can be spared it: see the operator guide.
pub(crate) async fn prepare(owner: &mut PgConnection, serving: &str) -> Result<(), Error> {
    let known = query("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(serving).fetch_optional(&mut *owner).await?;
    if known.is_none() {
        return Err(Error::MissingRole { role: serving.to_owned() });
    }
    query("SELECT set_config('tw.serving_role', $1, false)").bind(serving).execute(&mut *owner).await?;
    // Two processes that start at once make and grant the same; the later one finds it done.
    let prepared = owner
        .execute(
            "DO $$ BEGIN
               IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'thinkwork_app') THEN
                 CREATE ROLE thinkwork_app NOLOGIN NOBYPASSRLS;
               END IF;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
             END $$;
             DO $$ BEGIN
               IF NOT pg_has_role(current_setting('tw.serving_role'), 'thinkwork_app', 'MEMBER') THEN
                 EXECUTE format('GRANT thinkwork_app TO %I', current_setting('tw.serving_role'));
               END IF;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
             END $$;
             DO $$ BEGIN
               IF NOT has_schema_privilege('thinkwork_app', 'public', 'USAGE') THEN
                 GRANT USAGE ON SCHEMA public TO thinkwork_app;
               END IF;
             END $$",
        )
        .await;
    prepared.map_err(|source| Error::RoleRights { role: serving.to_owned(), source: Box::new(source) })?;
    Ok(())
}

/// Refuses to serve as the role that this connection logged in with where row-level security would not bind it.
pub(crate) async fn check_bound(login: &mut PgConnection) -> Result<(), Error> {
    match login.fetch_optional(PROBLEM).await? {
        Some(row) => Err(Error::UnboundRole { role: row.try_get("role")?, problem: row.try_get("problem")? }),
        None => Ok(()),
    }
}

/// Refuses a role that would find every table closed.
pub(crate) async fn check_rights(login: &mut PgConnection) -> Result<(), Error> {
    let sql = "SELECT session_user::text AS role, EXISTS (
                 SELECT 1 FROM pg_roles WHERE rolname = 'thinkwork_app' AND pg_has_role(session_user, oid, 'USAGE')
               ) AS has_rights";
    let row = login.fetch_one(sql).await?;
    if row.try_get("has_rights")? { Ok(()) } else { Err(Error::NoRights { role: row.try_get("role")? }) }
}
