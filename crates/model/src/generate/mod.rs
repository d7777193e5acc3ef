//! Generation, token by token.

mod beam;
mod config;
mod decoding;
mod generation;
mod generator;
mod logits;
mod prefill;
mod sampler;
mod stop;

pub use beam::{EarlyStopping, Hypothesis};
pub use config::GenerationConfig;
pub use decoding::Decoding;
pub use generation::{FinishReason, Generation};
pub use generator::{Generator, Prompt};
pub use logits::LogitsProcessor;
pub use sampler::Sampler;
pub use stop::CancelToken;
