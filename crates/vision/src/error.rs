//! What can go wrong with a picture or a vision config.

use std::path::PathBuf;

use crate::PictureFormat;

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
    /// The folder could not be listed.
    #[error("cannot list the pictures of {path}: {source}")]
    ReadFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pipe, a device or a folder.
    #[error("cannot read picture {path}: it is {found}, expected a regular file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The bytes are something else than a picture.
    #[error("{name} is no picture, but {found} (BMP, GIF, JPEG, PNG, TIFF and WebP are read)")]
    NotAPicture {
        /// The file, or what the caller calls it.
        name: String,
        /// What it is, and what to do where that is known.
        found: &'static str,
    },
    /// A picture of a kind that is not read.
    #[error("picture {name} is {found}, which is not read; convert it, for example to PNG")]
    Unsupported {
        /// The file, or what the caller calls it.
        name: String,
        /// Its kind.
        found: String,
    },
    /// The bytes begin as a picture, but are not one.
    #[error("cannot decode picture {name} as {format}: {reason}; copy or convert the file again")]
    Decode {
        /// The file, or what the caller calls it.
        name: String,
        /// What it begins as.
        format: PictureFormat,
        /// What the decoder says.
        reason: String,
    },
    /// Data that end before the last pixel.
    #[error(
        "picture {name} is cut off: its {bytes} bytes end before its last pixel; copy the file again"
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
    /// A side of the picture is longer than allowed.
    #[error(
        "picture {name} has {width}x{height} pixels, its longer side more than the limit of {limit}; scale it down, cut it \
         into pieces or raise the limit"
    )]
    TooLong {
        /// The file, or what the caller calls it.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Most pixels of the longer side.
        limit: u32,
    },
    /// The picture takes more memory than allowed.
    #[error(
        "picture {name} needs {needed} bytes of memory, more than the limit of {limit}; scale it down or raise the limit"
    )]
    Memory {
        /// The file, or what the caller calls it.
        name: String,
        /// Bytes that its decoder, and the picture where it is wanted as a whole, take.
        needed: u64,
        /// Most bytes allowed.
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
