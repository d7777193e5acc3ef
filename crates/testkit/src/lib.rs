//! What tests and benchmarks of several crates share. It is not published.

pub mod http_client;
pub mod records;
