//! What a picture may cost.

use crate::picture::Fault;

/// What a picture file may cost. It is looked at before anything is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Most pixels. The default is where Pillow raises its `DecompressionBombError`.
    pub max_pixels: u64,
    /// Most pixels of the longer side. The default is the longest side a JPEG can have; a picture is padded to a square of
    /// that side.
    pub max_side: u32,
    /// Most bytes of memory: the file, what its decoder has to keep, and the picture where it is wanted as a whole.
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
    /// Limits for pictures from strangers, as a server gets them: 50 million pixels, which a camera's picture has at most,
    /// and 64 MiB.
    #[must_use]
    pub fn small() -> Self {
        Self {
            max_pixels: 50_000_000,
            max_alloc: 64 << 20,
            ..Self::default()
        }
    }

    /// Refuses a picture by its size.
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

    /// Refuses what needs more memory than there may be.
    pub(crate) fn afford(&self, needed: u64) -> Result<(), Fault> {
        if needed > self.max_alloc {
            let limit = self.max_alloc;
            return Err(Fault::Memory { needed, limit });
        }
        Ok(())
    }
}
