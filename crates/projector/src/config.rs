//! The kind and the widths of a projector.

use std::str::FromStr;

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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
