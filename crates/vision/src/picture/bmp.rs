//! Windows bitmaps, decoded as by Pillow's `BmpImagePlugin`.

use super::rows::{Palette, Rows, area, unpacked};
use crate::{ImageLimits, fault::Fault};

/// How stored pixels become RGB.
#[derive(Clone, Copy)]
enum Pixel {
    /// Bytes per pixel, and the positions of red, green and blue.
    Bytes(usize, [usize; 3]),
    /// 5 bits each.
    Fives,
    /// 5, 6 and 5 bits.
    FiveSixFive,
}

enum Data<'a> {
    Colors(Pixel, &'a [u8]),
    Indices(u32, Palette, &'a [u8]),
    /// Run-length encoded indices, a byte each after decoding.
    Runs(Palette, Vec<u8>),
}

/// A bitmap, read row by row.
pub(crate) struct Bmp<'a> {
    size: (u32, u32),
    data: Data<'a>,
    /// Bytes of a row of the file.
    line: usize,
    from_top: bool,
    y: usize,
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk());
    four.copied()
        .map(u32::from_le_bytes)
        .ok_or(Fault::Truncated)
}

fn short(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let two = bytes.get(at..at + 2).and_then(|two| two.first_chunk());
    let two = two.copied().map(u16::from_le_bytes);
    two.map(u32::from).ok_or(Fault::Truncated)
}

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BIT_FIELDS: u32 = 3;

impl<'a> Bmp<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        let unsupported = |what: &str, found: u32| {
            Fault::Unsupported(format!("a bitmap whose {what} is {found}"))
        };
        let mut start = number(bytes, 10)? as usize;
        let header_size = number(bytes, 14)?;
        let header = bytes.get(18..14 + header_size as usize);
        let header = header.ok_or(Fault::Truncated)?;
        let mut behind = 14 + header_size as usize;
        let (width, height, bits, compression, colors, entry, from_top) = match header_size {
            12 => (
                short(header, 0)?,
                short(header, 2)?,
                short(header, 6)?,
                RAW,
                0,
                3,
                false,
            ),
            40 | 52 | 56 | 64 | 108 | 124 => {
                let from_top = header[7] == 0xFF;
                let height = number(header, 4)?;
                (
                    number(header, 0)?,
                    if from_top {
                        height.wrapping_neg()
                    } else {
                        height
                    },
                    short(header, 10)?,
                    number(header, 12)?,
                    number(header, 28)?,
                    4,
                    from_top,
                )
            }
            other => return Err(unsupported("header size", other)),
        };
        limits.check(width, height)?;
        let colors = match colors {
            0 if bits <= 8 => 1 << bits,
            colors => colors,
        };
        let line = (width as usize * bits as usize).div_ceil(32) * 4;
        if start == behind && bits <= 8 {
            start += entry * colors as usize;
        }
        let pixel = match (compression, bits) {
            (RAW, 16) => Some(Pixel::Fives),
            (RAW, 24) => Some(Pixel::Bytes(3, [2, 1, 0])),
            (RAW, 32) => Some(Pixel::Bytes(4, [2, 1, 0])),
            (BIT_FIELDS, 16 | 24 | 32) => {
                let masks = if header.len() >= 48 {
                    [
                        number(header, 36)?,
                        number(header, 40)?,
                        number(header, 44)?,
                    ]
                } else {
                    let at = behind;
                    behind += 12;
                    [
                        number(bytes, at)?,
                        number(bytes, at + 4)?,
                        number(bytes, at + 8)?,
                    ]
                };
                let alpha = match header.len() {
                    52.. => number(header, 48)?,
                    _ => 0,
                };
                Some(masked(bits, masks, alpha)?)
            }
            (RAW, 1 | 4 | 8) | (RLE8 | RLE4, 1 | 4 | 8) => None,
            (RAW | RLE8 | RLE4, bits) => return Err(unsupported("number of bits a pixel", bits)),
            (compression, _) => return Err(unsupported("compression", compression)),
        };
        let data = match pixel {
            Some(pixel) => {
                let from = if start == 0 { behind } else { start };
                Data::Colors(pixel, bytes.get(from..).ok_or(Fault::Truncated)?)
            }
            None => {
                let stored = bytes.get(behind..).unwrap_or_default();
                let (palette, used) = palette(stored, entry, colors)?;
                let from = if start == 0 { behind + used } else { start };
                let stored = bytes.get(from..).ok_or(Fault::Truncated)?;
                match compression {
                    RAW => Data::Indices(bits, palette, stored),
                    _ => {
                        limits.afford(bytes.len() as u64 + area(width, height, 1))?;
                        let size = [width as usize, height as usize];
                        let runs = runs(bytes, from, size, compression == RLE4)?;
                        Data::Runs(palette, runs)
                    }
                }
            }
        };
        Ok(Self {
            size: (width, height),
            data,
            line,
            from_top,
            y: 0,
        })
    }
}

/// The bit fields that Pillow supports.
fn masked(bits: u32, masks: [u32; 3], alpha: u32) -> Result<Pixel, Fault> {
    let layout = match (bits, masks, alpha) {
        (16, [0xF800, 0x7E0, 0x1F], _) => Pixel::FiveSixFive,
        (16, [0x7C00, 0x3E0, 0x1F], _) => Pixel::Fives,
        (24, [0xFF_0000, 0xFF00, 0xFF], _) => Pixel::Bytes(3, [2, 1, 0]),
        (32, [0xFF_0000, 0xFF00, 0xFF], 0 | 0xFF00_0000) | (32, [0, 0, 0], 0) => {
            Pixel::Bytes(4, [2, 1, 0])
        }
        (32, [0xFF00_0000, 0xFF_0000, 0xFF00], 0 | 0xFF) => Pixel::Bytes(4, [3, 2, 1]),
        (32, [0xFF00_0000, 0xFF00, 0xFF], 0 | 0xFF_0000) => Pixel::Bytes(4, [3, 1, 0]),
        (32, [0xFF, 0xFF00, 0xFF_0000], 0xFF00_0000) => Pixel::Bytes(4, [0, 1, 2]),
        _ => {
            return Err(Fault::Unsupported(format!(
                "a bitmap of {bits} bits a pixel with bit fields {masks:x?}"
            )));
        }
    };
    Ok(layout)
}

