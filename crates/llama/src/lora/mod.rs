//! Low-rank adapters (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>).

mod config;
mod dropout;
mod linear;
mod target;

pub use config::{LoraConfig, LoraConfigError};
pub use dropout::AdapterDropout;
pub use linear::{LoraAdapter, LoraLinear};
pub use target::{LoraTarget, LoraTargets};
