//! Safetensors files: memory-mapped when they are read, written one tensor at a time.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use safetensors::{Dtype, SafeTensors};

use crate::{
    CheckpointError, LazyTensor, StoredTensor, TensorDtype, file::regular, tensor::Values,
};

/// Longest header: room for some twenty thousand tensors. Parsed, it takes sixteen times as much memory.
const MAX_HEADER: u64 = 2 << 20;

fn weight_dtype(dtype: Dtype) -> Option<TensorDtype> {
    match dtype {
        Dtype::F32 => Some(TensorDtype::F32),
        Dtype::F16 => Some(TensorDtype::F16),
        Dtype::BF16 => Some(TensorDtype::BF16),
        _ => None,
    }
}

/// Maps a file and reads its header.
pub(crate) fn open(path: &Path) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let map = regular::map(path)?;
    let header = map
        .first_chunk::<8>()
        .map(|length| u64::from_le_bytes(*length));
    if header.is_some_and(|length| length > MAX_HEADER && length < map.len() as u64) {
        return Err(CheckpointError::Malformed {
            path: path.to_owned(),
            expected: "safetensors file",
            found: format!(
                "a header of more than {} MiB, which no model has",
                MAX_HEADER >> 20
            ),
        });
    }
    let parsed = SafeTensors::deserialize(&map).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        expected: "safetensors file",
        found: error.to_string(),
    })?;
    Ok(parsed
        .iter()
        .map(|(key, view)| {
            let tensor = StoredTensor {
                file: path.to_owned(),
                shape: view.shape().to_vec(),
                dtype: weight_dtype(view.dtype()),
                stored_dtype: format!("{:?}", view.dtype()),
                values: Values::Mapped(map.slice_ref(view.data())),
            };
            (key.to_owned(), tensor)
        })
        .collect())
}

/// Writes a safetensors file in place; inside an [`AtomicFolder`](crate::AtomicFolder) it appears atomically.
///
/// # Errors
/// The file cannot be written.
pub fn write_tensors(
    path: &Path,
    tensors: Vec<(String, LazyTensor)>,
) -> Result<(), CheckpointError> {
    serialize(path, tensors, None)
}

/// As [`write_tensors`], with the metadata `format: pt`, which transformers require of a model's weights.
pub(crate) fn write_weights(
    path: &Path,
    tensors: Vec<(String, LazyTensor)>,
) -> Result<(), CheckpointError> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialize(path, tensors, Some(metadata))
}

fn serialize(
    path: &Path,
    tensors: Vec<(String, LazyTensor)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), CheckpointError> {
    safetensors::serialize_to_file(tensors, metadata, path).map_err(|error| {
        CheckpointError::Write {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_longer_than_any_models_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let length = MAX_HEADER + 1;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(b'{');
        // Spaces are valid in a header, so only its length is wrong.
        bytes.resize(8 + length as usize, b' ');
        bytes.push(b'}');
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        assert!(error.contains("a header of more than 2 MiB"), "{error}");
    }
}
