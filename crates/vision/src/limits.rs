//! Limits of picture files.

use crate::fault::Fault;

/// Limits of picture files, checked before decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Maximum number of pixels. The default is where Pillow raises `DecompressionBombError`.
    pub max_pixels: u64,
    /// Maximum length of a side in pixels, as pictures are padded to a square. The default is the
    /// longest side a JPEG can have.
    pub max_side: u32,
    /// Maximum memory in bytes: the file, the decoder's state, and the whole picture if it is
    /// needed.
    pub max_alloc: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_pixels: 178_956_970,
            max_side: 65_535,
            max_alloc: 2 << 30,
        }
    }
}

impl ImageLimits {
    /// Limits for untrusted pictures, as a server gets them: 50 million pixels, which covers
    /// cameras, and 64 MiB.
    #[must_use]
    pub fn small() -> Self {
        Self {
            max_pixels: 50_000_000,
            max_alloc: 64 << 20,
            ..Self::default()
        }
    }

    /// Rejects a picture by its size.
    pub(crate) fn check(&self, width: u32, height: u32) -> Result<(), Fault> {
        if width == 0 || height == 0 {
            return Err(Fault::Empty { width, height });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            let limit = self.max_pixels;
            return Err(Fault::TooLarge {
                width,
                height,
                limit,
            });
        }
        if width.max(height) > self.max_side {
            let limit = self.max_side;
            return Err(Fault::TooLong {
                width,
                height,
                limit,
            });
        }
        Ok(())
    }

    /// Rejects a picture by its memory.
    pub(crate) fn afford(&self, needed: u64) -> Result<(), Fault> {
        if needed > self.max_alloc {
            let limit = self.max_alloc;
            return Err(Fault::Memory { needed, limit });
        }
        Ok(())
    }
}
