//! Links between the pages of this repository: files and headings that are not there.

use std::{collections::HashSet, path::Path};

use super::{Finding, Repository};

/// The pages of the book, and its table of contents.
const BOOK: &str = "docs/src/";
const SUMMARY: &str = "docs/src/SUMMARY.md";

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    for (name, text) in &repository.pages {
        let folder = Path::new(name).parent().unwrap_or(Path::new(""));
        for (line, target) in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let page = if file.is_empty() {
                name.clone()
            } else {
                normal(&folder.join(file))
            };
            let message = if !repository.root.join(&page).exists() {
                format!("a link to {file}, which is not there")
            } else if !heading.is_empty() && !has_heading(repository, &page, heading) {
                format!("a link to {target}: {page} has no such heading")
            } else {
                continue;
            };
            findings.push(Finding {
                file: name.clone(),
                line,
                message,
            });
        }
    }
    contents(repository, findings);
}

/// Every page of the book is in its table of contents.
fn contents(repository: &Repository, findings: &mut Vec<Finding>) {
    let summary = repository.pages.iter().find(|(name, _)| name == SUMMARY);
    let text = summary.map_or("", |(_, text)| text.as_str());
    let listed: HashSet<&str> = links(text).into_iter().map(|(_, target)| target).collect();
    for (name, _) in &repository.pages {
        let page = name.strip_prefix(BOOK).filter(|_| name != SUMMARY);
        if let Some(page) = page.filter(|page| !listed.contains(page)) {
            findings.push(Finding {
                file: SUMMARY.to_owned(),
                line: 0,
                message: format!("does not list {page}"),
            });
        }
    }
}

/// The targets of `[text](target)` and `src="target"` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for opener in ["](", "src=\""] {
            for (at, _) in line.match_indices(opener) {
                // An odd number of marks before it: inside of `code`.
                if line[..at].matches('`').count() % 2 == 1 {
                    continue;
                }
                let target = &line[at + opener.len()..];
                let end = target.find([')', '"', ' ']).unwrap_or(target.len());
                found.push((number + 1, &target[..end]));
            }
        }
    }
    found
}

fn has_heading(repository: &Repository, page: &str, heading: &str) -> bool {
    let found = repository.pages.iter().find(|(name, _)| name == page);
    let Some((_, text)) = found else {
        // A line of a file that is no page.
        return true;
    };
    let mut in_block = false;
    let mut headings = text.lines().filter(|line| {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        !in_block && line.starts_with('#')
    });
    headings.any(|line| slug(line.trim_start_matches('#').trim()) == heading)
}

/// A heading as it is written in a link: small letters, digits and hyphens.
fn slug(heading: &str) -> String {
    let letters = heading.chars().filter_map(|letter| match letter {
        ' ' | '-' => Some('-'),
        '_' => Some('_'),
        letter if letter.is_alphanumeric() => letter.to_lowercase().next(),
        _ => None,
    });
    letters.collect()
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.iter().map(|part| part.to_string_lossy()) {
        match part.as_ref() {
            "." => {}
            ".." if !parts.is_empty() => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{links, normal, slug};

    #[test]
    fn links_in_code_are_none() {
        let text = "[a](b.md) `[c](d.md)` ![e](f.png \"g\")\n```text\n[h](i.md)\n```\n[j](#k)";
        assert_eq!(links(text), [(1, "b.md"), (1, "f.png"), (5, "#k")]);
    }

    #[test]
    fn headings_and_paths_have_one_spelling() {
        assert_eq!(slug("What `.ci/run` does"), "what-cirun-does");
        assert_eq!(normal("docs/src/../../crates/./a".as_ref()), "crates/a");
    }
}
