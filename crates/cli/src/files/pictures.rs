//! The pictures that a command line names.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use gallery_gpt::vision::{ImageProcessor, list_pictures};

/// The pictures that arguments name, each once: files, the pictures of folders, and the files that match a pattern. What else a folder
/// holds is listed on standard error.
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

/// The pictures of a folder, recognized by their contents. What else it holds is listed.
fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listing = list_pictures(folder)?;
    for left_out in &listing.left_out {
        note!("left out: {left_out}");
    }
    Ok(listing.pictures)
}

/// Notes that a picture carries an orientation (EXIF) that is not applied.
pub(crate) fn note_orientation(processor: &ImageProcessor, path: &Path) {
    if processor.config().apply_orientation {
        return;
    }
    let orientation = processor.info(path).map(|info| info.orientation);
    if let Ok(orientation) = orientation
        && !orientation.is_upright()
    {
        note!(
            "{} carries {} that is not applied, as in training; --apply_orientation applies it",
            path.display(),
            orientation.description()
        );
    }
}
