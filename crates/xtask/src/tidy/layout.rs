//! What a source file looks like: its first sentence, its length, its name, and how it joins others.

use super::{Finding, Repository, code::Source};

/// Lines that no source file passes.
const LINES: usize = 500;

/// Files that are longer, and may not grow: the most lines of each, and why. An entry goes when its file is short enough.
const LONG: &[(&str, usize, &str)] = &[];

/// Names that say nothing of what a module holds.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    for source in &repository.sources {
        first_sentence(source, findings);
        length(source, findings);
        name(source, findings);
        paths(source, findings);
    }
    for (name, _, reason) in LONG {
        if !repository.sources.iter().any(|source| source.name == *name) {
            findings.push(Finding {
                file: (*name).to_owned(),
                line: 0,
                message: format!("is not there; take it off the list of long files ({reason})"),
            });
        }
    }
}

fn first_sentence(source: &Source, findings: &mut Vec<Finding>) {
    let first = source.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") {
        findings.push(Finding {
            file: source.name.clone(),
            line: 1,
            message: "begins without a `//!` sentence that says what the file is".to_owned(),
        });
    }
}

fn length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    let listed = LONG.iter().find(|(name, ..)| *name == source.name);
    let message = match listed {
        Some((_, _, reason)) if lines <= LINES => {
            format!("has {lines} lines; take it off the list of long files ({reason})")
        }
        Some((_, most, _)) if lines > *most => {
            format!("has {lines} lines, and may not have more than its {most}")
        }
        None if lines > LINES => format!("has {lines} lines, expected at most {LINES}"),
        _ => return,
    };
    findings.push(Finding {
        file: source.name.clone(),
        line: 0,
        message,
    });
}

fn name(source: &Source, findings: &mut Vec<Finding>) {
    let modules = source.name.trim_end_matches(".rs").split('/');
    for module in modules.filter(|module| EMPTY_NAMES.contains(module)) {
        findings.push(Finding {
            file: source.name.clone(),
            line: 0,
            message: format!("{module:?} says nothing of what the module holds"),
        });
    }
}

/// Files are joined by modules and crates: what is wanted in two places is a library.
fn paths(source: &Source, findings: &mut Vec<Finding>) {
    for (offset, _) in source.code.match_indices("#[path") {
        findings.push(Finding {
            file: source.name.clone(),
            line: source.line(offset),
            message: "joins a file by its path; make it a module or a crate".to_owned(),
        });
    }
}
