//! Errors of pictures and of vision configs.

use std::path::PathBuf;

use crate::PictureFormat;

/// A picture or an image processor config that cannot be used.
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
    /// The path is a pipe, a device or a folder.
    #[error("cannot read picture {path}: it is {found}, expected a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file is not a picture.
    #[error("{name} is not a picture, but {found} (BMP, GIF, JPEG, PNG, TIFF and WebP are read)")]
    NotAPicture {
        /// The file, or the caller's name of it.
        name: String,
        /// What it is, and what to do if that is known.
        found: &'static str,
    },
    /// The picture is of an unsupported kind.
    #[error("picture {name} is {found}, which is not read; convert it, for example to PNG")]
    Unsupported {
        /// The file, or the caller's name of it.
        name: String,
        /// Its kind.
        found: String,
    },
    /// The picture is damaged.
    #[error("cannot decode picture {name} as {format}: {reason}; copy or convert the file again")]
    Decode {
        /// The file, or the caller's name of it.
        name: String,
        /// Its format.
        format: PictureFormat,
        /// The decoder's message.
        reason: String,
    },
    /// The data end before the last pixel.
    #[error(
        "picture {name} is cut off: its {bytes} bytes end before its last pixel; copy the file again"
    )]
    Truncated {
        /// The file, or the caller's name of it.
        name: String,
        /// Size of the file in bytes.
        bytes: usize,
    },
    /// The picture has more pixels than allowed.
    #[error(
        "picture {name} has {width}x{height} pixels, more than the limit of {limit}; scale it down or raise the limit"
    )]
    TooLarge {
        /// The file, or the caller's name of it.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Maximum number of pixels.
        limit: u64,
    },
    /// A side of the picture is longer than allowed.
    #[error(
        "picture {name} has {width}x{height} pixels, its longer side more than the limit of {limit}; scale it down, cut it \
         into pieces or raise the limit"
    )]
    TooLong {
        /// The file, or the caller's name of it.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Maximum length of a side in pixels.
        limit: u32,
    },
    /// Decoding would take more memory than allowed.
    #[error(
        "picture {name} needs {needed} bytes of memory, more than the limit of {limit}; scale it down or raise the limit"
    )]
    Memory {
        /// The file, or the caller's name of it.
        name: String,
        /// Bytes that the decoder takes, and the whole picture if it is needed.
        needed: u64,
        /// Maximum number of bytes.
        limit: u64,
    },
    /// The picture has no pixels.
    #[error("picture {name} has {width}x{height} pixels, expected at least 1x1")]
    Empty {
        /// The file, or the caller's name of it.
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

/// An invalid vision config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VisionConfigError {
    /// A size is 0 or does not divide another.
    #[error("vision config: {field} is {found}, expected {expected}")]
    Size {
        /// The field.
        field: &'static str,
        /// Its value.
        found: usize,
        /// The requirement.
        expected: String,
    },
    /// The selected layer does not exist.
    #[error("vision config: select_layer is {found}, expected one of the {states} hidden states")]
    SelectLayer {
        /// The value.
        found: i64,
        /// Number of hidden states (`num_hidden_layers + 1`).
        states: usize,
    },
    /// A name is unknown.
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
