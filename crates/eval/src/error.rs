//! What can go wrong with an evaluation.

use std::path::PathBuf;

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
