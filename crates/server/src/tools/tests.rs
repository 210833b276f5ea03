//! Tests of the assembly with sources of the test.
