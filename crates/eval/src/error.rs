//! What can go wrong with an evaluation.

use std::path::PathBuf;

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

/// Files that cannot be scored.
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
    /// A file that is no list of predictions.
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
    /// Predictions that cannot be scored as they are.
    #[error("{path}: {} of its predictions cannot be scored; mend them, or exclude them by name:{}", exclusions.len(), list(exclusions))]
    Unscorable {
        /// The file, or the system.
        path: String,
        /// Each with its cause.
        exclusions: Vec<Exclusion>,
    },
    /// Nothing is left to score.
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
    /// A line that is not WordNet's.
    #[error(
        "{path}, line {line}: not a line of WordNet's database; expected the `dict` folder of WordNet 3.0"
    )]
    WordNet {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
}
