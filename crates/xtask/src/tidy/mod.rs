//! The written rules of this repository, each finding with its file and line.

mod circles;
mod code;
mod floors;
mod layout;
mod links;
mod manifests;
mod promises;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::command::Failure;
use code::Source;

/// What breaks a rule.
#[derive(Debug)]
struct Finding {
    /// From the repository's root.
    file: String,
    /// Counted from 1; 0 where it is about the whole file.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// The repository's own text files.
struct Repository {
    root: PathBuf,
    sources: Vec<Source>,
    /// Path from the root and text of every Markdown file.
    pages: Vec<(String, String)>,
    /// Name of the folder in `crates` and text of the manifest of every crate.
    manifests: Vec<(String, String)>,
}

/// Folders that hold nothing of the repository's own writing.
const FOREIGN: [&str; 4] = ["target", "runs", "goldens", "fixtures"];

/// Checks every rule.
///
/// # Errors
/// One is broken, or a file cannot be read.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let repository = Repository::read(root)?;
    let mut findings = Vec::new();
    for rule in [
        layout::check,
        promises::check,
        circles::check,
        floors::check,
        manifests::check,
        links::check,
    ] {
        rule(&repository, &mut findings);
    }
    if findings.is_empty() {
        let (sources, pages) = (repository.sources.len(), repository.pages.len());
        println!("tidy: {sources} source files and {pages} pages keep the rules");
        return Ok(());
    }
    findings.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(Failure(format!("tidy: {} findings", findings.len())))
}

impl Repository {
    fn read(root: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        walk(root, &mut files)?;
        files.sort();
        let mut repository = Self {
            root: root.to_owned(),
            sources: Vec::new(),
            pages: Vec::new(),
            manifests: Vec::new(),
        };
        for path in files {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let name = inside.to_string_lossy().replace('\\', "/");
            let read = || {
                std::fs::read_to_string(&path).map_err(|error| Failure(format!("{name}: {error}")))
            };
            if name.ends_with(".rs") {
                repository.sources.push(Source::new(&name, read()?));
            } else if name.ends_with(".md") {
                repository.pages.push((name.clone(), read()?));
            } else if let Some(folder) = crate_of_manifest(&name) {
                repository.manifests.push((folder.to_owned(), read()?));
            }
        }
        let tests: Vec<String> = repository
            .sources
            .iter()
            .flat_map(Source::test_files)
            .collect();
        for source in &mut repository.sources {
            source.join_tests(&tests);
        }
        Ok(repository)
    }
}

/// The folder of a crate's manifest in `crates`.
fn crate_of_manifest(name: &str) -> Option<&str> {
    let folder = name.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!folder.contains('/')).then_some(folder)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure(format!("{}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || FOREIGN.contains(&name.as_str()) {
            // `goldens` and `fixtures` have pages about themselves.
            let own = entry.path().join("README.md");
            if own.is_file() {
                files.push(own);
            }
            continue;
        }
        // Links are not followed: what they name is found in its own place.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
