//! A registry of this workspace's packages, in a folder: what is published, as its users will get it.

use std::{fs, path::Path, process::Command};

use crate::{
    command::{Failure, run},
    packages,
};

/// The registry that all other packages come from, as an index calls it.
const CRATES_IO: &str = "\"registry\":\"https://github.com/rust-lang/crates.io-index\"";
/// A package of the same registry.
const HERE: &str = "\"registry\":null";

/// Makes the registry: `index`, a git repository in cargo's format, and `crates` with the packages. A project uses it by
/// `registries.NAME.index = "file://FOLDER/index"` in its `.cargo/config.toml`.
///
/// Cargo keeps what it took from a registry under the address of its index. A registry made again in the same place with the
/// same versions is not looked at again: make it in a new folder.
///
/// # Errors
/// There is something in the folder, a crate cannot be packed, or git cannot be run.
pub(crate) fn make(root: &Path, folder: &Path) -> Result<(), Failure> {
    if folder
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Failure::at(
            folder,
            "there is something in it; name a new folder",
        ));
    }
    let (index, crates) = (folder.join("index"), folder.join("crates"));
    for folder in [&index, &crates] {
        fs::create_dir_all(folder).map_err(|error| Failure::at(folder, error))?;
    }
    let target = folder.join("target");
    for package in packages::pack(root, &target)? {
        let kept = crates.join(package.file_name().unwrap_or_default());
        fs::copy(&package, &kept).map_err(|error| Failure::at(&kept, error))?;
    }
    copy_index(&target.join("package/tmp-registry/index"), &index)?;
    let crates = crates
        .canonicalize()
        .map_err(|error| Failure::at(&crates, error))?;
    let config = index.join("config.json");
    let place = format!(
        "{{ \"dl\": \"file://{}/{{crate}}-{{version}}.crate\" }}\n",
        crates.display()
    );
    fs::write(&config, place).map_err(|error| Failure::at(&config, error))?;
    for words in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &[
            "-c",
            "user.name=registry",
            "-c",
            "user.email=registry@localhost",
            "commit",
            "--quiet",
            "--message=Packages",
        ],
    ] {
        run(Command::new("git").args(words).current_dir(&index))?;
    }
    fs::remove_dir_all(&target).map_err(|error| Failure::at(&target, error))
}

/// Copies the lines that cargo wrote about the packages. It takes all dependencies to be on crates.io; ours are here.
fn copy_index(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| Failure::at(to, error))?;
    let entries = fs::read_dir(from).map_err(|error| Failure::at(from, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Failure::at(from, error))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_index(&from, &to)?;
            continue;
        }
        let text = fs::read_to_string(&from).map_err(|error| Failure::at(&from, error))?;
        fs::write(&to, with_own(&text)).map_err(|error| Failure::at(&to, error))?;
    }
    Ok(())
}

/// A line of the index with this workspace's packages in the same registry.
fn with_own(line: &str) -> String {
    let mut parts = line.split("{\"name\":\"");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str("{\"name\":\"");
        if part.starts_with("gallery-gpt") {
            whole.push_str(&part.replacen(CRATES_IO, HERE, 1));
        } else {
            whole.push_str(part);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::with_own;

    #[test]
    fn own_dependencies_are_in_the_same_registry() {
        let dependency = |name: &str, registry: &str| {
            format!("{{\"name\":\"{name}\",\"req\":\"^1\",{registry}}}")
        };
        let line = |text: &str, burn: &str| {
            format!("{{\"name\":\"gallery-gpt\",\"deps\":[{text},{burn}]}}")
        };
        let burn = dependency("burn", super::CRATES_IO);
        let packed = line(&dependency("gallery-gpt-text", super::CRATES_IO), &burn);
        assert_eq!(
            with_own(&packed),
            line(&dependency("gallery-gpt-text", super::HERE), &burn)
        );
    }
}
