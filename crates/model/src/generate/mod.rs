//! Generation, token by token.

mod beam;
mod config;
mod decoding;
mod generation;
mod generator;
mod logits;
mod picture_cache;
mod prefill;
mod prompt;
mod sampler;
mod stop;

pub use beam::Hypothesis;
pub use config::{EarlyStopping, GenerationConfig};
pub use decoding::Decoding;
pub use generation::{FinishReason, Generation};
pub use generator::Generator;
pub use logits::LogitsProcessor;
pub use picture_cache::PictureCache;
pub use prompt::Prompt;
pub use sampler::Sampler;
pub use stop::CancelToken;
