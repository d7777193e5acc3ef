//! Low-rank adapters (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>).

mod config;
mod linear;
mod target;

pub use config::{LoraConfig, LoraConfigError};
pub use linear::{AdapterDropout, LoraAdapter, LoraLinear};
pub use target::{LoraTarget, LoraTargets};
