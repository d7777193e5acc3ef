//! GIF: the first frame, on a canvas that contains it, as in Pillow.

use weezl::{BitOrder, decode::Decoder};

use super::rows::{Palette, Rows, area};
use crate::{ImageLimits, fault::Fault};

/// Reader of little-endian numbers and blocks.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(2)?;
        Ok(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    /// A data block; an empty one ends a chain of blocks.
    fn block(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    /// The palette that the flags announce; mode `L` if every colour is its own index.
    fn palette(&mut self, flags: u8) -> Result<Option<Palette>, Fault> {
        if flags & 0x80 == 0 {
            return Ok(None);
        }
        let colors = self.take(3 << ((flags & 7) + 1))?.as_chunks::<3>().0;
        let own = |(index, color): (usize, &[u8; 3])| *color == [index as u8; 3];
        Ok(Some(match colors.iter().enumerate().all(own) {
            true => Palette::gray(),
            false => Palette::new(colors.iter().copied()),
        }))
    }
}

/// Compressed indices.
struct Data<'a> {
    rest: Bytes<'a>,
    block: &'a [u8],
    ended: bool,
    decoder: Decoder,
}

impl Data<'_> {
    fn fill(&mut self, mut indices: &mut [u8]) -> Result<(), Fault> {
        while !indices.is_empty() {
            if self.block.is_empty() && !self.ended {
                self.block = self.rest.block().unwrap_or_default();
                self.ended = self.block.is_empty();
            }
            // The decoder may still have output after the last block.
            let decoded = self.decoder.decode_bytes(self.block, indices);
            self.block = &self.block[decoded.consumed_in..];
            indices = &mut indices[decoded.consumed_out..];
            decoded.status.map_err(Fault::broken)?;
            if decoded.consumed_in == 0 && decoded.consumed_out == 0 {
                return Err(Fault::Truncated);
            }
        }
        Ok(())
    }
}

/// A GIF, read row by row.
pub(crate) struct Gif<'a> {
    size: (u32, u32),
    /// Left, top, width and height of the frame.
    frame: [u32; 4],
    palette: Palette,
    /// Index of pixels outside the frame.
    fill: u8,
    data: Data<'a>,
    interlaced: bool,
    /// Indices of the whole frame, once a row of an interlaced one has been read.
    whole: Vec<u8>,
    y: u32,
    indices: Vec<u8>,
}

impl<'a> Gif<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &ImageLimits) -> Result<Self, Fault> {
        let mut rest = Bytes(bytes);
        rest.take(6)?;
        let screen = (rest.short()?, rest.short()?);
        let flags = rest.byte()?;
        rest.take(2)?;
        let global = rest.palette(flags)?;
        let mut transparent = None;
        loop {
            match rest.byte()? {
                b',' => break,
                b'!' => {
                    let label = rest.byte()?;
                    let mut block = rest.block()?;
                    if let (0xF9, &[flags, _, _, index, ..]) = (label, block)
                        && flags & 1 == 1
                    {
                        transparent = Some(index);
                    }
                    while !block.is_empty() {
                        block = rest.block()?;
                    }
                }
                b';' => return Err(Fault::Broken("no picture before the end".to_owned())),
                _ => {}
            }
        }
        let frame = [rest.short()?, rest.short()?, rest.short()?, rest.short()?];
        let [left, top, width, height] = frame;
        if width == 0 || height == 0 {
            return Err(Fault::Broken(format!(
                "the frame is {width} by {height} pixels, expected at least 1 by 1"
            )));
        }
        let size = (screen.0.max(left + width), screen.1.max(top + height));
        limits.check(size.0, size.1)?;
        let flags = rest.byte()?;
        let palette = rest.palette(flags)?.or(global);
        let bits = rest.byte()?;
        if bits > 12 {
            return Err(Fault::Broken(format!(
                "codes begin with {bits} bits, expected at most 12"
            )));
        }
        let data = Data {
            rest,
            block: &[],
            ended: false,
            decoder: Decoder::new(BitOrder::Lsb, bits),
        };
        let interlaced = flags & 0x40 != 0;
        if interlaced {
            limits.afford(bytes.len() as u64 + area(width, height, 1))?;
        }
        Ok(Self {
            size,
            frame,
            palette: palette.unwrap_or_else(Palette::gray),
            fill: transparent.unwrap_or(0),
            data,
            interlaced,
            whole: Vec::new(),
            y: 0,
            indices: vec![0; size.0 as usize],
        })
    }
}

impl Rows for Gif<'_> {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn memory(&self) -> u64 {
        let [_, _, width, height] = self.frame;
        match self.interlaced {
            true => area(width, height, 1),
            false => 0,
        }
    }

    fn next(&mut self, row: &mut [u8]) -> Result<(), Fault> {
        let [left, top, width, height] = self.frame;
        self.indices.fill(self.fill);
        if (top..top + height).contains(&self.y) {
            let indices = &mut self.indices[left as usize..][..width as usize];
            let width = width as usize;
            if self.interlaced {
                if self.whole.is_empty() {
                    self.whole = vec![0; width * height as usize];
                    for (start, step) in [(0, 8), (4, 8), (2, 4), (1, 2)] {
                        for y in (start..height as usize).step_by(step) {
                            self.data.fill(&mut self.whole[y * width..][..width])?;
                        }
                    }
                }
                let at = (self.y - top) as usize * width;
                indices.copy_from_slice(&self.whole[at..][..width]);
            } else {
                self.data.fill(indices)?;
            }
        }
        self.palette.colors(self.indices.iter().copied(), row);
        self.y += 1;
        Ok(())
    }
}
