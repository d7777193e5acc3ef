//! TIFF: the first page, in the pixel formats that Pillow supports (`OPEN_INFO` of its
//! `TiffImagePlugin`).

mod compression;
mod directory;

use compression::Compression;
pub(super) use directory::Directory;
use directory::*;

use super::rows::{Palette, Rows, clamped, cmyk, gray, leading, unpacked};
use crate::{ImageLimits, fault::Fault};

/// The beginnings of a TIFF; those of the second line are malformed, but Pillow accepts them.
pub(super) const PREFIXES: [&[u8]; 6] = [
    b"II\x2a\0",
    b"MM\0\x2a",
    b"II\x2b\0",
    b"MM\0\x2b", //
    b"MM\x2a\0",
    b"II\0\x2a",
];

/// How the samples of a pixel become RGB.
enum Mode {
    /// Levels of at most 8 bits, the first sample of each pixel.
    Gray {
        inverted: bool,
    },
    /// Unsigned 16 bits, clamped.
    Deep,
    /// Signed integers of 16 or 32 bits, clamped.
    Signed {
        bytes: usize,
    },
    /// 32-bit floats, clamped.
    Float,
    Palette(Box<Palette>),
    /// The first three samples, or their high bytes.
    Rgb,
    /// As `Rgb`, premultiplied with the fourth sample.
    Premultiplied,
    Cmyk,
}

/// A TIFF, read row by row.
pub(crate) struct Tiff<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    limits: ImageLimits,
    size: (u32, u32),
    mode: Mode,
    compression: Compression,
    predictor: bool,
    reversed: bool,
    jpeg_tables: Option<&'a [u8]>,
    jpeg_to_rgb: bool,
    bits: usize,
    /// Samples per pixel of a plane, and number of planes.
    samples: usize,
    planes: usize,
    /// Width and length of a strip or tile.
    chunk: [usize; 2],
    chunks: Vec<(u64, u64)>,
    tiled: bool,
    /// Decompressed rows of each plane, one plane after the other, and the first of them.
    band: Vec<u8>,
    chunk_bytes: Vec<u8>,
    band_start: usize,
    y: usize,
    pixels: Vec<u8>,
}

