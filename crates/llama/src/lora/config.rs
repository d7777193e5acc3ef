//! Settings of adapters, with PEFT's names.

use crate::{LoraTarget, LoraTargets};

/// Settings of low-rank adapters.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank (`r`).
    pub rank: usize,
    /// Numerator of the scale (`lora_alpha`).
    pub alpha: f64,
    /// Whether the scale is `alpha / sqrt(rank)` instead of `alpha / rank` (`use_rslora`;
    /// Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
    pub use_rslora: bool,
    /// Dropout probability of the adapters' inputs during training (`lora_dropout`).
    pub dropout: f64,
    /// The adapted linear layers (`target_modules`).
    pub targets: LoraTargets,
    /// Seed of A; B starts at zero.
    pub seed: u64,
}

/// An invalid setting of adapters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("LoRA: {field} is {found}, expected {expected}")]
pub struct LoraConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: f64,
    /// The requirement.
    pub expected: &'static str,
}

impl LoraConfig {
    /// All linear layers of a block, no dropout, seed 42.
    #[must_use]
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self {
            rank,
            alpha,
            use_rslora: false,
            dropout: 0.0,
            targets: LoraTargets::default(),
            seed: 42,
        }
    }

    /// GalleryGPT's adapter: rank 128, alpha 256, dropout 0.05.
    #[must_use]
    pub fn gallery_gpt() -> Self {
        Self::new(128, 256.0).with_dropout(0.05)
    }

    /// Qwen-VL-Chat's adapter: rank 64, alpha 16, dropout 0.05, on all linear layers of a block but
    /// the MLP's down projection.
    #[must_use]
    pub fn qwen_vl_chat() -> Self {
        use LoraTarget as T;
        let targets = [T::CAttn, T::OProj, T::GateProj, T::UpProj];
        Self::new(64, 16.0)
            .with_dropout(0.05)
            .with_targets(targets.into_iter().collect())
    }

    /// Sets the dropout.
    #[must_use]
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets whether the scale is rank-stabilised.
    #[must_use]
    pub fn with_rslora(mut self, use_rslora: bool) -> Self {
        self.use_rslora = use_rslora;
        self
    }

    /// Sets the adapted linear layers.
    #[must_use]
    pub fn with_targets(mut self, targets: LoraTargets) -> Self {
        self.targets = targets;
        self
    }

    /// Sets the seed of A.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The scale of the update: `alpha / rank`, or `alpha / sqrt(rank)`.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Checks values from a file or a user.
    ///
    /// # Errors
    /// A rank of 0, an alpha that is not positive, a dropout outside 0..1, or no target.
    pub fn validate(&self) -> Result<(), LoraConfigError> {
        let wrong = |field, found, expected| {
            Err(LoraConfigError {
                field,
                found,
                expected,
            })
        };
        if self.rank == 0 {
            return wrong("r", 0.0, "at least 1");
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return wrong("lora_alpha", self.alpha, "a positive number");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("lora_dropout", self.dropout, "from 0 to below 1");
        }
        if self.targets.iter().next().is_none() {
            return wrong("target_modules", 0.0, "at least one");
        }
        Ok(())
    }
}
