//! Models by their names on the hub, where the hub's cache has them.

use std::{
    env::var_os,
    path::{Path, PathBuf},
};

use gallery_gpt::checkpoint::{CheckpointError, find_model};

/// The base of every program that is not told another.
pub(crate) const TINY_BASE: &str = "datasets/tiny-base";

/// The folder that is meant by a model's name, as [`cached_folder`] finds it; the default base has to be there.
///
/// # Errors
/// The cache has several revisions and none of them is main, or the default base is not there.
pub(crate) fn model_folder(name: &str) -> Result<PathBuf, String> {
    let folder = cached_folder(name)?;
    if name == TINY_BASE && !folder.exists() {
        return Err(
            "the default base is relative: run in the repository or give --base".to_owned(),
        );
    }
    Ok(folder)
}

/// The folder that is meant by a model's name: itself, or a snapshot in the hub's cache. What is neither stays as it is, for the
/// program that opens it to say so.
///
/// # Errors
/// The cache has several revisions and none of them is main.
pub(crate) fn cached_folder(name: &str) -> Result<PathBuf, String> {
    match find_model(name, cache().as_deref()) {
        Err(CheckpointError::NoFolder { path, .. }) => Ok(path),
        found => found.map_err(|error| error.to_string()),
    }
}

/// Where `hf download` puts what it downloads.
fn cache() -> Option<PathBuf> {
    let folder = |name| {
        var_os(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let home = || {
        let home = folder("HOME").or(folder("USERPROFILE"));
        folder("XDG_CACHE_HOME").or(home.map(|home| home.join(".cache")))
    };
    let hub = |folder: &Path| folder.join("hub");
    folder("HF_HUB_CACHE")
        .or(folder("HUGGINGFACE_HUB_CACHE"))
        .or(folder("HF_HOME").map(|home| hub(&home)))
        .or(home().map(|cache| hub(&cache.join("huggingface"))))
}
