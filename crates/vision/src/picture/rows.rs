//! Pictures decoded row by row, and Pillow's conversions to RGB.

use crate::fault::Fault;

/// A picture decoded row by row, from the top.
pub(crate) trait Rows {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Memory of the decoder in bytes.
    fn memory(&self) -> u64 {
        0
    }

    /// Decodes the next row as RGB: `width * 3` levels.
    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault>;

    /// Checks the data after the last row.
    fn finish(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Size of a whole picture in bytes.
pub(crate) fn area(width: u32, height: u32, bytes_per_pixel: u64) -> u64 {
    u64::from(width) * u64::from(height) * bytes_per_pixel
}

/// Grey to RGB.
pub(crate) fn gray(levels: impl IntoIterator<Item = u8>, row: &mut [u8]) {
    for (pixel, level) in row.as_chunks_mut().0.iter_mut().zip(levels) {
        *pixel = [level; 3];
    }
}

/// Mode `I;16` and similar ones to RGB: values over 255 are clamped, not scaled.
pub(crate) fn clamped(levels: impl IntoIterator<Item = u16>, row: &mut [u8]) {
    gray(levels.into_iter().map(|level| level.min(255) as u8), row);
}

/// Pixels of at least three bytes to RGB: further bytes are dropped, as Pillow drops alpha.
pub(crate) fn leading(pixels: &[u8], bytes_per_pixel: usize, row: &mut [u8]) {
    let pixels = pixels.chunks_exact(bytes_per_pixel);
    for (pixel, from) in row.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        pixel.copy_from_slice(&from[..3]);
    }
}

/// Mode `CMYK` to RGB (`cmyk2rgb` of Pillow's `Convert.c`).
pub(crate) fn cmyk(pixels: impl IntoIterator<Item = [u8; 4]>, row: &mut [u8]) {
    for (pixel, [cyan, magenta, yellow, black]) in row.as_chunks_mut().0.iter_mut().zip(pixels) {
        let white = 255 - u32::from(black);
        *pixel = [cyan, magenta, yellow].map(|ink| {
            let product = u32::from(ink) * white + 128;
            white.saturating_sub(((product >> 8) + product) >> 8) as u8
        });
    }
}

/// The palette of mode `P`. Indices beyond it are black.
pub(crate) struct Palette([[u8; 3]; 256]);

impl Palette {
    pub(crate) fn new(colors: impl IntoIterator<Item = [u8; 3]>) -> Self {
        let mut palette = [[0; 3]; 256];
        for (entry, color) in palette.iter_mut().zip(colors) {
            *entry = color;
        }
        Self(palette)
    }

    /// Mode `L`: every index is its own level.
    pub(crate) fn gray() -> Self {
        Self(std::array::from_fn(|level| [level as u8; 3]))
    }

    pub(crate) fn colors(&self, indices: impl IntoIterator<Item = u8>, row: &mut [u8]) {
        for (pixel, index) in row.as_chunks_mut().0.iter_mut().zip(indices) {
            *pixel = self.0[usize::from(index)];
        }
    }
}

/// Unpacks values of 1, 2, 4 or 8 bits, the first in the highest bits of a byte.
pub(crate) fn unpacked(bytes: &[u8], bits: u32) -> impl Iterator<Item = u8> {
    let mask = ((1_u16 << bits) - 1) as u8;
    let each =
        move |&byte: &u8| (0..8 / bits).map(move |nth| (byte >> (8 - bits - bits * nth)) & mask);
    bytes.iter().flat_map(each)
}
