//! PyTorch files of tensors, in every form that `torch.save` writes a `state_dict`.
//!
//! The file is mapped and its pickle read as data ([`pickle`]); a contiguous tensor is a slice of the mapped file.
//! Values that are not tensors are refused, and so is a tensor that claims to be larger than the file.

mod archive;
mod legacy;
mod pickle;
mod value;
pub(crate) mod write;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;

use self::{
    archive::Archive,
    value::{Pickle, PickledTensor, Value},
};
use crate::{
    CheckpointError, StoredTensor, TensorDtype,
    file::regular,
    tensor::{
        Values,
        storage::{Storage, Strided},
    },
};

/// A dtype: PyTorch's name, the size of an element, and the dtype of a weight if it is one.
#[derive(Clone, Copy)]
struct ElementType {
    name: &'static str,
    size: usize,
    weight: Option<TensorDtype>,
}

/// The dtype by the name of a storage class or of a dtype.
fn element_type(name: &str) -> Result<ElementType, String> {
    let (name, size, weight) = match name {
        "FloatStorage" | "float32" => ("F32", 4, Some(TensorDtype::F32)),
        "HalfStorage" | "float16" => ("F16", 2, Some(TensorDtype::F16)),
        "BFloat16Storage" | "bfloat16" => ("BF16", 2, Some(TensorDtype::BF16)),
        "DoubleStorage" | "float64" => ("F64", 8, None),
        "LongStorage" | "int64" => ("I64", 8, None),
        "IntStorage" | "int32" => ("I32", 4, None),
        "ShortStorage" | "int16" => ("I16", 2, None),
        "CharStorage" | "int8" => ("I8", 1, None),
        "ByteStorage" | "uint8" => ("U8", 1, None),
        "BoolStorage" | "bool" => ("BOOL", 1, None),
        "ComplexFloatStorage" | "complex64" => ("C64", 8, None),
        "ComplexDoubleStorage" | "complex128" => ("C128", 16, None),
        "uint16" => ("U16", 2, None),
        "uint32" => ("U32", 4, None),
        "uint64" => ("U64", 8, None),
        "float8_e4m3fn" | "float8_e4m3fnuz" => ("F8_E4M3", 1, None),
        "float8_e5m2" | "float8_e5m2fnuz" => ("F8_E5M2", 1, None),
        // Raw bytes; the tensor says what they are.
        "UntypedStorage" => ("bytes", 1, None),
        other => return Err(format!("values of dtype {other}")),
    };
    Ok(ElementType { name, size, weight })
}

/// Reads the names, shapes and dtypes of a file's tensors, but not their values.
pub(crate) fn open(path: &Path) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let file = regular::map(path)?;
    read(path, &file).map_err(|found| CheckpointError::Malformed {
        path: path.to_owned(),
        expected: "PyTorch file of tensors",
        found,
    })
}

fn read(path: &Path, file: &Bytes) -> Result<BTreeMap<String, StoredTensor>, String> {
    if file.starts_with(b"PK") {
        let archive = Archive::open(file)?;
        let pickle = pickle::read(archive.pickle()?)?;
        tensors(path, file, &pickle, |key| archive.storage(key))
    } else {
        let (pickle, storages) = legacy::open(file)?;
        tensors(path, file, &pickle, |key| storages.get(key))
    }
}

fn tensors<'s>(
    path: &Path,
    file: &Bytes,
    pickle: &Pickle<'_>,
    storage: impl Fn(&str) -> Option<&'s Arc<Storage>>,
) -> Result<BTreeMap<String, StoredTensor>, String> {
    let root = pickle.root.unwrap_or(Value::None);
    let Value::Dictionary(entries) = root else {
        return Err(format!("{} at its root", root.kind()));
    };
    let mut tensors = BTreeMap::new();
    for (key, value) in &pickle.dictionaries[entries] {
        let Value::Text(key) = key else {
            return Err(format!("an entry named by {}", key.kind()));
        };
        let Value::Tensor(tensor) = value else {
            return Err(format!("`{key}` is {}", value.kind()));
        };
        let tensor = &pickle.tensors[*tensor];
        let tensor = stored(path, file, pickle, tensor, &storage);
        // As in Python, the last value of a repeated name counts.
        tensors.insert(
            (*key).to_owned(),
            tensor.map_err(|found| format!("`{key}` is {found}"))?,
        );
    }
    Ok(tensors)
}