impl<'a> Tiff<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        let tags = Directory::read(bytes)?;
        let dimension = |tag| {
            let found = tags.first(tag).ok_or(Fault::Truncated)?;
            Ok::<_, Fault>(u32::try_from(found).unwrap_or(u32::MAX))
        };
        let size = (dimension(WIDTH)?, dimension(LENGTH)?);
        limits.check(size.0, size.1)?;
        let (width, height) = (size.0 as usize, size.1 as usize);
        let compression = Compression::new(tags.first_or(COMPRESSION, 1))?;
        let layout = Layout::of(&tags, compression)?;
        let tiled = tags.first(STRIP_OFFSETS).is_none();
        let chunk = if tiled {
            let side = |tag| tags.first_or(tag, 0).min(1 << 20) as usize;
            [side(TILE_WIDTH), side(TILE_LENGTH)]
        } else {
            let rows = tags.first_or(ROWS_PER_STRIP, u64::MAX).max(1);
            [width, rows.min(u64::from(size.1)) as usize]
        };
        if chunk.contains(&0) {
            return Err(Fault::Broken("tiles without a size".to_owned()));
        }
        if tiled && !(chunk[0] * layout.bits * layout.samples).is_multiple_of(8) {
            return Err(Fault::Broken(
                "tiles whose rows are no whole bytes".to_owned(),
            ));
        }
        let across = width.div_ceil(chunk[0]);
        let count = across * height.div_ceil(chunk[1]) * layout.planes;
        let (offsets, lengths) = match tiled {
            true => (TILE_OFFSETS, TILE_BYTES),
            false => (STRIP_OFFSETS, STRIP_BYTES),
        };
        let offsets = tags.numbers(offsets).ok_or(Fault::Truncated)?;
        if offsets.len() < count {
            return Err(Fault::Truncated);
        }
        limits.afford((bytes.len() + count * size_of::<(u64, u64)>()) as u64)?;
        let chunks: Vec<(u64, u64)> = match tags.numbers(lengths) {
            Some(lengths) if lengths.len() >= count => offsets.zip(lengths).take(count).collect(),
            // To the end of the file.
            _ if count == 1 || compression == Compression::Raw => offsets
                .take(count)
                .map(|offset| (offset, u64::MAX))
                .collect(),
            _ => return Err(Fault::Truncated),
        };
        // Overlapping parts would make a small file expensive.
        let stored = chunks.iter().map(|&(_, length)| length);
        let stored = stored.fold(0, u64::saturating_add);
        if count > 1 && compression != Compression::Raw && stored > bytes.len() as u64 {
            return Err(Fault::Broken(format!(
                "its {count} parts have {stored} bytes, more than the file"
            )));
        }
        let jpeg_tables = tags.bytes(JPEG_TABLES);
        if jpeg_tables.is_some_and(|tables| tables.len() > 1 << 16) {
            return Err(Fault::Broken("JPEG tables of more than 64 KiB".to_owned()));
        }
        let row_bytes = (chunk[0] * layout.bits * layout.samples).div_ceil(8);
        let chunk_bytes = row_bytes * chunk[1];
        let band = chunk_bytes * across * layout.planes;
        limits.afford((bytes.len() + band + chunk_bytes) as u64)?;
        Ok(Self {
            bytes,
            big_endian: tags.big_endian,
            limits: *limits,
            size,
            mode: layout.mode,
            compression,
            predictor: layout.predictor,
            reversed: tags.first_or(FILL_ORDER, 1) == 2,
            jpeg_tables,
            jpeg_to_rgb: layout.jpeg_to_rgb,
            bits: layout.bits,
            samples: layout.samples,
            planes: layout.planes,
            chunk,
            chunks,
            tiled,
            band: vec![0; band],
            chunk_bytes: vec![0; chunk_bytes],
            band_start: usize::MAX,
            y: 0,
            pixels: Vec::new(),
        })
    }

    /// Size in bytes of a row of a strip or tile.
    fn row_bytes(&self) -> usize {
        (self.chunk[0] * self.bits * self.samples).div_ceil(8)
    }

    /// Decompresses the strips or tiles that start at a row.
    fn unpack(&mut self, start: usize) -> Result<(), Fault> {
        let [chunk_width, chunk_length] = self.chunk;
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let across = width.div_ceil(chunk_width);
        let down = height.div_ceil(chunk_length);
        let row_bytes = self.row_bytes();
        // The last strip has the remaining rows, a tile always has all.
        let rows = match self.tiled {
            true => chunk_length,
            false => chunk_length.min(height - start),
        };
        for plane in 0..self.planes {
            for column in 0..across {
                let index = (plane * down + start / chunk_length) * across + column;
                let mut unpacked = std::mem::take(&mut self.chunk_bytes);
                let done = self.unpack_chunk(index, rows, &mut unpacked[..rows * row_bytes]);
                self.chunk_bytes = unpacked;
                done?;
                let band_row = row_bytes * across;
                let from = plane * chunk_length * band_row + column * row_bytes;
                let rows = self.chunk_bytes.chunks_exact(row_bytes).take(rows);
                for (row, to) in rows.zip(self.band[from..].chunks_mut(band_row)) {
                    to[..row_bytes].copy_from_slice(row);
                }
            }
        }
        self.band_start = start;
        Ok(())
    }

    fn unpack_chunk(&self, index: usize, rows: usize, out: &mut [u8]) -> Result<(), Fault> {
        let (offset, length) = self.chunks[index];
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let stored = self.bytes.get(from..).ok_or(Fault::Truncated)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let stored = match self.compression {
            // Pillow ignores the lengths of uncompressed data.
            Compression::Raw => &stored[..out.len().min(stored.len())],
            // Without lengths: to the end of the file.
            _ if length == usize::MAX => stored,
            _ => stored.get(..length).ok_or(Fault::Truncated)?,
        };
        let turned: Vec<u8>;
        let stored = match self.reversed {
            true => {
                turned = stored.iter().map(|byte| byte.reverse_bits()).collect();
                &turned
            }
            false => stored,
        };
        match self.compression {
            Compression::Jpeg => compression::jpeg(
                stored,
                self.jpeg_tables,
                self.jpeg_to_rgb,
                [self.chunk[0], rows, self.samples],
                &self.limits,
                out,
            )?,
            Compression::Fax4 => compression::fax4(stored, self.chunk[0], rows, out)?,
            other => compression::decompress(other, stored, out)?,
        }
        if self.predictor {
            for row in out.chunks_exact_mut(self.row_bytes()) {
                undo_differences(row, self.bits / 8, self.samples, self.big_endian);
            }
        }
        Ok(())
    }

    /// The high byte of a sample of 8 or 16 bits.
    fn high_byte(&self) -> usize {
        match self.big_endian || self.bits == 8 {
            true => 0,
            false => 1,
        }
    }
}

