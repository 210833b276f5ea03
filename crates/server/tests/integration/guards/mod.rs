//! Guards: rules that hold for the product as a whole, and fail when somebody forgets one.

mod absence;
mod architecture;
mod source;
mod tables;
