//! What several benchmarks share.

#![allow(clippy::missing_errors_doc, reason = "errors end a benchmark")]

pub mod medium;
pub mod memory;
pub mod random_7b;
