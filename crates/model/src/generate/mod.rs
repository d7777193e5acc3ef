//! Writing, token by token.

mod beam;
mod config;
mod decoding;
mod logits;
mod sampler;
mod stop;

pub use beam::{EarlyStopping, Hypothesis};
pub use config::GenerationConfig;
pub use decoding::{Decoding, FinishReason, Generation, Generator, Prompt};
pub use logits::LogitsProcessor;
pub use sampler::Sampler;
pub use stop::CancelToken;
