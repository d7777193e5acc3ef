//! WebP: the first picture of a file.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::rows::{Rows, area, leading};
use crate::{ImageLimits, fault::Fault};

/// A WebP, read row by row.
pub(crate) struct WebP<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    /// Empty before the first row.
    pixels: Vec<u8>,
    channels: usize,
    at: usize,
    memory: u64,
}

impl<'a> WebP<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        // The decoder accepts truncated pictures; libwebp, which Pillow uses, does not.
        let said = bytes.get(4..8).and_then(|four| four.first_chunk());
        let said = said.copied().map_or(u32::MAX, u32::from_le_bytes);
        if bytes.len() as u64 - 8 < u64::from(said) {
            return Err(Fault::Truncated);
        }
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
        let (width, height) = decoder.dimensions();
        limits.check(width, height)?;
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let bytes_per_pixel = if decoder.is_animated() {
            // The canvas, the frame, and its planes or a copy of it.
            12
        } else if decoder.is_lossy() && !decoder.has_alpha() {
            // Planes of luma and subsampled chroma, and the pixels.
            5
        } else {
            8
        };
        let memory = area(width, height, bytes_per_pixel);
        limits.afford(bytes.len() as u64 + memory)?;
        decoder.set_memory_limit(usize::try_from(limits.max_alloc).unwrap_or(usize::MAX));
        Ok(Self {
            decoder,
            pixels: Vec::new(),
            channels,
            at: 0,
            memory,
        })
    }
}

impl Rows for WebP<'_> {
    fn size(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        if self.pixels.is_empty() {
            let length = self.decoder.output_buffer_size().ok_or(Fault::Truncated)?;
            self.pixels = vec![0; length];
            self.decoder.read_image(&mut self.pixels).map_err(fault)?;
        }
        let line = self.decoder.dimensions().0 as usize * self.channels;
        leading(&self.pixels[self.at..][..line], self.channels, row);
        self.at += line;
        Ok(())
    }
}

fn fault(error: DecodingError) -> Fault {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Fault::Truncated
        }
        error => Fault::broken(error),
    }
}
