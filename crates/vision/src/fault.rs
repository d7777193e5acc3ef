//! Errors of decoders, which do not know the name of the file.

use crate::{ImageError, PictureFormat};

/// Why a picture cannot be decoded, without its name.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The data end before the last pixel.
    Truncated,
    /// The decoder's message.
    Broken(String),
    /// An unsupported kind of the format.
    Unsupported(String),
    Empty {
        width: u32,
        height: u32,
    },
    TooLarge {
        width: u32,
        height: u32,
        limit: u64,
    },
    TooLong {
        width: u32,
        height: u32,
        limit: u32,
    },
    Memory {
        needed: u64,
        limit: u64,
    },
}

impl Fault {
    /// Wraps a decoder's error.
    pub(crate) fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }

    /// The error that names the picture, its format and its size in bytes.
    pub(crate) fn named(self, name: &str, format: PictureFormat, bytes: usize) -> ImageError {
        let name = name.to_owned();
        match self {
            Self::Truncated => ImageError::Truncated { name, bytes },
            Self::Broken(reason) => ImageError::Decode {
                name,
                format,
                reason,
            },
            Self::Unsupported(found) => ImageError::Unsupported { name, found },
            Self::Empty { width, height } => ImageError::Empty {
                name,
                width,
                height,
            },
            Self::TooLarge {
                width,
                height,
                limit,
            } => ImageError::TooLarge {
                name,
                width,
                height,
                limit,
            },
            Self::TooLong {
                width,
                height,
                limit,
            } => ImageError::TooLong {
                name,
                width,
                height,
                limit,
            },
            Self::Memory { needed, limit } => ImageError::Memory {
                name,
                needed,
                limit,
            },
        }
    }
}
