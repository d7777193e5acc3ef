//! The tags of a TIFF's first page.

use std::collections::BTreeMap;

use crate::fault::Fault;

pub(super) const WIDTH: u16 = 256;
pub(super) const LENGTH: u16 = 257;
pub(super) const BITS: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const FILL_ORDER: u16 = 266;
pub(super) const STRIP_OFFSETS: u16 = 273;
pub(super) const ORIENTATION: u16 = 274;
pub(super) const SAMPLES: u16 = 277;
pub(super) const ROWS_PER_STRIP: u16 = 278;
pub(super) const STRIP_BYTES: u16 = 279;
pub(super) const PLANAR: u16 = 284;
pub(super) const PREDICTOR: u16 = 317;
pub(super) const COLOR_MAP: u16 = 320;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_LENGTH: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_BYTES: u16 = 325;
pub(super) const EXTRA_SAMPLES: u16 = 338;
pub(super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347;

/// The values of a tag.
#[derive(Clone, Copy)]
struct Field<'a> {
    kind: u16,
    values: &'a [u8],
}

/// The first directory of a TIFF.
pub(crate) struct Directory<'a> {
    pub(super) big_endian: bool,
    fields: BTreeMap<u16, Field<'a>>,
}

/// An unsigned number of 1, 2, 4 or 8 bytes.
fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let append = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
    match big_endian {
        true => bytes.iter().fold(0, append),
        false => bytes.iter().rev().fold(0, append),
    }
}

impl<'a> Directory<'a> {
    /// Reads the first directory. Tags whose values exceed the file are ignored, as in Pillow.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let big_endian = bytes.starts_with(b"MM");
        let at = |from: usize, count: usize| -> Result<u64, Fault> {
            let end = from.checked_add(count).ok_or(Fault::Truncated)?;
            let found = bytes.get(from..end).ok_or(Fault::Truncated)?;
            Ok(number(found, big_endian))
        };
        // Numbers in the header have 4 bytes, 8 in a BigTIFF.
        let big = bytes.get(2..4).is_some_and(|version| version.contains(&43));
        let (wide, count_bytes) = if big { (8, 8) } else { (4, 2) };
        let start = at(if big { 8 } else { 4 }, wide)? as usize;
        let entries = at(start, count_bytes)? as usize;
        let entry_bytes = 4 + 2 * wide;
        let first = start + count_bytes;
        let rest = bytes.get(first..).ok_or(Fault::Truncated)?;
        let mut fields = BTreeMap::new();
        for entry in rest.chunks_exact(entry_bytes).take(entries) {
            let tag = number(&entry[..2], big_endian) as u16;
            let kind = number(&entry[2..4], big_endian) as u16;
            let count = number(&entry[4..4 + wide], big_endian);
            let length = count.saturating_mul(width_of(kind) as u64);
            let inline = &entry[4 + wide..];
            let values = if length <= wide as u64 {
                inline.get(..length as usize)
            } else {
                let from = number(inline, big_endian) as usize;
                let end = from.checked_add(usize::try_from(length).unwrap_or(usize::MAX));
                end.and_then(|end| bytes.get(from..end))
            };
            if let Some(values) = values.filter(|values| !values.is_empty()) {
                fields.insert(tag, Field { kind, values });
            }
        }
        Ok(Self { big_endian, fields })
    }

    /// The integers of a tag.
    pub(super) fn numbers(&self, tag: u16) -> Option<impl ExactSizeIterator<Item = u64> + use<'a>> {
        let Field { kind, values } = *self.fields.get(&tag)?;
        let big_endian = self.big_endian;
        let whole = matches!(kind, 1 | 3 | 4 | 6 | 7 | 8 | 9 | 13 | 16 | 17 | 18);
        whole.then(|| {
            let each = values.chunks_exact(width_of(kind));
            each.map(move |value| number(value, big_endian))
        })
    }

    pub(super) fn first(&self, tag: u16) -> Option<u64> {
        self.numbers(tag)?.next()
    }

    pub(super) fn first_or(&self, tag: u16, default: u64) -> u64 {
        self.first(tag).unwrap_or(default)
    }

    /// The orientation tag; 1 if there is none.
    pub(crate) fn orientation(&self) -> u64 {
        self.first_or(ORIENTATION, 1)
    }

    /// The bytes of a tag.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.fields.get(&tag).map(|field| field.values)
    }
}

/// Size in bytes of a value of a type; 1 for unknown types.
fn width_of(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}
