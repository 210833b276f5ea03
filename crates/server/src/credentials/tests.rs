//! Tests of this slice that need no HTTP.
