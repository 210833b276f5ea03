//! Rows that a transaction inserts at its end: one statement per table, however many calls brought them.
//!
//! Invariant: within a tenant's transaction each row binds that tenant, or nothing of the transaction lasts.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query};
use sea_orm::{ActiveValue, DbBackend, Iterable as _, Statement};
use thinkwork_primitives::TenantId;

use crate::statements::OTHER_TENANT;

/// Inserts in the order in which their tables were first named.
#[derive(Default)]
pub(crate) struct DeferredInserts {
    inserts: Vec<Insert>,
}

struct Insert {
    table: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<sea_orm::Value>>,
}

/// A column, and the type that its values are cast to.
pub(crate) type Column = (&'static str, Option<&'static str>);

impl DeferredInserts {
    /// Adds a row. Columns that are not set keep their default.
    pub(crate) fn push<A: ActiveModelTrait>(&mut self, row: &A) {
        let table = A::Entity::default().table_name();
        let mut columns = Vec::new();
        let mut values = Vec::new();
        for column in <A::Entity as EntityTrait>::Column::iter() {
            if let ActiveValue::Set(value) = row.get(column) {
                columns.push((column.as_str(), None));
                values.push(value);
            }
        }
        self.push_row(table, columns, values);
    }

    /// The same for a table without an entity.
    pub(crate) fn push_row(&mut self, table: &'static str, columns: Vec<Column>, values: Vec<sea_orm::Value>) {
        let same = |insert: &&mut Insert| insert.table == table && insert.columns == columns;
        match self.inserts.iter_mut().find(same) {
            Some(insert) => insert.rows.push(values),
            None => self.inserts.push(Insert { table, columns, rows: vec![values] }),
        }
    }

    /// The statements, in order. `tenant` is the one that each row must bind; `None` in a shared transaction.
    pub(crate) fn into_statements(self, backend: DbBackend, tenant: Option<TenantId>) -> Result<Vec<Statement>, DbErr> {
        self.inserts.into_iter().map(|insert| insert.into_statement(backend, tenant)).collect()
    }
}

impl Insert {
    fn into_statement(self, backend: DbBackend, tenant: Option<TenantId>) -> Result<Statement, DbErr> {
        if let Some(tenant) = tenant {
            let own = sea_orm::Value::from(tenant.uuid());
            if self.rows.iter().any(|row| !row.contains(&own)) {
                return Err(DbErr::Custom(format!("{OTHER_TENANT}: INSERT INTO {}", self.table)));
            }
        }
        let mut insert = Query::insert();
        insert.into_table(Alias::new(self.table)).columns(self.columns.iter().map(|(name, _)| Alias::new(*name)));
        for row in self.rows {
            let values = row.into_iter().zip(&self.columns).map(|(value, (_, cast))| match cast {
                Some(cast) => Expr::val(value).cast_as(Alias::new(*cast)),
                None => Expr::val(value),
            });
            insert.values(values).map_err(|error| DbErr::Custom(error.to_string()))?;
        }
        Ok(backend.build(&insert))
    }
}
