//! The packages that are published: what each weighs, and that it has its licence.

use std::path::{Path, PathBuf};

use crate::command::{Failure, cargo, output, run};

/// Bytes that no package passes: ten times less than what crates.io takes.
const LARGEST: u64 = 1_000_000;

/// Packs every published crate and prints its size.
///
/// # Errors
/// A crate cannot be packed, has no licence file or no readme, or is too large.
pub(crate) fn weigh(root: &Path) -> Result<(), Failure> {
    let packages = pack(root, &root.join("target"))?;
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let bytes = package
            .metadata()
            .map_err(|error| Failure::at(package, error))?
            .len();
        println!("{:>8.1} kB  {name}", bytes as f64 / 1e3);
        if bytes > LARGEST {
            wrong.push(format!("{name} has more than {LARGEST} bytes"));
        }
        let mut list = std::process::Command::new("tar");
        let files = output(list.arg("-tzf").arg(package))?;
        for file in ["LICENSE", "README.md", "Cargo.toml"] {
            let ending = format!("/{file}");
            if !files.lines().any(|line| line.ends_with(&ending)) {
                wrong.push(format!("{name} has no {file}"));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure(wrong.join("\n"))),
    }
}

/// Packs every published crate into a target folder: the packages, by name. Beside them, in `package/tmp-registry`, cargo leaves
/// the index that it resolves them by.
///
/// # Errors
/// One cannot be packed.
pub(crate) fn pack(root: &Path, target: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = target.join("package");
    // What is there may be of another version.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Failure::at(&folder, error))?;
    }
    let mut command = cargo(root);
    command.args([
        "package",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-verify",
    ]);
    command.args(["--allow-dirty", "--target-dir"]).arg(target);
    for name in unpublished(root)? {
        command.args(["--exclude", &name]);
    }
    run(&mut command)?;
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| Failure::at(&folder, error))? {
        let path = entry.map_err(|error| Failure::at(&folder, error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "crate")
        {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

/// Names of the workspace's packages that are not published.
fn unpublished(root: &Path) -> Result<Vec<String>, Failure> {
    let crates = root.join("crates");
    let entries = std::fs::read_dir(&crates).map_err(|error| Failure::at(&crates, error))?;
    let mut folders = vec![root.join("examples"), root.join("benches")];
    for entry in entries {
        folders.push(entry.map_err(|error| Failure::at(&crates, error))?.path());
    }
    let mut names = Vec::new();
    for manifest in folders.iter().map(|folder| folder.join("Cargo.toml")) {
        let text = match std::fs::read_to_string(&manifest) {
            Ok(text) => text,
            Err(error) => return Err(Failure::at(&manifest, error)),
        };
        let name = text.lines().find_map(|line| line.strip_prefix("name = "));
        if text.lines().any(|line| line == "publish = false") {
            names.extend(name.map(|name| name.trim_matches('"').to_owned()));
        }
    }
    Ok(names)
}
