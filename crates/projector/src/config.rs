//! The kind and the widths of a projector.

use std::str::FromStr;

/// Width of a head of the resampler's attention.
pub const RESAMPLER_HEAD_DIM: usize = 128;

/// The kind of a projector (`mm_projector_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorKind {
    /// One linear layer.
    Linear,
    /// `depth` linear layers with exact GELUs between them: `mlp2x_gelu` has two.
    MlpGelu {
        /// Number of linear layers, at least 1.
        depth: usize,
    },
    /// Features unchanged; both widths are equal.
    Identity,
    /// Cross-attention of learned queries to the features (Qwen-VL). The number of queries is a
    /// square number, and the language model's width a multiple of
    /// [`RESAMPLER_HEAD_DIM`](crate::RESAMPLER_HEAD_DIM).
    Resampler {
        /// Number of queries: tokens of a picture in the language model.
        queries: usize,
    },
}

/// A projector that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectorError {
    /// An unknown kind.
    #[error(
        "unknown mm_projector_type `{0}`, expected linear, identity or mlpNx_gelu with N from 1 to 16"
    )]
    UnknownKind(String),
    /// A width is 0, or widths that must be equal differ.
    #[error("projector {kind}: widths {mm_hidden_size} and {hidden_size}, expected {expected}")]
    Width {
        /// The kind.
        kind: ProjectorKind,
        /// Width of the features.
        mm_hidden_size: usize,
        /// Width of the language model.
        hidden_size: usize,
        /// The requirement.
        expected: &'static str,
    },
}

impl FromStr for ProjectorKind {
    type Err = ProjectorError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "linear" => Ok(Self::Linear),
            "identity" => Ok(Self::Identity),
            _ => name
                .strip_prefix("mlp")
                .and_then(|rest| rest.strip_suffix("x_gelu"))
                .and_then(|depth| depth.parse().ok())
                .filter(|depth| (1..=16).contains(depth))
                .map(|depth| Self::MlpGelu { depth })
                .ok_or_else(|| ProjectorError::UnknownKind(name.to_owned())),
        }
    }
}

impl std::fmt::Display for ProjectorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Linear => f.write_str("linear"),
            Self::MlpGelu { depth } => write!(f, "mlp{depth}x_gelu"),
            Self::Identity => f.write_str("identity"),
            Self::Resampler { queries } => write!(f, "resampler of {queries} queries"),
        }
    }
}

/// Settings of [`Projector`](crate::Projector).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectorConfig {
    /// The kind.
    pub kind: ProjectorKind,
    /// Width of the vision tower's features.
    pub mm_hidden_size: usize,
    /// Width of the language model.
    pub hidden_size: usize,
}

impl ProjectorConfig {
    /// A projector between two widths.
    #[must_use]
    pub fn new(kind: ProjectorKind, mm_hidden_size: usize, hidden_size: usize) -> Self {
        Self {
            kind,
            mm_hidden_size,
            hidden_size,
        }
    }

    /// Parameters of the projector.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let (mm, h) = (self.mm_hidden_size, self.hidden_size);
        match self.kind {
            ProjectorKind::Identity => 0,
            ProjectorKind::Linear => mm * h + h,
            ProjectorKind::MlpGelu { depth } => mm * h + h + (depth - 1) * (h * h + h),
            // Queries and positions; the projection of the features; attention; three norms; the last
            // projection.
            ProjectorKind::Resampler { queries } => {
                2 * queries * h + mm * h + 4 * (h * h + h) + 3 * 2 * h + h * h
            }
        }
    }

    /// Parameters that are never trained: a resampler's positions, its last norm and its last projection.
    #[must_use]
    pub fn num_fixed_parameters(&self) -> usize {
        match self.kind {
            ProjectorKind::Resampler { queries } => {
                let h = self.hidden_size;
                queries * h + 2 * h + h * h
            }
            _ => 0,
        }
    }

    /// Checks values from a file or a user.
    ///
    /// # Errors
    /// A width is 0, or the widths of [`ProjectorKind::Identity`] differ.
    pub fn validate(&self) -> Result<(), ProjectorError> {
        let wrong = |expected| {
            Err(ProjectorError::Width {
                kind: self.kind,
                mm_hidden_size: self.mm_hidden_size,
                hidden_size: self.hidden_size,
                expected,
            })
        };
        if self.mm_hidden_size == 0 || self.hidden_size == 0 {
            return wrong("both at least 1");
        }
        if self.kind == ProjectorKind::Identity && self.mm_hidden_size != self.hidden_size {
            return wrong("equal widths");
        }
        if let ProjectorKind::Resampler { queries } = self.kind {
            if !self.hidden_size.is_multiple_of(RESAMPLER_HEAD_DIM) {
                return wrong("a multiple of 128 for the language model");
            }
            if queries == 0 || queries.isqrt().pow(2) != queries {
                return wrong("a square number of queries");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resampler_of_qwen_vl_has_the_published_number_of_parameters() {
        let config = ProjectorConfig::new(ProjectorKind::Resampler { queries: 256 }, 1664, 4096);
        assert_eq!(config.num_parameters(), 92_839_936);
        assert!(config.validate().is_ok());
        for (queries, hidden) in [(255, 4096), (0, 4096), (256, 4000)] {
            let config = ProjectorConfig::new(ProjectorKind::Resampler { queries }, 1664, hidden);
            assert!(config.validate().is_err(), "{queries} {hidden}");
        }
    }

    #[test]
    fn names_lead_to_kinds_and_back() {
        for name in [
            "linear",
            "identity",
            "mlp1x_gelu",
            "mlp2x_gelu",
            "mlp3x_gelu",
        ] {
            assert_eq!(name.parse::<ProjectorKind>().unwrap().to_string(), name);
        }
        for name in [
            "mlp0x_gelu",
            "mlp17x_gelu",
            "mlpx_gelu",
            "mlp2x",
            "resampler",
        ] {
            assert!(name.parse::<ProjectorKind>().is_err(), "{name}");
        }
    }
}
