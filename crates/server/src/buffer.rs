//! Memory for data from outside.

use std::{fmt, io, ops::Deref};

use memmap2::MmapMut;

/// Smallest allocation in bytes.
const SMALLEST: usize = 64 << 10;

/// Bytes in memory mapped from the system, to which it returns at once: an allocator would keep large blocks for a while. It grows with
/// the bytes that arrive, not with a length that was announced.
#[derive(Default)]
pub struct Buffer {
    map: Option<MmapMut>,
    len: usize,
}

impl Buffer {
    /// An empty buffer with room for this many bytes.
    ///
    /// # Errors
    /// The system is out of memory.
    pub(crate) fn with_room(bytes: usize) -> io::Result<Self> {
        let map = Some(MmapMut::map_anon(bytes.max(1))?);
        Ok(Self { map, len: 0 })
    }

    /// Appends a piece; `most` is the most bytes that can follow in all, as far as is known.
    ///
    /// # Errors
    /// The system is out of memory.
    pub(crate) fn extend(&mut self, piece: &[u8], most: usize) -> io::Result<()> {
        let len = self.len + piece.len();
        let room = self.map.as_ref().map_or(0, |map| map.len());
        if len > room {
            let least = len.max(SMALLEST);
            let mut map = MmapMut::map_anon((room * 2).clamp(least, most.max(least)))?;
            map[..self.len].copy_from_slice(self);
            self.map = Some(map);
        }
        if let Some(map) = &mut self.map {
            map[self.len..len].copy_from_slice(piece);
        }
        self.len = len;
        Ok(())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}