/// The palette, and its size in bytes. Mode `1` or `L` if its colours are the shades of grey in
/// order.
fn palette(stored: &[u8], entry: usize, colors: u32) -> Result<(Palette, usize), Fault> {
    if !(1..=65_536).contains(&colors) {
        return Err(Fault::Unsupported(format!("a bitmap of {colors} colours")));
    }
    let colors = colors as usize;
    let used = (entry * colors).min(stored.len());
    let entries = || {
        let entries = stored[..used]
            .chunks(entry)
            .filter(|entry| entry.len() >= 3);
        entries.map(|entry| [entry[2], entry[1], entry[0]])
    };
    let shade = |nth: usize| match colors {
        2 => nth as u8 * 255,
        _ => nth as u8,
    };
    let gray = colors <= 256
        && entries().count() >= colors
        && entries()
            .enumerate()
            .all(|(nth, color)| color == [shade(nth); 3]);
    let palette = match gray {
        // Mode `1`: all values but 0 are white.
        true if colors <= 2 => Palette::new((0..=255).map(|index: u8| [index.min(1) * 255; 3])),
        true => Palette::gray(),
        false => Palette::new(entries()),
    };
    Ok((palette, used))
}

/// Decodes run-length encoding; skipped pixels have index 0.
fn runs(
    file: &[u8],
    from: usize,
    [width, height]: [usize; 2],
    nibbles: bool,
) -> Result<Vec<u8>, Fault> {
    let length = width * height;
    let mut indices = Vec::new();
    let mut at = from;
    let mut x = 0;
    while indices.len() < length {
        let Some(&[count, value]) = file.get(at..at + 2).and_then(|two| two.first_chunk()) else {
            break;
        };
        at += 2;
        match (usize::from(count), value) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width).min(length), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = file.get(at..at + 2).and_then(|two| two.first_chunk())
                else {
                    break;
                };
                at += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                indices.resize((indices.len() + skipped).min(length), 0);
                x = indices.len() % width;
            }
            (0, stored) => {
                let count = usize::from(stored).min(length - indices.len());
                let bytes = if nibbles { count.div_ceil(2) } else { count };
                let rest = file.get(at..).unwrap_or_default();
                let read = &rest[..bytes.min(rest.len())];
                at += read.len();
                match nibbles {
                    true => indices.extend(unpacked(read, 4).take(count)),
                    false => indices.extend(read),
                }
                if read.len() < bytes || indices.len() == length {
                    break;
                }
                x += usize::from(stored);
                at += at % 2;
            }
            (count, value) => {
                let count = count.min(width.saturating_sub(x));
                let pair = [value >> 4, value & 15];
                match nibbles {
                    true => indices.extend(pair.iter().cycle().take(count)),
                    false => indices.resize(indices.len() + count, value),
                }
                x += count;
            }
        }
    }
    if indices.len() < length {
        return Err(Fault::Truncated);
    }
    Ok(indices)
}

impl<'a> Rows for Bmp<'a> {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn memory(&self) -> u64 {
        match &self.data {
            Data::Runs(_, indices) => indices.len() as u64,
            _ => 0,
        }
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let y = match self.from_top {
            true => self.y,
            false => height - 1 - self.y,
        };
        self.y += 1;
        // The last row of a file may have no padding.
        let line = |stored: &'a [u8], bits: usize| {
            let start = y * self.line;
            let line = stored.get(start..start + (width * bits).div_ceil(8));
            line.ok_or(Fault::Truncated)
        };
        match &self.data {
            Data::Runs(palette, indices) => {
                palette.colors(indices[y * width..][..width].iter().copied(), row);
            }
            Data::Indices(bits, palette, stored) => {
                let stored = line(stored, *bits as usize)?;
                palette.colors(unpacked(stored, *bits), row);
            }
            Data::Colors(pixel, stored) => {
                let bytes = match pixel {
                    Pixel::Bytes(bytes, _) => *bytes,
                    Pixel::Fives | Pixel::FiveSixFive => 2,
                };
                let stored = line(stored, 8 * bytes)?;
                let pixels = row.as_chunks_mut::<3>().0.iter_mut();
                match *pixel {
                    Pixel::Bytes(bytes, order) => {
                        for (to, from) in pixels.zip(stored.chunks_exact(bytes)) {
                            *to = order.map(|at| from[at]);
                        }
                    }
                    Pixel::Fives => {
                        for (to, &from) in pixels.zip(stored.as_chunks().0) {
                            let from = u16::from_le_bytes(from);
                            *to = [
                                scaled(from >> 10, 31),
                                scaled(from >> 5, 31),
                                scaled(from, 31),
                            ];
                        }
                    }
                    Pixel::FiveSixFive => {
                        for (to, &from) in pixels.zip(stored.as_chunks().0) {
                            let from = u16::from_le_bytes(from);
                            *to = [
                                scaled(from >> 11, 31),
                                scaled(from >> 5, 63),
                                scaled(from, 31),
                            ];
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The low bits of a value, scaled to 0..=255 and truncated, as in Pillow's `Unpack.c`.
fn scaled(value: u16, most: u16) -> u8 {
    ((value & most) * 255 / most) as u8
}