/// Undoes horizontal differencing: adds the sample of the previous pixel to each sample.
fn undo_differences(row: &mut [u8], bytes: usize, samples: usize, big_endian: bool) {
    let step = bytes * samples;
    for at in (step..row.len().saturating_sub(bytes - 1)).step_by(bytes) {
        let mut carry = 0;
        for nth in 0..bytes {
            // From the lowest byte up.
            let nth = if big_endian { bytes - 1 - nth } else { nth };
            let sum = u16::from(row[at + nth]) + u16::from(row[at + nth - step]) + carry;
            row[at + nth] = sum as u8;
            carry = sum >> 8;
        }
    }
}

/// The layout of the pixels.
struct Layout {
    mode: Mode,
    bits: usize,
    samples: usize,
    planes: usize,
    predictor: bool,
    jpeg_to_rgb: bool,
}

impl Layout {
    fn of(tags: &Directory<'_>, compression: Compression) -> Result<Self, Fault> {
        let photometric = tags.first_or(PHOTOMETRIC, 0);
        let samples = tags.first_or(SAMPLES, 1);
        let mut bits: Vec<u64> = tags
            .numbers(BITS)
            .map_or(vec![1], |bits| bits.take(8).collect());
        let extra: Vec<u64> = tags
            .numbers(EXTRA_SAMPLES)
            .map_or(vec![], |extra| extra.take(8).collect());
        if bits.len() == 1 {
            bits.resize(samples.min(8) as usize, bits[0]);
        }
        bits.truncate(samples.min(8) as usize);
        let format = tags.first_or(SAMPLE_FORMAT, 1);
        let little = !tags.big_endian;
        let unsupported = || {
            Fault::Unsupported(format!(
                "a TIFF of photometric interpretation {photometric}, {samples} samples of {bits:?} bits, \
                 extra samples {extra:?}, sample format {format}"
            ))
        };
        let one = |tags: &[u64]| tags.first().copied();
        let depth = one(&bits).ok_or_else(unsupported)?;
        if bits.len() as u64 != samples || bits.iter().any(|&bits| bits != depth) {
            return Err(unsupported());
        }
        let jpeg = compression == Compression::Jpeg;
        let planar = tags.first_or(PLANAR, 1) == 2 && samples > 1;
        // Extra samples that Pillow drops.
        let plain_extra = extra.iter().skip(1).all(|&kind| kind == 0);
        let mode = match (photometric, format, samples, depth) {
            (0 | 1, 1, 1, 1 | 2 | 4 | 8) | (1, 2, 1, 8) => Mode::Gray {
                inverted: photometric == 0,
            },
            (6, 1, 1, 8) => Mode::Gray { inverted: false },
            (1, 1, 2, 8) if matches!(extra[..], [0 | 2]) => Mode::Gray { inverted: false },
            (0, 1, 1, 16) if little => Mode::Deep,
            (1, 1, 1, 16) => Mode::Deep,
            (1, 2, 1, 16) => Mode::Signed { bytes: 2 },
            (1, 1, 1, 32) if little => Mode::Signed { bytes: 4 },
            (1, 2, 1, 32) => Mode::Signed { bytes: 4 },
            (0 | 1, 3, 1, 32) => Mode::Float,
            (2, 1, 3 | 4, 8 | 16) if extra.is_empty() => Mode::Rgb,
            (2, 1, 4..=6, 8 | 16) if extra.len() as u64 == samples - 3 && plain_extra => {
                match extra[0] {
                    0 | 2 | 999 => Mode::Rgb,
                    1 if depth == 8 => Mode::Premultiplied,
                    _ => return Err(unsupported()),
                }
            }
            (3, 1, 1, 1 | 2 | 4 | 8) | (3, 1, 2, 8) => {
                Mode::Palette(Box::new(color_map(tags, depth)?))
            }
            (5, 1, 4..=6, 8 | 16) if extra.iter().all(|&kind| kind == 0) => Mode::Cmyk,
            (6, 1, 3, 8) if jpeg && !planar => Mode::Rgb,
            _ => return Err(unsupported()),
        };
        let predictor = match tags.first_or(PREDICTOR, 1) {
            1 => false,
            // Only these two have a predictor.
            2 if !matches!(compression, Compression::Lzw | Compression::Deflate) => false,
            2 if depth.is_multiple_of(8) => true,
            other => {
                return Err(Fault::Unsupported(format!(
                    "a TIFF of {depth} bits with predictor {other}"
                )));
            }
        };
        if jpeg && depth != 8 || compression == Compression::Fax4 && (depth, samples) != (1, 1) {
            return Err(unsupported());
        }
        Ok(Self {
            mode,
            bits: depth as usize,
            samples: if planar { 1 } else { samples as usize },
            planes: if planar { samples as usize } else { 1 },
            predictor,
            jpeg_to_rgb: photometric == 6,
        })
    }
}

