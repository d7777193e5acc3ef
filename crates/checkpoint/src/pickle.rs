//! PyTorch files: an archive with a pickle that says what is where.
//!
//! A pickle is a program. The `pytorch-reader` crate runs the few instructions that describe tensors, on data of its own, and has no way to
//! call anything: a name it does not know stays a name. Here every entry that is not a tensor is refused, and so is one that claims
//! to be larger than its file.

use std::{collections::BTreeMap, path::Path};

use pytorch_reader::{DType, PickleValue, PytorchReader};

use crate::{CheckpointError, StoredTensor, TensorDtype, stored_tensor::Numbers};

fn weight_dtype(dtype: DType) -> Option<TensorDtype> {
    match dtype {
        DType::F32 => Some(TensorDtype::F32),
        DType::F16 => Some(TensorDtype::F16),
        DType::BF16 => Some(TensorDtype::BF16),
        _ => None,
    }
}

/// Reads what is in a file, but none of its numbers.
pub(crate) fn open(path: &Path) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let malformed = |found: String| CheckpointError::Malformed {
        path: path.to_owned(),
        expected: "PyTorch file of tensors",
        found,
    };
    let size = std::fs::metadata(path)
        .map_err(|source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        })?
        .len();
    let reader = PytorchReader::new(path).map_err(|error| malformed(error.to_string()))?;
    let root = PytorchReader::read_pickle_data(path, None)
        .map_err(|error| malformed(error.to_string()))?;
    let PickleValue::Dict(entries) = root else {
        return Err(malformed(format!("{} at its root", kind(&root))));
    };
    for (key, value) in &entries {
        if reader.get(key).is_none() {
            return Err(malformed(format!("`{key}` is {}", kind(value))));
        }
    }
    let mut tensors = BTreeMap::new();
    for (key, tensor) in reader.into_tensors() {
        if tensor.byte_len() as u64 > size {
            return Err(malformed(format!(
                "`{key}` of shape {:?} would have {} bytes, more than the file's {size}",
                tensor.shape(),
                tensor.byte_len()
            )));
        }
        let stored = StoredTensor {
            file: path.to_owned(),
            shape: tensor.shape().to_vec(),
            dtype: weight_dtype(tensor.dtype()),
            stored_dtype: format!("{:?}", tensor.dtype()),
            numbers: Numbers::Pickled(tensor),
        };
        tensors.insert(key, stored);
    }
    Ok(tensors)
}

fn kind(value: &PickleValue) -> String {
    match value {
        PickleValue::None => "None".to_owned(),
        PickleValue::Bool(_) => "a boolean".to_owned(),
        PickleValue::Int(_) => "an integer".to_owned(),
        PickleValue::Float(_) => "a float".to_owned(),
        PickleValue::String(_) => "a string".to_owned(),
        PickleValue::List(_) => "a list".to_owned(),
        PickleValue::Dict(_) => "a dictionary; the tensors have to be at the root".to_owned(),
        PickleValue::Bytes(_) => "bytes".to_owned(),
        PickleValue::Unsupported(name) => format!("a `{name}`, which is not run"),
    }
}
