//! Models by their names on the hub, where the hub's cache has them.

use std::{
    env::var_os,
    path::{Path, PathBuf},
};

use gallery_gpt::checkpoint::{CheckpointError, find_model};

/// The folder that a model's name stands for: the folder of that name, or a snapshot in the hub's cache. A name that is neither stays
/// as it is; whatever opens it reports it.
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
