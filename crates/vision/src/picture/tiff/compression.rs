//! Decompression of a TIFF's strips and tiles.

use std::io::{ErrorKind, Read};

use super::super::jpeg;
use crate::{ImageLimits, fault::Fault};

/// The compression of strips and tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Raw,
    Lzw,
    Deflate,
    PackBits,
    Jpeg,
    Fax4,
}

impl Compression {
    pub(super) fn new(number: u64) -> Result<Self, Fault> {
        Ok(match number {
            1 => Self::Raw,
            4 => Self::Fax4,
            5 => Self::Lzw,
            7 => Self::Jpeg,
            8 | 32946 => Self::Deflate,
            32773 => Self::PackBits,
            other => {
                let name = match other {
                    2 | 3 => "fax group 3",
                    6 => "JPEG of the old kind",
                    34925 => "LZMA",
                    50000 => "Zstandard",
                    50001 => "WebP",
                    _ => "a kind not known here",
                };
                return Err(Fault::Unsupported(format!(
                    "a TIFF compressed with {name} ({other})"
                )));
            }
        })
    }
}

/// Decompresses a strip or tile to exactly as many bytes as `out` has.
pub(super) fn decompress(
    compression: Compression,
    mut stored: &[u8],
    out: &mut [u8],
) -> Result<(), Fault> {
    match compression {
        Compression::Raw => {
            let raw = stored.get(..out.len()).ok_or(Fault::Truncated)?;
            out.copy_from_slice(raw);
            Ok(())
        }
        Compression::Deflate => {
            let mut decoder = flate2::read::ZlibDecoder::new(stored);
            decoder.read_exact(out).map_err(Fault::broken)?;
            // The checksum follows the last byte. libtiff accepts a stream that ends without it.
            match decoder.read(&mut [0]) {
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(Fault::broken(error)),
                _ => Ok(()),
            }
        }
        Compression::Lzw => {
            // Very old programs wrote the bits in reverse order.
            let mut decoder = match stored {
                [0, second, ..] if second & 1 == 1 => {
                    weezl::decode::Decoder::new(weezl::BitOrder::Lsb, 8)
                }
                _ => weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8),
            };
            let mut out = out;
            while !out.is_empty() {
                let decoded = decoder.decode_bytes(stored, out);
                stored = &stored[decoded.consumed_in..];
                out = &mut out[decoded.consumed_out..];
                decoded.status.map_err(Fault::broken)?;
                if decoded.consumed_in == 0 && decoded.consumed_out == 0 {
                    return Err(Fault::Truncated);
                }
            }
            Ok(())
        }
        Compression::PackBits => pack_bits(stored, out),
        Compression::Jpeg | Compression::Fax4 => {
            unreachable!("these are decoded with their dimensions")
        }
    }
}

fn pack_bits(mut stored: &[u8], mut out: &mut [u8]) -> Result<(), Fault> {
    while !out.is_empty() {
        let (&head, rest) = stored.split_first().ok_or(Fault::Truncated)?;
        stored = rest;
        let count = match head {
            128 => continue,
            0..128 => usize::from(head) + 1,
            129.. => 257 - usize::from(head),
        };
        // A run may exceed the end.
        let (now, later) = out.split_at_mut(count.min(out.len()));
        if head < 128 {
            now.copy_from_slice(stored.get(..now.len()).ok_or(Fault::Truncated)?);
            stored = stored.get(count..).unwrap_or_default();
        } else {
            let (&value, rest) = stored.split_first().ok_or(Fault::Truncated)?;
            now.fill(value);
            stored = rest;
        }
        out = later;
    }
    Ok(())
}

/// Decodes group 4 fax data to rows of bits.
pub(super) fn fax4(stored: &[u8], width: usize, rows: usize, out: &mut [u8]) -> Result<(), Fault> {
    let width = u16::try_from(width).map_err(Fault::broken)?;
    let height = u16::try_from(rows).map_err(Fault::broken)?;
    let line = usize::from(width).div_ceil(8);
    let mut lines = out.chunks_exact_mut(line);
    fax::decoder::decode_g4(stored.iter().copied(), width, Some(height), |transitions| {
        let Some(line) = lines.next() else { return };
        line.fill(0);
        for (at, color) in fax::decoder::pels(transitions, width).enumerate() {
            if color == fax::Color::Black {
                line[at / 8] |= 0x80 >> (at % 8);
            }
        }
    })
    .ok_or_else(|| Fault::Broken("invalid fax data".to_owned()))
}

/// Decodes a strip or tile that is a JPEG, with its tables, to rows of samples.
pub(super) fn jpeg(
    stored: &[u8],
    tables: Option<&[u8]>,
    to_rgb: bool,
    [width, rows, samples]: [usize; 3],
    limits: &ImageLimits,
    out: &mut [u8],
) -> Result<(), Fault> {
    let joined = match tables {
        // Tables end with an end-of-image marker, the strip begins with a start-of-image marker.
        Some(tables) if tables.len() > 4 && stored.len() > 2 => {
            [&tables[..tables.len() - 2], &stored[2..]].concat()
        }
        _ => stored.to_vec(),
    };
    jpeg::samples(&joined, to_rgb, [width, rows, samples], limits, out)
}
