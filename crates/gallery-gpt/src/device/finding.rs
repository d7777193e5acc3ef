//! What was found of one requirement of a device.

use std::fmt;

/// The finding of one requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The requirement.
    pub what: &'static str,
    /// What was found, and what to do if something is missing.
    pub found: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdict of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Met.
    Fine,
    /// Not met, but a slower fallback works.
    FallsBack,
    /// Not met: the device cannot be used.
    Missing,
}

impl Finding {
    pub(super) fn fine(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, found, Verdict::Fine)
    }

    pub(super) fn falls_back(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, found, Verdict::FallsBack)
    }

    #[cfg_attr(
        feature = "cuda-no-fusion",
        allow(dead_code, reason = "of builds without GPUs")
    )]
    pub(super) fn missing(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, found, Verdict::Missing)
    }

    fn new(what: &'static str, found: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            what,
            found: found.into(),
            verdict,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "fine",
            Self::FallsBack => "falls back",
            Self::Missing => "missing",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:<16} {}", self.verdict, self.what, self.found)
    }
}
