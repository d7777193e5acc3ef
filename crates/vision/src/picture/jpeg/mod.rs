//! JPEG, decoded by libjpeg-turbo as in Pillow (docs/src/decisions/2026-11-25-jpeg.md).

mod idct;
mod libjpeg;

use libjpeg::Libjpeg;
use mozjpeg_sys::{J_COLOR_SPACE, jpeg_component_info};

use super::rows::{Rows, area, cmyk, gray};
use crate::{ImageLimits, fault::Fault};

const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// Maximum number of scans of a picture of the maximum size; smaller pictures may have more.
/// Progressive pictures have about ten.
const SCANS: u64 = 20;

/// Colour mode of libjpeg's output.
#[derive(Clone, Copy)]
enum Mode {
    Gray,
    Rgb,
    Cmyk,
}

/// A JPEG, read row by row.
pub(crate) struct Jpeg<'a> {
    libjpeg: Libjpeg<'a>,
    mode: Mode,
    memory: u64,
    pixels: Vec<u8>,
}

/// Reads the header, and computes the bytes that the decoder will keep.
fn head<'a>(bytes: &'a [u8], limits: &ImageLimits) -> Result<(Libjpeg<'a>, u64), Fault> {
    let libjpeg = Libjpeg::new(bytes)?;
    let (width, height) = libjpeg.size();
    limits.check(width, height)?;
    let scans = scans(bytes);
    // Every scan may touch every block, even if it is short.
    let touched = area(width, height, 1).saturating_mul(scans.count);
    if touched > limits.max_pixels.saturating_mul(SCANS) {
        return Err(Fault::Unsupported(format!(
            "a JPEG of {width}x{height} pixels in {} scans, too many for its size",
            scans.count
        )));
    }
    // Two bytes each, in whole units of the largest sampling factor.
    let coefficients = |component: &jpeg_component_info| {
        let blocks = |count: u32| u64::from(count) + 4;
        blocks(component.width_in_blocks) * blocks(component.height_in_blocks) * 64 * 2
    };
    let rows_of_blocks = u64::from(width) * 256;
    let memory = match scans.at_once {
        true => rows_of_blocks,
        false => rows_of_blocks + libjpeg.components().iter().map(coefficients).sum::<u64>(),
    };
    limits.afford(bytes.len() as u64 + memory)?;
    Ok((libjpeg, memory))
}

impl<'a> Jpeg<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        let (mut libjpeg, memory) = head(bytes, limits)?;
        let (mode, colors, channels) = match libjpeg.components().len() {
            1 => (Mode::Gray, J_COLOR_SPACE::JCS_GRAYSCALE, 1),
            3 => (Mode::Rgb, J_COLOR_SPACE::JCS_RGB, 0),
            4 => (Mode::Cmyk, J_COLOR_SPACE::JCS_CMYK, 4),
            count => {
                return Err(Fault::Unsupported(format!(
                    "a JPEG of {count} components, expected 1, 3 or 4"
                )));
            }
        };
        libjpeg.start(None, colors)?;
        let pixels = vec![0; libjpeg.size().0 as usize * channels];
        Ok(Self {
            libjpeg,
            mode,
            memory,
            pixels,
        })
    }
}

