//! The format of `torch.save` since PyTorch 1.6: a zip archive of stored entries, `NAME/data.pkl` and `NAME/data/KEY`.

use std::{collections::BTreeMap, io::Cursor, sync::Arc};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use crate::tensor::storage::Storage;

/// The entries of an archive by their names inside its folder. Nothing is copied.
pub(super) struct Archive(BTreeMap<String, Arc<Storage>>);

impl Archive {
    pub(super) fn open(file: &Bytes) -> Result<Self, String> {
        let mut archive =
            ZipArchive::new(Cursor::new(&file[..])).map_err(|error| error.to_string())?;
        let mut entries = BTreeMap::new();
        let mut folder = None;
        for index in 0..archive.len() {
            let entry = archive
                .by_index_raw(index)
                .map_err(|error| error.to_string())?;
            let name = entry
                .name()
                .map_err(|error| error.to_string())?
                .into_owned();
            if entry.is_dir() {
                continue;
            }
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                return Err(format!(
                    "an archive whose entry {name} is compressed or encrypted; torch.save only stores"
                ));
            }
            // As in PyTorch, the folder is that of the first entry.
            let (first, rest) = name.split_once('/').unwrap_or(("", &name));
            let folder = folder.get_or_insert_with(|| first.to_owned());
            if folder != first {
                return Err(format!("an archive of two folders, {folder} and {first}"));
            }
            let range = entry.data_start().and_then(|start| {
                let start = usize::try_from(start).ok()?;
                let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
                (end <= file.len()).then_some(start..end)
            });
            let range = range.ok_or_else(|| format!("an archive that ends within {name}"))?;
            // 0 where `torch.serialization.set_crc32_options(False)` left it out.
            let crc32 = Some(entry.crc32()).filter(|&crc32| crc32 != 0);
            let storage = Storage::new(file.slice(range), crc32);
            if entries.insert(rest.to_owned(), Arc::new(storage)).is_some() {
                return Err(format!("an archive with two entries {name}"));
            }
        }
        let archive = Self(entries);
        match archive.0.get("byteorder").map(|order| &order.bytes[..]) {
            None | Some(b"little") => Ok(archive),
            Some(_) => Err("values of a big-endian machine".to_owned()),
        }
    }

    /// The pickle that describes the tensors.
    pub(super) fn pickle(&self) -> Result<&Bytes, String> {
        let pickle = self.0.get("data.pkl").map(|entry| &entry.bytes);
        pickle.ok_or_else(|| {
            if self.0.contains_key("constants.pkl") {
                "a TorchScript program; save its state_dict instead".to_owned()
            } else {
                "an archive without data.pkl, which torch.save did not write".to_owned()
            }
        })
    }

    pub(super) fn storage(&self, key: &str) -> Option<&Arc<Storage>> {
        self.0.get(&format!("data/{key}"))
    }
}
