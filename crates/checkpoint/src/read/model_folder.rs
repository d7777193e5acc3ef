//! The folder of a model, by its path or its name on the hub; other paths are refused with what they are.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::CheckpointError;

/// Finds the folder of a model: the path itself if it exists, else for a name such as `llava-hf/llava-1.5-7b-hf` the snapshot in the
/// hub's cache that `main` refers to, or the only one. Nothing is downloaded.
///
/// # Errors
/// There is neither, or there are several snapshots and `main` refers to none of them.
pub fn find_model(
    name: impl AsRef<Path>,
    hub_cache: Option<&Path>,
) -> Result<PathBuf, CheckpointError> {
    let name = name.as_ref();
    if name.exists() {
        return Ok(name.to_owned());
    }
    let missing = || CheckpointError::NoFolder {
        path: name.to_owned(),
        is_hub_name: is_hub_name(name),
    };
    let (Some(cache), true) = (hub_cache, is_hub_name(name)) else {
        return Err(missing());
    };
    let snapshots = snapshots(cache, &name.to_string_lossy());
    match &snapshots[..] {
        [] => Err(missing()),
        [only] => Ok(only.clone()),
        several => Err(CheckpointError::NotAModel {
            path: name.to_owned(),
            found: "in the hub's cache in several revisions, and none of them is main",
            instead: format!(
                "name the folder of one: {}",
                several
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }),
    }
}

/// The snapshots of a model in the hub's cache: the one that `main` refers to, or all if that is not known.
pub(crate) fn snapshots(cache: &Path, name: &str) -> Vec<PathBuf> {
    // `models--ORG--NAME/snapshots/REVISION`, and the revision's name in `refs/main`.
    let model = cache.join(format!("models--{}", name.replace('/', "--")));
    let snapshots = model.join("snapshots");
    if let Ok(revision) = fs::read_to_string(model.join("refs/main")) {
        let main = snapshots.join(revision.trim());
        if !revision.trim().is_empty() && main.is_dir() {
            return vec![main];
        }
    }
    let revisions = fs::read_dir(snapshots).into_iter().flatten();
    let mut revisions: Vec<PathBuf> = revisions
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    revisions.sort();
    revisions
}

/// `ORG/NAME`, as models are called on the hub.
fn is_hub_name(path: &Path) -> bool {
    let parts: Vec<Component<'_>> = path.components().collect();
    matches!(parts[..], [Component::Normal(_), Component::Normal(_)])
        && path.to_str().is_some_and(|name| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        })
}

/// Refuses a path that is recognisably something other than a model's folder.
pub(crate) fn check(folder: &Path) -> Result<(), CheckpointError> {
    let not_a_model = |found, instead: String| CheckpointError::NotAModel {
        path: folder.to_owned(),
        found,
        instead,
    };
    if !folder.exists() {
        return Err(CheckpointError::NoFolder {
            path: folder.to_owned(),
            is_hub_name: is_hub_name(folder),
        });
    }
    if folder.is_file() {
        return Err(not_a_model("a file", "name the folder it is in".to_owned()));
    }
    let has = |name: &str| folder.join(name).exists();
    let has_weights = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]
    .into_iter()
    .any(has);
    if has_weights {
        return Ok(());
    }
    if has("adapter_config.json") || has("adapter_model.safetensors") || has("adapter_model.bin") {
        return Err(not_a_model(
            "an adapter",
            "name the base it was trained on, and the adapter beside it".to_owned(),
        ));
    }
    if has("checkpoints") || (has("adapter") && has("log.jsonl")) {
        return Err(not_a_model(
            "the folder of a training run",
            "name the base that was trained, and the folder adapter in this one as the adapter"
                .to_owned(),
        ));
    }
    if has("refs") && has("snapshots") {
        return Err(not_a_model(
            "a model's place in the hub's cache",
            "name one of its snapshots, or the model by its name on the hub".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_the_hub_is_found_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let name = "some-org/some.model-7b";
        let error = find_model(name, Some(cache.path()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("hf download some-org/some.model-7b"),
            "{error}"
        );
        let error = find_model("./no/such", None).unwrap_err().to_string();
        assert!(error.ends_with("no such folder: ./no/such"), "{error}");

        let model = cache.path().join("models--some-org--some.model-7b");
        let [one, two] = ["aa11", "bb22"].map(|name| model.join("snapshots").join(name));
        fs::create_dir_all(&one).unwrap();
        assert_eq!(find_model(name, Some(cache.path())).unwrap(), one);
        fs::create_dir_all(&two).unwrap();
        let error = find_model(name, Some(cache.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("aa11") && error.contains("bb22"), "{error}");
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), "bb22").unwrap();
        assert_eq!(find_model(name, Some(cache.path())).unwrap(), two);
        assert_eq!(find_model(cache.path(), None).unwrap(), cache.path());
    }

    #[test]
    fn what_is_no_model_is_said() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, files: &[&str]| {
            let folder = root.path().join(name);
            for file in files {
                fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
                fs::write(folder.join(file), "{}").unwrap();
            }
            folder
        };
        for (path, expected) in [
            (
                folder("a", &["adapter_config.json", "config.json"]),
                "an adapter",
            ),
            (
                folder(
                    "r",
                    &["config.json", "log.jsonl", "adapter/adapter_config.json"],
                ),
                "a training run",
            ),
            (
                folder("c", &["refs/main", "snapshots/x/config.json"]),
                "the hub's cache",
            ),
            (folder("f", &["config.json"]).join("config.json"), "a file"),
            (root.path().join("nothing"), "no such folder"),
        ] {
            let error = check(&path).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains(&*path.to_string_lossy()),
                "{error}"
            );
        }
        check(&folder("m", &["model.safetensors", "adapter_config.json"])).unwrap();
        check(&folder("e", &["readme"])).unwrap();
    }
}
