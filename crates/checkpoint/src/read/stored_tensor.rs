//! A tensor in a file: its name card is read at once, its numbers when they are asked for.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use burn::tensor::{AllocationProperty, DType, Device, Tensor, TensorData};
use bytes::Bytes;
use memmap2::Mmap;
use safetensors::Dtype;

use crate::{CheckpointError, Placement, Problem, read::regular_file};

/// Number types a weight can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorDtype {
    /// 32 bits.
    F32,
    /// 16 bits, 5 of them exponent.
    F16,
    /// 16 bits, 8 of them exponent.
    BF16,
}

impl TensorDtype {
    /// Burn's name.
    #[must_use]
    pub fn burn(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
        }
    }

    pub(crate) fn from_burn(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::Flex32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::BF16),
            _ => None,
        }
    }

    pub(crate) fn file(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
        }
    }

    /// Name in a `config.json`.
    #[must_use]
    pub fn torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Bytes of a number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

impl std::str::FromStr for TensorDtype {
    type Err = UnknownDtype;

    /// `f32`, `f16`, `bf16`, or PyTorch's names of them.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" | "float32" => Ok(Self::F32),
            "f16" | "float16" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::BF16),
            _ => Err(UnknownDtype {
                name: name.to_owned(),
            }),
        }
    }
}

/// A name of no number type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown number type `{name}`, expected f32, f16 or bf16")]
pub struct UnknownDtype {
    /// The name.
    pub name: String,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// The file.
    pub file: PathBuf,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Number type; `None` for integers and booleans.
    pub dtype: Option<TensorDtype>,
    /// Number type as the file calls it.
    pub stored_dtype: String,
    pub(crate) numbers: Numbers,
}

/// Where the numbers of a tensor are, in a mapped file.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// Row by row.
    Mapped(Bytes),
    /// A part of a storage of a PyTorch file.
    InStorage(Arc<Storage>, Range<usize>, Strided),
}

/// A storage of a PyTorch file, which tensors may share.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) bytes: Bytes,
    /// The checksum that the file has of it; files of before PyTorch 1.6 have none.
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

    /// Whether it is what was saved, as far as that can be known; computed once.
    fn is_intact(&self) -> bool {
        *self.intact.get_or_init(|| {
            self.crc32
                .is_none_or(|expected| crc32fast::hash(&self.bytes) == expected)
        })
    }
}

/// How the elements of a PyTorch tensor lie in its storage.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    /// Bytes of an element.
    pub(crate) element: usize,
    pub(crate) shape: Vec<usize>,
    /// Steps to the next element, in elements.
    pub(crate) strides: Vec<usize>,
}

impl Strided {
    /// Bytes from the first element to the end of the last, for a tensor that is not empty; nothing if they cannot be counted.
    pub(crate) fn extent(&self) -> Option<usize> {
        let mut last = 0_usize;
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(size.checked_sub(1)?.checked_mul(stride)?)?;
        }
        last.checked_add(1)?.checked_mul(self.element)
    }

    /// Whether the elements lie row by row without gaps.
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

    /// The elements row by row.
    fn gather(&self, bytes: &[u8]) -> Vec<u8> {
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

/// A parameter to be filled from a stored tensor.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// Name of the tensor in its file.
    pub key: &'a str,
    /// Shape of the parameter.
    pub shape: &'a [usize],
    /// How the tensor lies in the file, compared with the parameter.
    pub placement: Placement,
    /// Whether the file may have more rows than the parameter, which then takes the first ones.
    pub more_rows: bool,
    /// Dtype of the parameter; the stored one by default.
    pub dtype: Option<TensorDtype>,
    /// Where the parameter is.
    pub device: &'a Device,
}

impl Slot<'_> {
    /// Shape of the values that are used, as the file lays them out.
    fn stored_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.to_vec();
        if self.placement == Placement::Transposed {
            shape.reverse();
        }
        shape
    }
}

