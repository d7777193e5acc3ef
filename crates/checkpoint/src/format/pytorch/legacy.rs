//! The format of `torch.save` before PyTorch 1.6, and with `_use_new_zipfile_serialization=False`: five pickles, then the storages one
//! after the other, each preceded by its length.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    element_type, pickle,
    value::{Pickle, Value},
};
use crate::tensor::storage::Storage;

/// The magic number that such a file begins with, little endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// The main pickle and the storages by their keys.
pub(super) fn open(file: &Bytes) -> Result<(Pickle<'_>, HashMap<&str, Arc<Storage>>), String> {
    let mut at = 0;
    let next = |length: &mut usize| -> Result<Pickle<'_>, String> {
        let pickle = pickle::read(&file[*length..])?;
        *length += pickle.length;
        Ok(pickle)
    };
    if next(&mut at)?.root != Some(Value::Long(&MAGIC)) {
        return Err("a pickle that torch.save did not write".to_owned());
    }
    if next(&mut at)?.root != Some(Value::Int(VERSION)) {
        return Err(format!("a version other than {VERSION}"));
    }
    let system = next(&mut at)?;
    if let Some(Value::Dictionary(system_info)) = system.root
        && system.dictionaries[system_info]
            .contains(&(Value::Text("little_endian"), Value::Bool(false)))
    {
        return Err("values of a big-endian machine".to_owned());
    }
    let main = next(&mut at)?;
    let keys = next(&mut at)?;
    let Some(Value::Sequence(order)) = keys.root else {
        return Err("no list of storages after the tensors".to_owned());
    };
    let mut sizes = HashMap::new();
    for storage in &main.storages {
        sizes.insert(storage.key, element_type(storage.kind)?.size);
    }
    let mut storages = HashMap::new();
    for key in &keys.sequences[order] {
        let Value::Text(key) = *key else {
            return Err("a storage whose name is not a string".to_owned());
        };
        let size = sizes
            .get(key)
            .ok_or("a storage that belongs to no tensor")?;
        let head = file.get(at..at.saturating_add(8));
        let head: [u8; 8] = head
            .and_then(|head| head.try_into().ok())
            .ok_or_else(|| format!("a file that ends before storage {key}"))?;
        at += 8;
        let bytes = usize::try_from(u64::from_le_bytes(head)).ok();
        let end = bytes
            .and_then(|length| length.checked_mul(*size))
            .and_then(|bytes| at.checked_add(bytes))
            .filter(|&end| end <= file.len())
            .ok_or_else(|| format!("a file that ends within storage {key}"))?;
        storages.insert(key, Arc::new(Storage::new(file.slice(at..end), None)));
        at = end;
    }
    Ok((main, storages))
}
