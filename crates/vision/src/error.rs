//! What can go wrong with a picture or a vision config.

use std::path::PathBuf;

/// A picture, or a processor config, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened or read.
    #[error("cannot read picture {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are not a picture, or only half of one.
    #[error("cannot decode picture {name}: {source}")]
    Decode {
        /// The file, or what the caller calls it.
        name: String,
        /// Why.
        source: image::ImageError,
    },
    /// A JPEG without its end.
    #[error(
        "picture {name} is cut off: its {bytes} bytes have no end-of-image mark; copy the file again"
    )]
    Truncated {
        /// The file, or what the caller calls it.
        name: String,
        /// Bytes there are.
        bytes: usize,
    },
    /// The picture is larger than allowed.
    #[error(
        "picture {name} has {width}x{height} pixels, more than the limit of {limit}; scale it down or raise the limit"
    )]
    TooLarge {
        /// The file, or what the caller calls it.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Most pixels allowed.
        limit: u64,
    },
    /// The picture has no pixels.
    #[error("picture {name} has {width}x{height} pixels, expected at least 1x1")]
    Empty {
        /// The file, or what the caller calls it.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// `preprocessor_config.json` cannot be used.
    #[error("cannot use {path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A vision config whose numbers do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VisionConfigError {
    /// A size that is zero or does not divide another.
    #[error("vision config: {field} is {found}, expected {expected}")]
    Size {
        /// The field.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What it has to be.
        expected: String,
    },
    /// A layer that does not exist.
    #[error("vision config: select_layer is {found}, expected one of the {states} hidden states")]
    SelectLayer {
        /// The value.
        found: i64,
        /// Number of hidden states (`num_hidden_layers + 1`).
        states: usize,
    },
    /// A name nobody knows.
    #[error("vision config: unknown {field} `{found}`, expected {expected}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The value.
        found: String,
        /// Known values.
        expected: &'static str,
    },
}