impl Rows for Jpeg<'_> {
    fn size(&self) -> (u32, u32) {
        self.libjpeg.size()
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        match self.mode {
            Mode::Rgb => self.libjpeg.row(row)?,
            Mode::Gray => {
                self.libjpeg.row(&mut self.pixels)?;
                gray(self.pixels.iter().copied(), row);
            }
            // Inverted, as Adobe's programs write them and as Pillow assumes for all.
            Mode::Cmyk => {
                self.libjpeg.row(&mut self.pixels)?;
                let pixels = self.pixels.as_chunks::<4>().0;
                cmyk(pixels.iter().map(|pixel| pixel.map(|ink| 255 - ink)), row);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.libjpeg.finish()
    }
}

/// Decodes a JPEG embedded in another file: `rows` rows of `width * samples` levels; `YCbCr`
/// becomes RGB, other colours stay as they are stored.
pub(super) fn samples(
    bytes: &[u8],
    to_rgb: bool,
    [width, rows, samples]: [usize; 3],
    limits: &ImageLimits,
    out: &mut [u8],
) -> Result<(), Fault> {
    let (mut libjpeg, _) = head(bytes, limits)?;
    let (found_width, found_rows) = libjpeg.size();
    let components = libjpeg.components().len();
    if found_width as usize != width || (found_rows as usize) < rows || components != samples {
        return Err(Fault::Broken(format!(
            "a part of {width}x{rows} pixels of {samples} samples holds a JPEG of {found_width}x{found_rows} of {components}"
        )));
    }
    let (from, to) = match to_rgb {
        true => (J_COLOR_SPACE::JCS_YCbCr, J_COLOR_SPACE::JCS_RGB),
        false => (J_COLOR_SPACE::JCS_UNKNOWN, J_COLOR_SPACE::JCS_UNKNOWN),
    };
    libjpeg.start(Some(from), to)?;
    let mut rows = out.chunks_exact_mut(width * samples);
    rows.try_for_each(|row| libjpeg.row(row))
}

/// The scans of a JPEG.
struct Scans {
    count: u64,
    /// Whether a single scan has all pixels, so that rows can be decoded while reading.
    at_once: bool,
}

/// Counts the scans as libjpeg does.
fn scans(bytes: &[u8]) -> Scans {
    let mut scans = Scans {
        count: 0,
        at_once: false,
    };
    let mut sequential = false;
    let mut components = 0;
    // After the start-of-image marker.
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => break,
            // Markers without a segment.
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2).and_then(|two| two.first_chunk())
                else {
                    break;
                };
                match marker {
                    0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                        sequential = matches!(marker, 0xC0 | 0xC1 | 0xC9);
                        components = bytes.get(at + 7).copied().unwrap_or(0);
                    }
                    START_OF_SCAN => {
                        scans.count += 1;
                        if scans.count == 1 {
                            scans.at_once = sequential && bytes.get(at + 2) == Some(&components);
                        }
                    }
                    _ => {}
                }
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
                if marker == START_OF_SCAN {
                    skip_scan(bytes, &mut at);
                }
            }
        }
    }
    scans
}

/// The next marker; `at` moves past it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let start = *at + bytes.get(*at..)?.iter().position(|&byte| byte == 0xFF)?;
        let marker = start + bytes[start..].iter().position(|&byte| byte != 0xFF)?;
        *at = marker + 1;
        if bytes[marker] != 0 {
            return Some(bytes[marker]);
        }
    }
}

/// Skips entropy-coded data, where 0xFF is followed by 0 or is part of a restart marker.
fn skip_scan(bytes: &[u8], at: &mut usize) {
    while let Some(&[first, second]) = bytes.get(*at..*at + 2).and_then(|two| two.first_chunk()) {
        if first == 0xFF && second != 0 && second != 0xFF && !(0xD0..=0xD7).contains(&second) {
            return;
        }
        *at += 1;
    }
    *at = bytes.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_scans_of_a_large_picture_are_refused_at_once() {
        let frame = [0xFF, 0xC2, 0, 11, 8, 0x32, 0xC8, 0x32, 0xC8, 1, 1, 0x11, 0];
        let scan = [0xFF, START_OF_SCAN, 0, 8, 1, 1, 0, 0, 0, 0];
        let file = |scans: usize| [&[0xFF, 0xD8][..], &frame, &scan.repeat(scans)].concat();
        let limits = ImageLimits::default();
        let refused = |scans| match Jpeg::open(&file(scans), &limits).err() {
            Some(Fault::Unsupported(found)) => found.contains("scans"),
            _ => false,
        };
        assert!(refused(30));
        // This one is rejected for its missing data.
        assert!(!refused(3));
    }

    #[test]
    fn scans_are_counted_after_segments_and_data() {
        let comment = [0xFF, 0xFE, 0, 4, 0xFF, START_OF_SCAN];
        let frame = [0xFF, 0xC0, 0, 8, 8, 0, 1, 0, 1, 1];
        let scan = [0xFF, START_OF_SCAN, 0, 3, 1, 9, 0xFF, 0, 0xFF, 0xD3, 9];
        let found = |parts: &[&[u8]]| {
            let scans = scans(&[&[0xFF, 0xD8], parts.concat().as_slice()].concat());
            (scans.count, scans.at_once)
        };
        assert_eq!(found(&[&comment, &frame]), (0, false));
        assert_eq!(found(&[&comment, &frame, &scan]), (1, true));
        assert_eq!(found(&[&frame, &scan, &scan]), (2, true));
        assert_eq!(found(&[&[0xFF, 0xC2], &frame[2..], &scan]), (1, false));
        assert_eq!(
            found(&[&frame, &scan, &[0xFF, END_OF_IMAGE], &scan]),
            (1, true)
        );
    }
}
