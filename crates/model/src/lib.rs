//! The multimodal model: a vision tower, a projector and a decoder, composed as in LLaVA-1.5 (Liu
//! et al. 2023, <https://arxiv.org/abs/2310.03744>).
//!
//! - [`GalleryModelConfig`] has presets; the tiny model and the 7B model run through the same code.
//! - [`SplicePlan`] plans where the tokens and pictures of a batch go, before anything is computed.
//! - [`GalleryModel`] plans and embeds a batch, and runs the decoder on it.
//! - [`Generator`] generates token ids: greedily, by sampling or by beam search, with a key/value
//!   cache.
//!
//! ```
//! use burn::tensor::Device;
//! use gallery_gpt_model::{GalleryModelConfig, ModelFamily, GenerationConfig, Generator, Prompt};
//!
//! let device = Device::flex();
//! let model = GalleryModelConfig::tiny().init(&device);
//! let prompt = Prompt::text(vec![1, 5, 6, 7]);
//! let written = Generator::new(&model, GenerationConfig::greedy(4))
//!     .generate(&[prompt])
//!     .unwrap();
//! assert!(written[0].ids.len() <= 4);
//! ```

mod config;
mod error;
mod gallery_model;
mod generate;
mod params;
mod splice;

pub use config::{END_OF_TEXT, GalleryModelConfig, ModelFamily, ReservedRows};
pub use error::{GenerationError, ModelConfigError, SpliceError};
pub use gallery_model::GalleryModel;
pub use generate::{
    CancelToken, Decoding, EarlyStopping, FinishReason, Generation, GenerationConfig, Generator,
    Hypothesis, LogitsProcessor, PictureCache, Prompt, Sampler,
};
pub use params::{ParamMapper, ParamVisitor, map_params, visit_params};
pub use splice::{Packing, SplicePlan, SplicedLabels};
