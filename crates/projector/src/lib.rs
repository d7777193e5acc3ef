//! The projector between the vision tower and the language model: LLaVA's `mm_projector`, or
//! Qwen-VL's resampler.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gallery_gpt_projector::{ProjectorConfig, ProjectorKind};
//!
//! let device = Device::flex();
//! let kind: ProjectorKind = "mlp2x_gelu".parse().unwrap();
//! let projector = ProjectorConfig::new(kind, 32, 48).init(&device);
//! let features = Tensor::<3>::zeros([1, 16, 32], &device);
//! assert_eq!(projector.forward(features).dims(), [1, 16, 48]);
//! ```

mod config;
mod mlp;
mod projector;
mod resampler;

pub use config::{ProjectorConfig, ProjectorError, ProjectorKind, RESAMPLER_HEAD_DIM};
pub use mlp::MlpProjector;
pub use projector::Projector;
pub use resampler::Resampler;
