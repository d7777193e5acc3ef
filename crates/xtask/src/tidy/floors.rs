//! Crates depend downwards: the floors are those of the table in `docs/src/architecture.md`.

use super::{Finding, Repository};

/// Where the floors are written down.
const PAGE: &str = "docs/src/architecture.md";
/// Crates of no floor: any crate's tests may use the one, and the other is a program about the repository.
const BESIDE: [&str; 2] = ["testkit", "xtask"];

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    let floors = floors(repository);
    let floor = |folder: &str| {
        let found = floors.iter().find(|(name, _)| name == folder);
        found.map(|(_, floor)| *floor)
    };
    for (name, _) in &floors {
        if !repository
            .manifests
            .iter()
            .any(|(folder, _)| folder == name)
        {
            findings.push(Finding {
                file: PAGE.to_owned(),
                line: 0,
                message: format!("there is no crates/{name}"),
            });
        }
    }
    for (folder, manifest) in &repository.manifests {
        if BESIDE.contains(&folder.as_str()) {
            continue;
        }
        let file = format!("crates/{folder}/Cargo.toml");
        let Some(own) = floor(folder) else {
            let message = format!("has no floor in the table of {PAGE}");
            findings.push(Finding {
                file,
                line: 0,
                message,
            });
            continue;
        };
        for (line, below, is_dev) in dependencies(manifest) {
            let message = match floor(below) {
                _ if below == "testkit" && is_dev => continue,
                // A crate's examples and tests may ask for more features of itself.
                _ if below == folder => continue,
                Some(below) if below < own => continue,
                Some(_) => format!("{folder} depends upwards or sideways on {below}"),
                None => format!("{folder} depends on {below}, which has no floor"),
            };
            findings.push(Finding {
                file: file.clone(),
                line,
                message,
            });
        }
    }
}

/// The first two columns of the table.
fn floors(repository: &Repository) -> Vec<(String, usize)> {
    let page = repository.pages.iter().find(|(name, _)| name == PAGE);
    let lines = page.iter().flat_map(|(_, text)| text.lines());
    let rows = lines.filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let floor = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_matches('`').to_owned();
        Some((name, floor))
    });
    rows.collect()
}

/// The workspace's crates that a manifest depends on: the line, the folder, and whether it is for tests only.
fn dependencies(manifest: &str) -> Vec<(usize, &str, bool)> {
    let mut section = "";
    let mut found = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let is_dev = section == "[dev-dependencies]";
        if !is_dev && section != "[dependencies]" {
            continue;
        }
        if let Some(folder) = name.strip_prefix("gallery-gpt-") {
            found.push((number + 1, folder, is_dev));
        } else if name == "gallery-gpt" {
            found.push((number + 1, name, is_dev));
        }
    }
    found
}
