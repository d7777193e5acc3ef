//! Storages of PyTorch files, and the strides of tensors in them.

use std::sync::OnceLock;

use bytes::Bytes;

/// A storage of a PyTorch file, which tensors may share.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) bytes: Bytes,
    /// Its checksum in the file; files written before PyTorch 1.6 have none.
    pub(crate) crc32: Option<u32>,
    intact: OnceLock<bool>,
}

impl Storage {
    pub(crate) fn new(bytes: Bytes, crc32: Option<u32>) -> Self {
        Self {
            bytes,
            crc32,
            intact: OnceLock::new(),
        }
    }

    /// Whether it matches its checksum, if it has one; computed once.
    pub(super) fn is_intact(&self) -> bool {
        *self.intact.get_or_init(|| {
            self.crc32
                .is_none_or(|expected| crc32fast::hash(&self.bytes) == expected)
        })
    }
}

/// Shape and strides of a PyTorch tensor in its storage.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    /// Bytes of an element.
    pub(crate) element: usize,
    pub(crate) shape: Vec<usize>,
    /// In elements.
    pub(crate) strides: Vec<usize>,
}

impl Strided {
    /// Bytes from the first element to the end of the last, for a tensor that is not empty; `None` on overflow.
    pub(crate) fn extent(&self) -> Option<usize> {
        let mut last = 0_usize;
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(size.checked_sub(1)?.checked_mul(stride)?)?;
        }
        last.checked_add(1)?.checked_mul(self.element)
    }

    /// Whether the elements are contiguous, row by row.
    pub(crate) fn is_in_order(&self) -> bool {
        let mut expected = 1_usize;
        let dimensions = self.shape.iter().zip(&self.strides).rev();
        self.shape.contains(&0)
            || dimensions
                .filter(|(size, _)| **size != 1)
                .all(|(&size, &stride)| {
                    let fits = stride == expected;
                    expected = expected.saturating_mul(size);
                    fits
                })
    }

    /// Copies the elements into row-major order.
    pub(super) fn gather(&self, bytes: &[u8]) -> Vec<u8> {
        let count: usize = self.shape.iter().product();
        let mut gathered = Vec::with_capacity(count * self.element);
        let mut place = vec![0; self.shape.len()];
        let mut at = 0;
        for _ in 0..count {
            gathered.extend_from_slice(&bytes[at * self.element..(at + 1) * self.element]);
            for dimension in (0..place.len()).rev() {
                place[dimension] += 1;
                at += self.strides[dimension];
                if place[dimension] < self.shape[dimension] {
                    break;
                }
                at -= self.strides[dimension] * self.shape[dimension];
                place[dimension] = 0;
            }
        }
        gathered
    }
}
