//! Guards: rules that hold for the product as a whole, and fail when somebody forgets one.

mod absence;
mod architecture;
mod authority;
mod canary;
mod document;
mod engines;
pub mod fixture;
mod guides;
mod headers;
pub mod operations;
mod plans;
mod record;
mod source;
pub mod tables;
pub mod walk;

pub use fixture::Fixture;