impl StoredTensor {
    /// Checks that a tensor fits a parameter, without reading its values; returns its dtype and the number of values that are used.
    ///
    /// # Errors
    /// [`Problem::Dtype`] or [`Problem::Shape`].
    pub(crate) fn fits(&self, slot: &Slot<'_>) -> Result<(TensorDtype, usize), Problem> {
        let dtype = self.weight_dtype(slot.key)?;
        let expected = slot.stored_shape();
        let has_more_rows = slot.more_rows
            && matches!((&self.shape[..], &expected[..]), ([rows, width], [wanted, same])
                if rows >= wanted && width == same);
        if self.shape != expected && !has_more_rows {
            return Err(Problem::Shape {
                key: slot.key.to_owned(),
                file: self.file.clone(),
                expected,
                found: self.shape.clone(),
            });
        }
        Ok((dtype, expected.iter().product()))
    }

    /// The value of a parameter: dtype, shape and values are checked, then it is transposed, placed and cast as the parameter wants
    /// it. On a CPU it goes on using the mapped file where it can.
    ///
    /// # Errors
    /// What does not fit: [`Problem::Dtype`], [`Problem::Shape`], [`Problem::Unreadable`] or [`Problem::NotFinite`].
    pub fn load<const D: usize>(&self, slot: &Slot<'_>) -> Result<Tensor<D>, Problem> {
        let (dtype, count) = self.fits(slot)?;
        let used = self.readable(slot.key)?.slice(..count * dtype.size());
        self.check_finite(slot.key, &used)?;
        self.load_unchecked(slot)
    }

    /// As [`StoredTensor::load`], for a caller that checks the values of all tensors together.
    pub(crate) fn load_unchecked<const D: usize>(
        &self,
        slot: &Slot<'_>,
    ) -> Result<Tensor<D>, Problem> {
        let (dtype, count) = self.fits(slot)?;
        let used = self.readable(slot.key)?.slice(..count * dtype.size());
        let mut value = tensor_of(used, &slot.stored_shape(), dtype.burn(), slot.device);
        if slot.placement == Placement::Transposed {
            // A view: the values stay as PyTorch lays them out.
            value = value.swap_dims(0, D - 1);
        }
        Ok(match slot.dtype {
            Some(dtype) => value.cast(dtype.burn()),
            None => value,
        })
    }

    /// All values, in a shape with as many.
    ///
    /// # Errors
    /// [`Problem::Dtype`], [`Problem::Unreadable`] or [`Problem::NotFinite`].
    pub(crate) fn reshaped<const D: usize>(
        &self,
        key: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor<D>, Problem> {
        let dtype = self.weight_dtype(key)?;
        let bytes = self.readable(key)?;
        self.check_finite(key, &bytes)?;
        Ok(tensor_of(bytes, shape, dtype.burn(), device))
    }

    fn weight_dtype(&self, key: &str) -> Result<TensorDtype, Problem> {
        self.dtype.ok_or_else(|| Problem::Dtype {
            key: key.to_owned(),
            file: self.file.clone(),
            found: self.stored_dtype.clone(),
        })
    }

    /// [`StoredTensor::bytes`], with what goes wrong as a problem of the tensor.
    pub(crate) fn readable(&self, key: &str) -> Result<Bytes, Problem> {
        self.bytes().map_err(|error| Problem::Unreadable {
            key: key.to_owned(),
            file: self.file.clone(),
            reason: error.to_string(),
        })
    }

    /// Checks that its first values, as bytes, are finite.
    pub(crate) fn check_finite(&self, key: &str, bytes: &[u8]) -> Result<(), Problem> {
        match self.dtype.and_then(|dtype| first_not_finite(bytes, dtype)) {
            None => Ok(()),
            Some(at) => Err(Problem::NotFinite {
                key: key.to_owned(),
                file: self.file.clone(),
                at,
            }),
        }
    }

    /// The bytes, little endian, row by row: the mapped file itself, or for a view in a PyTorch file a copy in order.
    ///
    /// # Errors
    /// A storage of a PyTorch file does not have the checksum that the file says.
    pub fn bytes(&self) -> Result<Bytes, CheckpointError> {
        match &self.numbers {
            Numbers::Mapped(bytes) => Ok(bytes.clone()),
            Numbers::InStorage(storage, _, _) if !storage.is_intact() => {
                Err(CheckpointError::Malformed {
                    path: self.file.clone(),
                    expected: "PyTorch file of tensors",
                    found: "numbers that do not have the checksum (CRC-32) they were saved with: the file is damaged"
                        .to_owned(),
                })
            }
            Numbers::InStorage(storage, range, strided) => {
                let bytes = storage.bytes.slice(range.clone());
                Ok(if strided.is_in_order() {
                    bytes
                } else {
                    strided.gather(&bytes).into()
                })
            }
        }
    }
}

/// Maps a file into memory.
pub(crate) fn map_file(path: &Path) -> Result<Bytes, CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let file = regular_file::open(path).map_err(read)?;
    #[allow(
        unsafe_code,
        reason = "mapping a file is unsafe because another process could change it; checkpoints are not written in place"
    )]
    // SAFETY: the map is read-only, and our own writers replace files by renaming, never in place.
    Ok(Bytes::from_owner(
        unsafe { Mmap::map(&file) }.map_err(read)?,
    ))
}

