//! Safetensors of a folder, memory-mapped: a tensor is read when it is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::DType;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::CheckpointError;

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

    fn from_file(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::BF16),
            _ => None,
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
    map: Arc<Mmap>,
    start: usize,
    end: usize,
}

impl StoredTensor {
    /// The bytes, little endian, row by row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.end]
    }
}

/// All tensors of a folder by name.
#[derive(Clone, Debug)]
pub struct WeightFiles {
    folder: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

impl WeightFiles {
    /// Maps `model.safetensors`, or the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// The folder has neither, or a file is damaged, or the index and the shards contradict each other.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        let index = folder.join(INDEX);
        let single = folder.join(SINGLE);
        let tensors = match (index.is_file(), single.is_file()) {
            (true, false) => open_shards(folder, &index)?,
            (false, true) => open_file(&single)?,
            (true, true) => {
                return Err(CheckpointError::NoWeights {
                    folder: folder.to_owned(),
                    expected: "one of model.safetensors and model.safetensors.index.json",
                    found: "both; remove the one that is not meant".to_owned(),
                });
            }
            (false, false) => {
                return Err(CheckpointError::NoWeights {
                    folder: folder.to_owned(),
                    expected: "model.safetensors or model.safetensors.index.json",
                    found: folder_listing(folder)?,
                });
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            tensors,
        })
    }

    /// Maps one file.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open_single(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Ok(Self {
            folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
            tensors: open_file(path)?,
        })
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A tensor by the name it has in the file.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&StoredTensor> {
        self.tensors.get(key)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|(key, tensor)| (key.as_str(), tensor))
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

fn folder_listing(folder: &Path) -> Result<String, CheckpointError> {
    let entries = std::fs::read_dir(folder).map_err(|source| CheckpointError::Read {
        path: folder.to_owned(),
        source,
    })?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(if names.is_empty() {
        "an empty folder".to_owned()
    } else {
        names.join(", ")
    })
}

fn open_file(path: &Path) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
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
    let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(read)?);
    let parsed = SafeTensors::deserialize(&map).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        expected: "safetensors file",
        found: error.to_string(),
    })?;
    let base = map.as_ptr() as usize;
    Ok(parsed
        .iter()
        .map(|(key, view)| {
            let start = view.data().as_ptr() as usize - base;
            let tensor = StoredTensor {
                file: path.to_owned(),
                shape: view.shape().to_vec(),
                dtype: TensorDtype::from_file(view.dtype()),
                stored_dtype: format!("{:?}", view.dtype()),
                map: Arc::clone(&map),
                start,
                end: start + view.data().len(),
            };
            (key.to_owned(), tensor)
        })
        .collect())
}

fn open_shards(
    folder: &Path,
    index_path: &Path,
) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let bytes = std::fs::read(index_path).map_err(|source| CheckpointError::Read {
        path: index_path.to_owned(),
        source,
    })?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Malformed {
            path: index_path.to_owned(),
            expected: "safetensors index",
            found: error.to_string(),
        })?;
    let contradiction = |key: &str, shard: &str, found| CheckpointError::Index {
        index: index_path.to_owned(),
        key: key.to_owned(),
        shard: folder.join(shard),
        found,
    };
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let mut shards = BTreeMap::new();
    for name in names {
        let key = index
            .weight_map
            .iter()
            .find_map(|(key, shard)| (shard == name).then_some(key.as_str()))
            .unwrap_or_default();
        if Path::new(name).components().count() != 1 || name.contains("..") {
            return Err(contradiction(key, name, "which is outside the folder"));
        }
        if !folder.join(name).is_file() {
            return Err(contradiction(key, name, "which does not exist"));
        }
        shards.insert(name.clone(), open_file(&folder.join(name))?);
    }
    let mut tensors = BTreeMap::new();
    for (key, shard) in &index.weight_map {
        let tensor = shards
            .get_mut(shard)
            .and_then(|shard| shard.remove(key))
            .ok_or_else(|| contradiction(key, shard, "which does not have it"))?;
        tensors.insert(key.clone(), tensor);
    }
    // A tensor that a shard has and the index does not name would otherwise vanish without a word.
    for (name, rest) in &shards {
        if let Some(key) = rest.keys().next() {
            return Err(contradiction(
                key,
                name,
                "where it is, but the index does not name it",
            ));
        }
    }
    Ok(tensors)
}
