//! Errors of an evaluation.

use std::path::{Path, PathBuf};

use crate::Exclusion;

fn list(exclusions: &[Exclusion]) -> String {
    const SHOWN: usize = 20;
    let shown = exclusions.iter().take(SHOWN);
    let mut text: String = shown.map(|exclusion| format!("\n  {exclusion}")).collect();
    if exclusions.len() > SHOWN {
        text.push_str(&format!("\n  ... and {} more", exclusions.len() - SHOWN));
    }
    text
}

/// An evaluation that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a list of predictions.
    #[error("{path}, {place}: expected {expected}, found {found}")]
    Predictions {
        /// The file.
        path: PathBuf,
        /// Line or record.
        place: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// Some predictions cannot be scored.
    #[error("{path}: {} of its predictions cannot be scored; correct or exclude them:{}", exclusions.len(), list(exclusions))]
    Unscorable {
        /// The file, or the system.
        path: String,
        /// Each prediction with the cause.
        exclusions: Vec<Exclusion>,
    },
    /// No prediction can be scored.
    #[error(
        "{path}: no painting of the test set has a prediction that can be scored; its names begin {}, the test set's {}",
        names.join(", "), paintings.join(", ")
    )]
    Nothing {
        /// The file, or the system.
        path: String,
        /// The first names of the predictions.
        names: Vec<String>,
        /// The first names of the test set.
        paintings: Vec<String>,
    },
    /// A line of a WordNet file is malformed.
    #[error(
        "{path}, line {line}: not a line of WordNet's database; expected the `dict` folder of WordNet 3.0"
    )]
    WordNet {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Makes the error of a path that cannot be read.
pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> EvalError + Copy + '_ {
    |source| EvalError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Makes the error of a path that cannot be written.
pub(crate) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> EvalError + Copy + '_ {
    |source| EvalError::Write {
        path: path.to_owned(),
        source,
    }
}
