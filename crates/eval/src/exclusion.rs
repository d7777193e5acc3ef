//! Predictions that are not scored, and why.

/// Maximum size of a scored text in bytes: a hundred times an analysis of 200 words.
pub const MAX_PREDICTION_BYTES: usize = 128 * 1024;

/// A prediction that is not scored, or a painting without a prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The painting's name.
    pub name: String,
    /// Why.
    pub cause: ExclusionCause,
}

/// Why a prediction is not scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExclusionCause {
    /// The painting has no prediction.
    Missing,
    /// The text is empty or blank.
    Empty,
    /// The painting has two predictions.
    Repeated,
    /// The test set has no such painting.
    Unknown,
    /// The text is longer than [`MAX_PREDICTION_BYTES`].
    TooLong {
        /// Its size in bytes.
        bytes: usize,
    },
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.cause {
            ExclusionCause::Missing => write!(f, "no prediction"),
            ExclusionCause::Empty => write!(f, "an empty prediction"),
            ExclusionCause::Repeated => write!(f, "a second prediction"),
            ExclusionCause::Unknown => write!(f, "the test set has no such painting"),
            ExclusionCause::TooLong { bytes } => {
                write!(
                    f,
                    "a prediction of {bytes} bytes, more than {MAX_PREDICTION_BYTES}"
                )
            }
        }
    }
}
