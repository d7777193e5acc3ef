//! The projector module.

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor},
};

use crate::{MlpProjector, ProjectorConfig, ProjectorKind, Resampler};

/// What brings picture features to the width of the language model.
#[allow(
    clippy::large_enum_variant,
    reason = "a model has one, and its weights are far larger"
)]
#[derive(Module, Debug)]
pub enum Projector {
    /// LLaVA's linear layers.
    Mlp(MlpProjector),
    /// Qwen-VL's cross-attention.
    Resampler(Resampler),
}

impl Projector {
    /// # Shapes
    /// - `features`: `[pictures, patches, mm_hidden]`
    /// - output: `[pictures, tokens, hidden]`; as many tokens as patches, or as a resampler's queries
    #[must_use]
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Mlp(mlp) => mlp.forward(features),
            Self::Resampler(resampler) => resampler.forward(features),
        }
    }

    /// Dtype of the weights; `None` without weights.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Self::Mlp(mlp) => Some(mlp.layers.first()?.weight.val().dtype()),
            Self::Resampler(resampler) => Some(resampler.proj.val().dtype()),
        }
    }
}

impl ProjectorConfig {
    /// A projector with random weights, initialised on first use.
    ///
    /// # Panics
    /// If a resampler's width is no multiple of [`RESAMPLER_HEAD_DIM`](crate::RESAMPLER_HEAD_DIM),
    /// on use; [`ProjectorConfig::validate`] refuses it.
    #[must_use]
    pub fn init(&self, device: &Device) -> Projector {
        let mlp = |depth| MlpProjector::new(depth, self.mm_hidden_size, self.hidden_size, device);
        match self.kind {
            ProjectorKind::Identity => Projector::Mlp(mlp(0)),
            ProjectorKind::Linear => Projector::Mlp(mlp(1)),
            ProjectorKind::MlpGelu { depth } => Projector::Mlp(mlp(depth)),
            ProjectorKind::Resampler { queries } => {
                Projector::Resampler(Resampler::new(queries, self, device))
            }
        }
    }
}
