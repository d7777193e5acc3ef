//! WebP: the first picture of the file.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Fault,
    rows::{Rows, area, leading},
};
use crate::ImageLimits;

/// A decoded WebP.
pub(crate) struct WebP {
    pixels: Vec<u8>,
    channels: usize,
    at: usize,
    size: (u32, u32),
    memory: u64,
}

impl WebP {
    pub(crate) fn open(bytes: &[u8], limits: &ImageLimits) -> Result<Self, Fault> {
        // The decoder makes do with half a picture; libwebp, which Pillow reads with, does not.
        let said = bytes.get(4..8).and_then(|four| four.first_chunk());
        let said = said.copied().map_or(u32::MAX, u32::from_le_bytes);
        if bytes.len() as u64 - 8 < u64::from(said) {
            return Err(Fault::Truncated);
        }
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
        let (width, height) = decoder.dimensions();
        limits.check(width, height)?;
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        // The pixels twice, as planes or with alpha, and a third time for the canvas of a moving picture.
        let copies = if decoder.is_animated() { 3 } else { 2 };
        let memory = area(width, height, 4 * copies);
        limits.afford(bytes.len() as u64 + memory)?;
        decoder.set_memory_limit(usize::try_from(limits.max_alloc).unwrap_or(usize::MAX));
        let length = decoder.output_buffer_size().ok_or(Fault::Truncated)?;
        let mut pixels = vec![0; length];
        decoder.read_image(&mut pixels).map_err(fault)?;
        Ok(Self {
            pixels,
            channels,
            at: 0,
            size: (width, height),
            memory,
        })
    }
}

impl Rows for WebP {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        let line = self.size.0 as usize * self.channels;
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
