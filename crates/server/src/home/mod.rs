//! `/me` and `/admin`: what needs attention first, then what happened. Drawn from state, nothing is stored here.
//!
//! Uses the slices' faces; no slice uses it.

pub mod pages;