/// Place of the first number that is none: infinite, or not a number. Overflow while saving in f16 and broken disks leave such.
fn first_not_finite(bytes: &[u8], dtype: TensorDtype) -> Option<usize> {
    /// Numbers looked at together, so that the compiler can take many at a time.
    const BLOCK: usize = 4096;
    let size = dtype.size();
    // All bits of the exponent are set, whatever the type.
    let is_bad = |number: &[u8]| match dtype {
        TensorDtype::F32 => number[3] & 0x7f == 0x7f && number[2] & 0x80 != 0,
        TensorDtype::BF16 => number[1] & 0x7f == 0x7f && number[0] & 0x80 != 0,
        TensorDtype::F16 => number[1] & 0x7c == 0x7c,
    };
    let has_bad = |block: &[u8]| match dtype {
        TensorDtype::F32 => block.chunks_exact(4).fold(false, |bad, n| {
            bad | (u32::from_le_bytes([n[0], n[1], n[2], n[3]]) & 0x7f80_0000 == 0x7f80_0000)
        }),
        TensorDtype::BF16 => block.chunks_exact(2).fold(false, |bad, n| {
            bad | (u16::from_le_bytes([n[0], n[1]]) & 0x7f80 == 0x7f80)
        }),
        TensorDtype::F16 => block.chunks_exact(2).fold(false, |bad, n| {
            bad | (u16::from_le_bytes([n[0], n[1]]) & 0x7c00 == 0x7c00)
        }),
    };
    let (nth, block) = bytes
        .chunks(BLOCK * size)
        .enumerate()
        .find(|(_, block)| has_bad(block))?;
    let within = block.chunks_exact(size).position(is_bad)?;
    Some(nth * BLOCK + within)
}

/// A tensor on a device. On a CPU it goes on using the bytes where they lie, if they are aligned for its numbers.
fn tensor_of<const D: usize>(
    bytes: Bytes,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.size());
    let bytes = if aligned {
        burn::tensor::Bytes::from_shared(bytes, AllocationProperty::File)
    } else {
        burn::tensor::Bytes::from_bytes_vec(bytes.to_vec())
    };
    Tensor::from_data(TensorData::from_bytes(bytes, shape, dtype), (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_number_is_found() {
        for (dtype, one, bad) in [
            (
                TensorDtype::F32,
                &1.0_f32.to_le_bytes()[..],
                &f32::NAN.to_le_bytes()[..],
            ),
            (
                TensorDtype::F32,
                &f32::MAX.to_le_bytes(),
                &f32::NEG_INFINITY.to_le_bytes(),
            ),
            (TensorDtype::BF16, &[0x80, 0x3f], &[0xc0, 0x7f]),
            (TensorDtype::BF16, &[0x7f, 0x7f], &[0x80, 0xff]),
            (TensorDtype::F16, &[0x00, 0x3c], &[0x01, 0x7e]),
            (TensorDtype::F16, &[0xff, 0x7b], &[0x00, 0xfc]),
        ] {
            let mut numbers = vec![one; 10_000];
            assert_eq!(first_not_finite(&numbers.concat(), dtype), None);
            numbers[9_000] = bad;
            numbers[9_500] = bad;
            assert_eq!(first_not_finite(&numbers.concat(), dtype), Some(9_000));
        }
    }
}
