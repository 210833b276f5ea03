//! Rows of `webhook` and `delivery`. Every finder takes the tenant of its transaction.

mod delivery;
mod webhook;

pub(super) use delivery::{
    CONTENT_COLUMNS, DELIVERY_COLUMNS, deliveries_insert, deliveries_known, delivery_count_add, delivery_counts,
    delivery_find, delivery_list, envelope_find, envelopes_insert,
};
pub(super) use webhook::{
    webhook_delete, webhook_find, webhook_insert, webhook_list, webhook_names, webhook_space, webhook_update,
    webhooks_ever, webhooks_find, webhooks_of_spaces,
};

impl From<sea_orm::DbErr> for super::Error {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Database(error.into())
    }
}
