//! The weights of a folder: one file or shards, safetensors or PyTorch's, recognised by their contents.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    CheckpointError, Layout, StoredTensor,
    error::read_error,
    file::{
        json::read_json_as,
        regular::{self, is_git_lfs_pointer},
    },
    format::{pytorch, safetensors},
};

/// All tensors of a folder by name.
#[derive(Clone, Debug)]
pub struct WeightFiles {
    folder: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
    unread: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The usual names of a file of weights and of an index of shards.
const SAFETENSORS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
const PYTORCH: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

impl WeightFiles {
    /// Opens the weights of a model's folder. If the folder has the same tensors in both formats, safetensors are read;
    /// [`WeightFiles::unread`] names the others.
    ///
    /// # Errors
    /// The folder has no weights, or different tensors in the two formats; a file is damaged; or the index and the shards contradict each
    /// other.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        let safetensors = open_kind(folder, SAFETENSORS)?;
        let pytorch = open_kind(folder, PYTORCH)?;
        let (tensors, unread) = match (safetensors, pytorch) {
            (Some((tensors, _)), None) | (None, Some((tensors, _))) => (tensors, Vec::new()),
            (Some((tensors, _)), Some((others, unread))) => {
                let names = |tensors: &BTreeMap<String, StoredTensor>| {
                    let names = tensors.keys().filter(|key| !Layout::is_ignored(key));
                    names.cloned().collect::<BTreeSet<_>>()
                };
                if let Some(key) = names(&tensors).symmetric_difference(&names(&others)).next() {
                    return Err(CheckpointError::TwoCheckpoints {
                        folder: folder.to_owned(),
                        files: format!("{} and {}", SAFETENSORS[0], PYTORCH[0]),
                        key: key.clone(),
                    });
                }
                (tensors, vec![unread])
            }
            (None, None) => {
                return Err(CheckpointError::NoWeights {
                    folder: folder.to_owned(),
                    expected: "model.safetensors or pytorch_model.bin, or an index of shards of one of them",
                    found: folder_listing(folder)?,
                });
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            tensors,
            unread,
        })
    }

    /// Opens one file of either format.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open_single(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Ok(Self {
            folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
            tensors: open_file(path)?,
            unread: Vec::new(),
        })
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Files with the same tensors in the other format, which were not read.
    #[must_use]
    pub fn unread(&self) -> &[PathBuf] {
        &self.unread
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

type Tensors = BTreeMap<String, StoredTensor>;

/// The tensors in one format, with the path of the file or index, if the folder has it.
fn open_kind(
    folder: &Path,
    [single, index]: [&str; 2],
) -> Result<Option<(Tensors, PathBuf)>, CheckpointError> {
    let (single_path, index_path) = (folder.join(single), folder.join(index));
    match (single_path.is_file(), index_path.is_file()) {
        (true, true) => Err(CheckpointError::NoWeights {
            folder: folder.to_owned(),
            expected: "one file, or an index of shards",
            found: format!("both {single} and {index}; remove the one that is not meant"),
        }),
        (true, false) => Ok(Some((open_file(&single_path)?, single_path))),
        (false, true) => Ok(Some((open_shards(folder, &index_path)?, index_path))),
        (false, false) => Ok(None),
    }
}

pub(crate) fn folder_listing(folder: &Path) -> Result<String, CheckpointError> {
    let entries = std::fs::read_dir(folder).map_err(read_error(folder))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.iter().any(|name| name.starts_with("adapter_model.")) {
        return Ok("an adapter; it needs its base, which has to be named too".to_owned());
    }
    Ok(if names.is_empty() {
        "an empty folder".to_owned()
    } else {
        names.join(", ")
    })
}

/// Opens a file by its contents, whatever its name.
pub(crate) fn open_file(path: &Path) -> Result<Tensors, CheckpointError> {
    let read = read_error(path);
    let mut head = Vec::new();
    let file = regular::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    file.take(512).read_to_end(&mut head).map_err(read)?;
    let malformed = |found: &str| CheckpointError::Malformed {
        path: path.to_owned(),
        expected: "file of weights",
        found: format!("{found}; expected safetensors, or what torch.save writes"),
    };
    // A safetensors file begins with the length of its header, which is a JSON object.
    let is_safetensors = head
        .first_chunk::<8>()
        .is_some_and(|&header| head.get(8) == Some(&b'{') && u64::from_le_bytes(header) < length);
    match &head[..] {
        _ if is_git_lfs_pointer(&head) => Err(CheckpointError::GitLfsPointer {
            path: path.to_owned(),
        }),
        _ if is_safetensors => safetensors::open(path),
        // An archive, or the pickles that PyTorch wrote before 1.6.
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => pytorch::open(path),
        [b'G', b'G', b'U', b'F', ..] => Err(malformed("a GGUF file")),
        [0x89, b'H', b'D', b'F', ..] => Err(malformed("an HDF5 file, as TensorFlow's")),
        [0x1f, 0x8b, ..] => Err(malformed("a file compressed with gzip")),
        _ if head.get(257..262) == Some(b"ustar") => {
            Err(malformed("a tar archive, as of PyTorch before 0.1.10"))
        }
        _ if head.trim_ascii_start().starts_with(b"<") => Err(malformed(
            "a web page or XML; the server answered the download with something else",
        )),
        _ => safetensors::open(path),
    }
}

fn open_shards(folder: &Path, index_path: &Path) -> Result<Tensors, CheckpointError> {
    let index: Index = read_json_as(index_path, "index of shards")?;
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
    // A tensor in a shard that the index does not name would otherwise be dropped silently.
    for (name, rest) in &shards {
        if let Some(key) = rest.keys().find(|key| !Layout::is_ignored(key)) {
            return Err(contradiction(
                key,
                name,
                "where it is, but the index does not name it",
            ));
        }
    }
    Ok(tensors)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::{file::json::read_json, sha256_file};

    /// Tested with a device, which is not a regular file either, because a reader that does open it fails the test instead of waiting
    /// for ever as on a pipe.
    #[test]
    fn only_regular_files_are_read() {
        let device = Path::new("/dev/zero");
        let refused = |error: Option<CheckpointError>| {
            let error = error.unwrap().to_string();
            assert!(error.contains("/dev/zero"), "{error}");
            assert!(error.contains("not a file"), "{error}");
        };
        refused(read_json(device).err());
        refused(safetensors::open(device).err());
        refused(open_file(device).err());
        refused(sha256_file(device).err());
    }
}