fn stored<'s>(
    path: &Path,
    file: &Bytes,
    pickle: &Pickle<'_>,
    tensor: &PickledTensor<'_>,
    storage: impl Fn(&str) -> Option<&'s Arc<Storage>>,
) -> Result<StoredTensor, String> {
    let described = pickle.storages[tensor.storage];
    let stored_as = element_type(described.kind)?;
    let dtype = tensor.dtype.map_or(Ok(stored_as), element_type)?;
    let storage = storage(described.key)
        .ok_or_else(|| format!("in storage {}, which is not in the file", described.key))?;
    // The range in the storage that the pickle describes, in bytes.
    let size = |count: u64| {
        let count = usize::try_from(count).ok()?;
        count.checked_mul(stored_as.size)
    };
    let part = size(described.offset).and_then(|start| {
        let end = start.checked_add(size(described.length)?)?;
        (end <= storage.bytes.len()).then_some(start..end)
    });
    let part = part.ok_or_else(|| {
        format!(
            "in storage {} of {} elements, but the file has only {} bytes of it",
            described.key,
            described.length,
            storage.bytes.len()
        )
    })?;
    let shape = tensor.shape.clone();
    let count = shape
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size));
    let whole = count
        .and_then(|count| count.checked_mul(dtype.size))
        .filter(|&bytes| bytes <= file.len())
        .ok_or_else(|| {
            format!(
                "of shape {shape:?}, more than the file's {} bytes",
                file.len()
            )
        })?;
    let start = usize::try_from(tensor.offset)
        .ok()
        .and_then(|offset| offset.checked_mul(dtype.size));
    let strided = Strided {
        element: dtype.size,
        shape: shape.clone(),
        strides: tensor.strides.clone(),
    };
    let extent = if whole == 0 {
        Some(0)
    } else {
        strided.extent()
    };
    let range = start.and_then(|start| {
        let start = part.start.checked_add(start)?;
        let end = start.checked_add(extent?)?;
        (end <= part.end).then_some(start..end)
    });
    let range = range.ok_or_else(|| {
        format!(
            "of shape {shape:?} with strides {:?} from element {} on, more than its storage",
            tensor.strides, tensor.offset
        )
    })?;
    Ok(StoredTensor {
        file: path.to_owned(),
        shape,
        dtype: dtype.weight,
        stored_dtype: dtype.name.to_owned(),
        values: Values::InStorage(Arc::clone(storage), range, strided),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::tensor::TensorData;
    use serde::Deserialize;

    use super::*;
    use crate::mutations;

    #[derive(Deserialize)]
    struct Expected {
        shape: Vec<usize>,
        values: Vec<f64>,
    }

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch_files")
    }

    /// The values of a tensor of any dtype.
    fn values(tensor: &StoredTensor) -> Vec<f64> {
        let bytes = tensor.bytes().unwrap();
        match (tensor.dtype, tensor.stored_dtype.as_str()) {
            (Some(dtype), _) => {
                let bytes = burn::tensor::Bytes::from_bytes_vec(bytes.to_vec());
                let data = TensorData::from_bytes(bytes, tensor.shape.clone(), dtype.burn());
                data.convert::<f64>().try_into_vec().unwrap()
            }
            (None, "F64") => bytes
                .chunks(8)
                .map(|n| f64::from_le_bytes(n.try_into().unwrap()))
                .collect(),
            (None, "I64") => bytes
                .chunks(8)
                .map(|n| i64::from_le_bytes(n.try_into().unwrap()) as f64)
                .collect(),
            (None, "U16") => bytes
                .chunks(2)
                .map(|n| f64::from(u16::from_le_bytes(n.try_into().unwrap())))
                .collect(),
            (None, "BOOL") => bytes.iter().map(|&n| f64::from(n)).collect(),
            // 1.5 and -2.0.
            (None, "F8_E4M3") => bytes
                .iter()
                .map(|&n| if n == 0x3c { 1.5 } else { f64::from(n) - 194.0 })
                .collect(),
            (None, other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_way_torch_saves() {
        let json = std::fs::read(folder().join("expected.json")).unwrap();
        let files: BTreeMap<String, BTreeMap<String, Expected>> =
            serde_json::from_slice(&json).unwrap();
        assert_eq!(files.len(), 16);
        for (name, tensors) in files {
            let path = folder().join(format!("{name}.bin"));
            let found = crate::WeightFiles::open_single(&path).unwrap();
            assert_eq!(found.len(), tensors.len(), "{name}");
            for (key, expected) in tensors {
                let tensor = found.get(&key).unwrap();
                assert_eq!(tensor.shape, expected.shape, "{name} {key}");
                // The JSON's decimals are exact in 32 bits.
                let exact = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
                let (found, wanted) = (exact(&values(tensor)), exact(&expected.values));
                assert_eq!(found, wanted, "{name} {key}");
            }
        }
    }

    #[test]
    fn what_is_no_tensor_is_named() {
        for (name, expected) in [
            (
                "nested",
                "`state_dict` is a dictionary; the tensors have to be at the root",
            ),
            ("number", "`epoch` is an integer"),
            ("negated", "flag `neg`"),
            (
                "sparse",
                "`weight` is a `torch._utils._rebuild_sparse_tensor`, which is not run",
            ),
        ] {
            let path = folder().join(format!("refused_{name}.bin"));
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }

    #[test]
    fn mutated_files_are_read_or_refused() {
        let files = std::fs::read_dir(folder())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|e| e == "bin"))
            .collect();
        files.sort();
        let files: Vec<Vec<u8>> = files
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        // The pickles alone as well: most changes of an archive are not in it.
        let pickles: Vec<Vec<u8>> = files
            .iter()
            .filter_map(|file| {
                Some(
                    Archive::open(&file.clone().into())
                        .ok()?
                        .pickle()
                        .ok()?
                        .to_vec(),
                )
            })
            .collect();
        assert!(pickles.len() > 10);
        let mut read_whole = 0;
        for number in 0..mutations::count() {
            let file = Bytes::from(mutations::mutated(&files, number));
            if let Ok(tensors) = read(Path::new("x.bin"), &file) {
                read_whole += 1;
                for tensor in tensors.values() {
                    let length = tensor.bytes().map_or(0, |bytes| bytes.len());
                    assert!(length <= file.len(), "input {number}");
                }
            }
            let _ = pickle::read(&mutations::mutated(&pickles, number));
        }
        assert!(read_whole > 0, "no change was harmless");
    }

    #[test]
    fn a_flipped_bit_in_a_storage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flipped.bin");
        let whole = std::fs::read(self::folder().join("plain.bin")).unwrap();
        let weight = values(&open(&self::folder().join("plain.bin")).unwrap()["0.weight"]);
        let first = (weight[0] as f32).to_le_bytes();
        let at = whole.windows(4).position(|window| window == first).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let tensors = open(&path).unwrap();
        let error = tensors["0.weight"].bytes().unwrap_err().to_string();
        assert!(
            error.contains("CRC-32") && error.contains("flipped.bin"),
            "{error}"
        );
        assert!(tensors["0.bias"].bytes().is_ok());
    }
}
