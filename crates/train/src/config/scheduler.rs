//! Learning-rate schedules, under the names of transformers.

use std::str::FromStr;

use gallery_gpt_text::UnknownName;
use serde::{Deserialize, Serialize};

/// The learning-rate schedule after the warm-up (`lr_scheduler_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchedulerType {
    /// Cosine decay to 0.
    #[default]
    Cosine,
    /// Linear decay to 0.
    Linear,
    /// Constant after the warm-up.
    ConstantWithWarmup,
    /// Constant from the first step, without warm-up.
    Constant,
}

impl FromStr for SchedulerType {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "linear" => Ok(Self::Linear),
            "constant_with_warmup" => Ok(Self::ConstantWithWarmup),
            "constant" => Ok(Self::Constant),
            _ => Err(UnknownName::new(
                "lr_scheduler_type",
                name,
                "cosine, linear, constant_with_warmup or constant",
            )),
        }
    }
}