/// The palette: all reds, then greens, then blues, of 16 bits each.
fn color_map(tags: &Directory<'_>, depth: u64) -> Result<Palette, Fault> {
    let levels = tags.numbers(COLOR_MAP).ok_or(Fault::Truncated)?;
    let levels: Vec<u8> = levels
        .take(3 * 256)
        .map(|level| (level >> 8) as u8)
        .collect();
    let count = levels.len() / 3;
    if count > 1 << depth {
        return Err(Fault::Broken(format!("{count} colours of {depth} bits")));
    }
    Ok(Palette::new((0..count).map(|index| {
        [0, 1, 2].map(|channel| levels[channel * count + index])
    })))
}

impl Rows for Tiff<'_> {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn memory(&self) -> u64 {
        (self.band.len() + self.chunk_bytes.len()) as u64
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        let start = self.y - self.y % self.chunk[1];
        if start != self.band_start {
            self.unpack(start)?;
        }
        let across = (self.size.0 as usize).div_ceil(self.chunk[0]);
        let band_row = self.row_bytes() * across;
        let plane = |nth: usize| {
            let at = (nth * self.chunk[1] + self.y - start) * band_row;
            &self.band[at..][..band_row]
        };
        // Pixel by pixel, for any number of planes.
        let mut pixels = std::mem::take(&mut self.pixels);
        pixels.clear();
        if self.planes == 1 {
            pixels.extend_from_slice(plane(0));
        } else {
            let bytes = self.bits.div_ceil(8);
            for at in (0..band_row).step_by(bytes) {
                for nth in 0..self.planes {
                    pixels.extend_from_slice(&plane(nth)[at..][..bytes]);
                }
            }
        }
        self.convert(&pixels, row);
        self.pixels = pixels;
        self.y += 1;
        Ok(())
    }
}

impl Tiff<'_> {
    fn convert(&self, pixels: &[u8], row: &mut [u8]) {
        let samples = self.samples * self.planes;
        let bits = self.bits as u32;
        let high = self.high_byte();
        let sample_bytes = self.bits.div_ceil(8);
        let pixel_bytes = samples * sample_bytes;
        let ink = |pixel: &[u8], at: usize| pixel[at * sample_bytes + high];
        match &self.mode {
            Mode::Gray { inverted } => {
                let scale = 255 / ((1_u16 << bits) - 1) as u8;
                let turn = if *inverted { 255 } else { 0 };
                let levels = unpacked(pixels, bits).step_by(samples);
                gray(levels.map(|level| (level * scale) ^ turn), row);
            }
            Mode::Palette(palette) => {
                palette.colors(unpacked(pixels, bits).step_by(samples), row);
            }
            Mode::Deep => clamped(
                pixels
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&level| match self.big_endian {
                        true => u16::from_be_bytes(level),
                        false => u16::from_le_bytes(level),
                    }),
                row,
            ),
            &Mode::Signed { bytes } => {
                let whole = pixels.chunks_exact(bytes).map(|value| {
                    let mut wide = [0; 4];
                    // Copied to the high bytes, in big-endian order, then shifted back with the
                    // sign.
                    for (at, to) in wide[..bytes].iter_mut().enumerate() {
                        *to = value[if self.big_endian { at } else { bytes - 1 - at }];
                    }
                    i32::from_be_bytes(wide) >> (32 - 8 * bytes)
                });
                gray(whole.map(|value| value.clamp(0, 255) as u8), row);
            }
            Mode::Float => {
                let values = pixels
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&value| match self.big_endian {
                        true => f32::from_be_bytes(value),
                        false => f32::from_le_bytes(value),
                    });
                // Casts truncate fractions and saturate at 0 and 255.
                gray(values.map(|value| value as u8), row);
            }
            Mode::Rgb if self.bits == 8 => leading(pixels, pixel_bytes, row),
            Mode::Rgb => {
                let pixels = pixels.chunks_exact(pixel_bytes);
                for (to, from) in row.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                    *to = std::array::from_fn(|at| ink(from, at));
                }
            }
            Mode::Premultiplied => {
                let pixels = pixels.chunks_exact(pixel_bytes);
                for (to, from) in row.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                    let alpha = u32::from(ink(from, 3));
                    *to = std::array::from_fn(|at| match (u32::from(ink(from, at)), alpha) {
                        (_, 0) => 0,
                        (level, alpha) => (level * 255 / alpha).min(255) as u8,
                    });
                }
            }
            Mode::Cmyk => {
                let pixels = pixels.chunks_exact(pixel_bytes);
                cmyk(
                    pixels.map(|pixel| std::array::from_fn(|at| ink(pixel, at))),
                    row,
                );
            }
        }
    }
}
