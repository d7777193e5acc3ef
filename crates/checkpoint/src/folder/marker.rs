//! `gallery_gpt.json`: the list of files by which a folder is recognised as written by this library.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    CheckpointError,
    error::read_error,
    file::{
        atomic::PARTIAL,
        json::{read_json_as, write_json},
    },
};

/// Its name. The same JSON object also holds other fields of the writer, such as an adapter's origin.
pub(crate) const MARKER: &str = "gallery_gpt.json";

const FILES: &str = "files";

/// The object in a folder's marker; an empty one if there is none or it cannot be read.
fn read(folder: &Path) -> Map<String, Value> {
    read_json_as(&folder.join(MARKER), "list of files").unwrap_or_default()
}

/// The files that the marker of a folder lists, as paths in it with `/`; none without a marker.
pub(crate) fn listed(folder: &Path) -> BTreeSet<String> {
    let marker = read(folder);
    let files = marker.get(FILES).and_then(Value::as_object);
    files.into_iter().flat_map(Map::keys).cloned().collect()
}

/// Writes a list of files, the marker among them, into the marker of a folder; its other fields are kept. Each file has its SHA-256,
/// if it will not be written again.
pub(crate) fn list(
    folder: &Path,
    files: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<(), CheckpointError> {
    let mut marker = read(folder);
    let files = files.into_iter().chain([(MARKER.to_owned(), None)]);
    let files: Map<String, Value> = files.map(|(name, digest)| (name, json!(digest))).collect();
    marker.insert(FILES.to_owned(), files.into());
    write_json(&folder.join(MARKER), &Value::Object(marker))
}

/// Every file in a folder, as paths in it with `/`.
pub(crate) fn files(folder: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    let mut found = BTreeSet::new();
    for (name, path, is_folder) in entries(folder)? {
        if is_folder {
            let inner = files(&path)?.into_iter();
            found.extend(inner.map(|file| format!("{name}/{file}")));
        } else {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Files of a folder that its marker does not list. A folder with no listed file is named without its contents.
pub(crate) fn foreign(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let listed = listed(folder);
    let mut found = Vec::new();
    collect_foreign(folder, "", &listed, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect_foreign(
    folder: &Path,
    above: &str,
    listed: &BTreeSet<String>,
    found: &mut Vec<String>,
) -> Result<(), CheckpointError> {
    for (name, path, is_folder) in entries(folder)? {
        let name = format!("{above}{name}");
        if is_folder {
            let name = format!("{name}/");
            if listed.iter().any(|file| file.starts_with(&name)) {
                collect_foreign(&path, &name, listed, found)?;
            } else {
                found.push(name);
            }
        } else if !listed.contains(&name) {
            found.push(name);
        }
    }
    Ok(())
}

/// The entries of a folder: name, path, and whether it is a folder (a link to one is not). Leftovers of a killed process are skipped.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, CheckpointError> {
    let unreadable = read_error(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PARTIAL) {
            let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
            found.push((name, entry.path(), is_folder));
        }
    }
    Ok(found)
}
