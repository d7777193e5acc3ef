//! The pictures that a command line means.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// Files as they are, folders' pictures and what fits a pattern by name; each once. What a folder has besides is named on standard
/// error.
pub(crate) fn named(arguments: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures: Vec<PathBuf> = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        let found = if path.is_dir() {
            in_folder(path)?
        } else if path.exists() || !argument.contains(['*', '?', '[']) {
            if ["http://", "https://"]
                .iter()
                .any(|start| argument.starts_with(start))
            {
                bail!("{argument}: pictures are not downloaded; give a file");
            }
            vec![path.to_owned()]
        } else {
            let found = glob::glob(argument).with_context(|| argument.clone())?;
            let found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
            found.filter(|path| path.is_file()).collect()
        };
        ensure!(!found.is_empty(), "no picture in {argument}");
        for picture in found {
            if !pictures.contains(&picture) {
                pictures.push(picture);
            }
        }
    }
    Ok(pictures)
}

/// The pictures of a folder; what else it has is named.
fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let ending = path
            .extension()
            .map(|end| end.to_string_lossy().to_lowercase());
        if path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            found.push(path);
        } else {
            note!("left out: {}", path.display());
        }
    }
    found.sort();
    Ok(found)
}
