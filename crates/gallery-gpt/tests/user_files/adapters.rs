//! Adapters of other trainers.
