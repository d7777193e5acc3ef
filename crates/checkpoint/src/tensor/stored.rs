//! A tensor in a file: its name, shape and dtype are read when the file is opened, its values when they are asked for.

use std::{ops::Range, path::PathBuf, sync::Arc};

use burn::tensor::{AllocationProperty, DType, Device, Tensor, TensorData};
use bytes::Bytes;

use super::{
    TensorDtype,
    finite::first_not_finite,
    storage::{Storage, Strided},
};
use crate::{CheckpointError, Placement, Problem};

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// The file.
    pub file: PathBuf,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Its dtype, if that is one of a weight; `None` for integers, booleans and other floats.
    pub dtype: Option<TensorDtype>,
    /// Its dtype as the file calls it.
    pub stored_dtype: String,
    pub(crate) values: Values,
}

/// Where the values of a tensor are in a mapped file.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Contiguous, row by row.
    Mapped(Bytes),
    /// In a part of a storage of a PyTorch file.
    InStorage(Arc<Storage>, Range<usize>, Strided),
}

/// A parameter to be filled from a stored tensor.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// Name of the tensor in its file.
    pub key: &'a str,
    /// Shape of the parameter.
    pub shape: &'a [usize],
    /// Whether the file has the tensor as it is or transposed.
    pub placement: Placement,
    /// Whether the file may have more rows than the parameter, of which the first are used.
    pub more_rows: bool,
    /// Dtype of the parameter; the stored one by default.
    pub dtype: Option<TensorDtype>,
    /// Where the parameter is.
    pub device: &'a Device,
}

impl Slot<'_> {
    /// Shape of the values that are used, in the file's order of dimensions.
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

    /// The value of a parameter: dtype, shape and values are checked, then it is transposed, moved to the device and cast as the slot
    /// says. On a CPU it stays in the mapped file if possible.
    ///
    /// # Errors
    /// [`Problem::Dtype`], [`Problem::Shape`], [`Problem::Unreadable`] or [`Problem::NotFinite`].
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
            // A view: the values stay in PyTorch's layout.
            value = value.swap_dims(0, D - 1);
        }
        Ok(match slot.dtype {
            Some(dtype) => value.cast(dtype.burn()),
            None => value,
        })
    }

    /// All values, reshaped.
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

    /// [`StoredTensor::bytes`], with errors as a problem of the tensor.
    pub(crate) fn readable(&self, key: &str) -> Result<Bytes, Problem> {
        self.bytes().map_err(|error| Problem::Unreadable {
            key: key.to_owned(),
            file: self.file.clone(),
            reason: error.to_string(),
        })
    }

    /// Checks that values of it, given as bytes, are finite.
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

    /// The bytes, little endian, row by row: a slice of the mapped file, or a copy for a PyTorch tensor that is not contiguous.
    ///
    /// # Errors
    /// A storage of a PyTorch file does not match its checksum.
    pub fn bytes(&self) -> Result<Bytes, CheckpointError> {
        match &self.values {
            Values::Mapped(bytes) => Ok(bytes.clone()),
            Values::InStorage(storage, _, _) if !storage.is_intact() => {
                Err(CheckpointError::Malformed {
                    path: self.file.clone(),
                    expected: "PyTorch file of tensors",
                    found: "values that do not match their checksum (CRC-32): the file is damaged"
                        .to_owned(),
                })
            }
            Values::InStorage(storage, range, strided) => {
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

/// A tensor on a device. On a CPU it uses the given bytes without a copy, if they are aligned for its dtype.
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
