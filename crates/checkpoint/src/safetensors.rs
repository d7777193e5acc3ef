//! Safetensors, memory-mapped.

use std::{collections::BTreeMap, fs::File, path::Path};

use bytes::Bytes;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::{CheckpointError, StoredTensor, TensorDtype, stored_tensor::Numbers};

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
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    #[allow(
        unsafe_code,
        reason = "mapping a file is unsafe because another process could change it; checkpoints are not written in place"
    )]
    // SAFETY: the map is read-only, and our own writers replace files by renaming, never in place.
    let map = Bytes::from_owner(unsafe { Mmap::map(&file) }.map_err(read)?);
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
                numbers: Numbers::Mapped(map.slice_ref(view.data())),
            };
            (key.to_owned(), tensor)
        })
        .collect())
}
