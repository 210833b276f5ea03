//! Tests of whole turns.
