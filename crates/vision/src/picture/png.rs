//! PNG: the first picture of a file.

use std::io::{Cursor, ErrorKind};

use flate2::Crc;
use png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Reader, Transformations,
};

use super::rows::{Palette, Rows, area, clamped, gray, leading, unpacked};
use crate::{ImageLimits, fault::Fault};

/// A PNG, read row by row.
pub(crate) struct Png<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    palette: Option<Palette>,
    interlaced: bool,
    /// The whole picture, once a row of an interlaced one has been read.
    whole: Vec<u8>,
    y: usize,
    memory: u64,
    width: u32,
    height: u32,
    depth: BitDepth,
    color: ColorType,
}

impl<'a> Png<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        let most = usize::try_from(limits.max_alloc).unwrap_or(usize::MAX);
        check_sums(bytes)?;
        // As in Pillow: the checksum of the pixels is checked, those of their chunks are not.
        let mut options = DecodeOptions::default();
        options.set_ignore_adler32(false);
        options.set_ignore_crc(true);
        let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
        decoder.set_limits(Limits { bytes: most });
        // They are not used, and may be decompression bombs.
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::IDENTITY);
        let header = decoder.read_header_info().map_err(fault)?;
        let (width, height) = header.size();
        limits.check(width, height)?;
        let reader = decoder.read_info().map_err(fault)?;
        let info = reader.info();
        let (depth, color) = (info.bit_depth, info.color_type);
        let line = info.raw_row_length() as u64;
        let palette = (color == ColorType::Indexed).then(|| {
            let colors = info.palette.as_deref().unwrap_or_default();
            Palette::new(colors.as_chunks().0.iter().copied())
        });
        // Two rows for filtering, and the decompressor's window.
        let mut memory = line * 2 + (128 << 10);
        let interlaced = info.interlaced;
        if interlaced {
            memory += area(1, height, line);
        }
        limits.afford(bytes.len() as u64 + memory)?;
        Ok(Self {
            reader,
            palette,
            interlaced,
            whole: Vec::new(),
            y: 0,
            memory,
            width,
            height,
            depth,
            color,
        })
    }
}

impl Rows for Png<'_> {
    fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        let pixels = if self.interlaced {
            if self.whole.is_empty() {
                let length = self.reader.output_buffer_size().ok_or(Fault::Truncated)?;
                self.whole = vec![0; length];
                self.reader.next_frame(&mut self.whole).map_err(fault)?;
            }
            let line = self.whole.len() / self.height as usize;
            &self.whole[self.y * line..][..line]
        } else {
            let next = self.reader.next_row().map_err(fault)?;
            next.ok_or(Fault::Truncated)?.data()
        };
        self.y += 1;
        let bits = self.depth as u32;
        match (self.color, self.depth) {
            (ColorType::Indexed, _) => {
                let palette = self.palette.as_ref().ok_or(Fault::Truncated)?;
                palette.colors(unpacked(pixels, bits), row);
            }
            (ColorType::Grayscale, BitDepth::Sixteen) => {
                let levels = pixels.as_chunks().0.iter();
                clamped(levels.map(|&level| u16::from_be_bytes(level)), row);
            }
            (ColorType::Grayscale, _) => {
                let scale = 255 / ((1_u16 << bits) - 1) as u8;
                gray(unpacked(pixels, bits).map(|level| level * scale), row);
            }
            (ColorType::GrayscaleAlpha, _) => {
                gray(pixels.iter().step_by(bits as usize / 4).copied(), row);
            }
            // Pillow truncates 16-bit colour to its high byte.
            (ColorType::Rgb | ColorType::Rgba, BitDepth::Sixteen) => {
                let channels = self.color.samples();
                for (pixel, from) in row
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .zip(pixels.chunks_exact(channels * 2))
                {
                    *pixel = [from[0], from[2], from[4]];
                }
            }
            (ColorType::Rgb | ColorType::Rgba, _) => leading(pixels, self.color.samples(), row),
        }
        Ok(())
    }
}

/// Checks the checksums of the chunks before the pixels.
fn check_sums(bytes: &[u8]) -> Result<(), Fault> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    loop {
        let (head, data) = rest.split_at_checked(8).ok_or(Fault::Truncated)?;
        let length = head
            .first_chunk()
            .map_or(0, |four| u32::from_be_bytes(*four)) as usize;
        let kind = &head[4..];
        if kind == b"IDAT" {
            return Ok(());
        }
        let (chunk, behind) = data.split_at_checked(length).ok_or(Fault::Truncated)?;
        let stored = behind.first_chunk().ok_or(Fault::Truncated)?;
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(chunk);
        if sum.sum() != u32::from_be_bytes(*stored) {
            let kind = kind.escape_ascii();
            return Err(Fault::Broken(format!(
                "the checksum of its {kind} part is wrong"
            )));
        }
        rest = &behind[4..];
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
