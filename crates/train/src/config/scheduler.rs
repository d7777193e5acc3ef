//! Which learning-rate schedule a training follows, under the names of `transformers`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the rate goes on after its peak (`lr_scheduler_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Half a cosine down to 0.
    #[default]
    Cosine,
    /// A line down to 0.
    Linear,
    /// It stays, after a warm-up.
    ConstantWithWarmup,
    /// It stays, from the first step on.
    Constant,
}

impl FromStr for SchedulerType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "linear" => Ok(Self::Linear),
            "constant_with_warmup" => Ok(Self::ConstantWithWarmup),
            "constant" => Ok(Self::Constant),
            other => Err(format!(
                "unknown lr_scheduler_type `{other}`, expected cosine, linear, constant_with_warmup or constant"
            )),
        }
    }
}
