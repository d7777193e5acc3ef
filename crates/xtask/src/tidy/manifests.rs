//! What every published crate has, and the index of the examples.

use super::{Finding, Repository};

/// The page that lists the examples.
const INDEX: &str = "examples/README.md";

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    for (folder, manifest) in &repository.manifests {
        published(repository, folder, manifest, findings);
    }
    examples(repository, findings);
    quickstart(repository, findings);
}

fn published(repository: &Repository, folder: &str, manifest: &str, findings: &mut Vec<Finding>) {
    let has = |field: &str| {
        let lines = manifest.lines();
        lines
            .map(str::trim_start)
            .any(|line| line.starts_with(field))
    };
    let mut wanted = vec![
        "description = ",
        "version.workspace",
        "edition.workspace",
        "rust-version.workspace",
        "license.workspace",
        "workspace = true",
    ];
    let is_published = !has("publish = false");
    if is_published {
        wanted.extend(["keywords = ", "categories = "]);
        for file in ["README.md", "LICENSE"] {
            let path = format!("crates/{folder}/{file}");
            if !repository.root.join(&path).is_file() {
                findings.push(Finding {
                    file: path,
                    line: 0,
                    message: "is not there, and the crate is published".to_owned(),
                });
            }
        }
    }
    for field in wanted.into_iter().filter(|field| !has(field)) {
        findings.push(Finding {
            file: format!("crates/{folder}/Cargo.toml"),
            line: 0,
            message: format!("has no line {field:?}"),
        });
    }
}

/// The example that the README prints, from its first `use` on.
const QUICKSTART: &str = "examples/quickstart.rs";

/// The README's Rust program is the example, word for word, and under 40 lines.
fn quickstart(repository: &Repository, findings: &mut Vec<Finding>) {
    let mut report = |message: String| {
        findings.push(Finding {
            file: "README.md".to_owned(),
            line: 0,
            message,
        });
    };
    let page = repository
        .pages
        .iter()
        .find(|(name, _)| name == "README.md");
    let printed = page.and_then(|(_, text)| text.split("```rust\n").nth(1)?.split("```").next());
    let example = repository
        .sources
        .iter()
        .find(|source| source.name == QUICKSTART);
    let example = example.and_then(|source| Some(&source.text[source.text.find("\nuse ")? + 1..]));
    match (printed, example) {
        (Some(printed), Some(example)) if printed == example => {
            let lines = printed.lines().count();
            if lines >= 40 {
                report(format!(
                    "the program has {lines} lines, expected fewer than 40"
                ));
            }
        }
        _ => report(format!("the program is not that of {QUICKSTART}")),
    }
}

/// Every program in `examples` has its row in the index, and every row its program.
fn examples(repository: &Repository, findings: &mut Vec<Finding>) {
    let programs: Vec<&str> = repository
        .sources
        .iter()
        .filter(|source| source.code.contains("fn main("))
        .filter_map(|source| source.name.strip_prefix("examples/"))
        .collect();
    let page = repository.pages.iter().find(|(name, _)| name == INDEX);
    let text = page.map_or("", |(_, text)| text.as_str());
    for program in &programs {
        if !text.contains(&format!("({program})")) {
            findings.push(Finding {
                file: INDEX.to_owned(),
                line: 0,
                message: format!("does not list {program}"),
            });
        }
    }
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with('|'))
    {
        let mut targets = line.split("](").skip(1);
        let listed = targets.next().and_then(|rest| rest.split(')').next());
        let Some(listed) = listed.filter(|listed| listed.ends_with(".rs")) else {
            continue;
        };
        if !programs.contains(&listed) {
            findings.push(Finding {
                file: INDEX.to_owned(),
                line: number + 1,
                message: format!("there is no program {listed}"),
            });
        }
    }
}
