//! Guards: rules that hold for the product as a whole, and fail when somebody forgets one.

mod absence;
mod architecture;
mod canary;
mod document;
mod engines;
mod headers;
pub mod operations;
mod record;
pub mod scene;
mod source;
pub mod tables;
mod walk;

pub use scene::Scene;
