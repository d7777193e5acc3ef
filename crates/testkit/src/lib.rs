//! What tests and benchmarks of several crates share. It is not published.

#![allow(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "an error or a panic ends the test"
)]

pub mod http_client;
pub mod interrupted;
pub mod records;
mod tiny_base;

pub use tiny_base::copy_of_tiny_base;
