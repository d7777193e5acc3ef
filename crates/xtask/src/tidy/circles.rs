//! Modules of one crate import each other in one direction.
//!
//! Compared are the children of a module, each with all that is inside it; a parent and its children are one room.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Finding, Repository,
    code::{Source, continues_word},
};

/// Circles of today, each with the reason; the list may only shrink.
const KNOWN: &[(&str, &str)] = &[];

/// A module by its path in the crate: none is the root.
type Path = Vec<String>;

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in &repository.sources {
        if let Some(library) = source.library() {
            crates.entry(library).or_default().push(source);
        }
    }
    let mut unused: Vec<&(&str, &str)> = KNOWN.iter().collect();
    for (name, sources) in crates {
        for circle in Modules::of(&sources).circles() {
            let place = format!("{name}: {}", circle.rooms);
            if KNOWN.iter().any(|(known, _)| *known == place) {
                unused.retain(|(known, _)| *known != place);
                continue;
            }
            findings.extend(circle.arrows.into_iter().map(|arrow| Finding {
                message: format!("{} uses {}, in a circle of {place}", arrow.from, arrow.to),
                file: arrow.file,
                line: arrow.line,
            }));
        }
    }
    findings.extend(unused.into_iter().map(|(circle, _)| Finding {
        file: "crates/xtask/src/tidy/circles.rs".to_owned(),
        line: 0,
        message: format!("{circle:?} is no circle any more; take it off the list"),
    }));
}

/// Modules that use each other.
struct Circle {
    /// Where they are, and what they are called.
    rooms: String,
    arrows: Vec<Arrow>,
}

/// One module uses another, and where it first does.
#[derive(Clone)]
struct Arrow {
    from: String,
    to: String,
    file: String,
    line: usize,
}

/// The modules of a crate, what each brings in by name, and which paths each names.
struct Modules {
    /// Names in the scope of a module, by `use`, with the path that each stands for.
    names: BTreeMap<Path, BTreeMap<String, Path>>,
    /// Every path that is named: by which module, and in which file and line.
    named: Vec<(Path, Path, String, usize)>,
}

impl Modules {
    fn of(sources: &[&Source]) -> Self {
        let mut modules = Self {
            names: BTreeMap::new(),
            named: Vec::new(),
        };
        for source in sources {
            let own = module_of(&source.name);
            let code = without_tests(source);
            let names = modules.names.entry(own.clone()).or_default();
            for path in uses(&code) {
                if let Some(last) = path.last().filter(|last| *last != "*") {
                    names.insert(last.clone(), absolute(&own, &path));
                }
            }
            modules
                .named
                .extend(paths(&code).into_iter().map(|(offset, path)| {
                    let line = source.line(offset);
                    (
                        own.clone(),
                        absolute(&own, &path),
                        source.name.clone(),
                        line,
                    )
                }));
        }
        modules
    }

    /// The module that a path ends in, by way of what modules bring in by name.
    fn resolve(&self, path: &[String], depth: usize) -> Path {
        let is_module = |end: usize| self.names.contains_key(&path[..end]);
        let end = (1..=path.len())
            .rev()
            .find(|&end| is_module(end))
            .unwrap_or(0);
        let inside = self.names.get(&path[..end]);
        let Some(next) = path.get(end).and_then(|name| inside?.get(name)) else {
            return path[..end].to_vec();
        };
        // A name of its own, or one that only stands for itself.
        if depth == 0 || next.as_slice() == &path[..=end] {
            return path[..end].to_vec();
        }
        self.resolve(next, depth - 1)
    }

    /// The circles among the children of every module.
    fn circles(&self) -> Vec<Circle> {
        let mut rooms: BTreeMap<Path, BTreeMap<(String, String), Arrow>> = BTreeMap::new();
        for (own, path, file, line) in &self.named {
            let other = self.resolve(path, 8);
            let shared = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (own.get(shared), other.get(shared)) {
                let arrows = rooms.entry(own[..shared].to_vec()).or_default();
                let arrow = Arrow {
                    from: from.clone(),
                    to: to.clone(),
                    file: file.clone(),
                    line: *line,
                };
                arrows.entry((from.clone(), to.clone())).or_insert(arrow);
            }
        }
        let circles = rooms.iter().flat_map(|(parent, arrows)| {
            knots(arrows.keys()).into_iter().map(|knot| {
                let inside =
                    |arrow: &&Arrow| knot.contains(&arrow.from) && knot.contains(&arrow.to);
                let arrows = arrows.values().filter(inside).cloned().collect();
                let names: Vec<&str> = knot.iter().map(String::as_str).collect();
                let place: String = parent.iter().map(|name| format!("{name}::")).collect();
                Circle {
                    rooms: format!("{place}{{{}}}", names.join(", ")),
                    arrows,
                }
            })
        });
        circles.collect()
    }
}

/// Sets of nodes that reach each other.
fn knots<'a>(arrows: impl Iterator<Item = &'a (String, String)>) -> Vec<BTreeSet<String>> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in arrows {
        reached.entry(from).or_default().insert(to);
    }
    // Whoever reaches a node reaches what that one reaches, until nothing new is found.
    loop {
        let before = reached.clone();
        for seen in reached.values_mut() {
            let more = seen.iter().filter_map(|node| before.get(node)).flatten();
            let more: Vec<&str> = more.copied().collect();
            seen.extend(more);
        }
        if reached == before {
            break;
        }
    }
    let mut knots: Vec<BTreeSet<String>> = Vec::new();
    for (from, seen) in reached.iter().filter(|(from, seen)| seen.contains(*from)) {
        let back = |to: &&&str| reached.get(**to).is_some_and(|seen| seen.contains(from));
        let knot: BTreeSet<String> = seen
            .iter()
            .filter(back)
            .map(|name| (*name).to_owned())
            .collect();
        if !knots.contains(&knot) {
            knots.push(knot);
        }
    }
    knots
}

/// The path of a module in its crate.
fn module_of(file: &str) -> Path {
    let inside = file.splitn(4, '/').nth(3).unwrap_or(file);
    let mut path: Path = inside
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] || path == ["main"] {
        path.pop();
    }
    path
}

fn without_tests(source: &Source) -> String {
    let mut code: Vec<u8> = source.code.clone().into_bytes();
    for (offset, byte) in code.iter_mut().enumerate() {
        if source.is_test(offset) {
            *byte = b' ';
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// A path from the crate's root, for one as it is written in `own`.
fn absolute(own: &[String], path: &[String]) -> Path {
    let mut base: Path = match path.first().map(String::as_str) {
        Some("crate") => return path[1..].to_vec(),
        _ => own.to_vec(),
    };
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    base.extend(rest.iter().filter(|name| *name != "*").cloned());
    base
}

/// Every path of the crate that the code names: those from `crate` and `super`, in `use` and elsewhere, with the offset of each.
fn paths(code: &str) -> Vec<(usize, Path)> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (offset, _) in code.match_indices(start) {
            let follows = code[..offset].ends_with("::") || continues_word(code, offset);
            if !follows {
                let mut paths = Vec::new();
                tree(&code[offset..], &mut Vec::new(), &mut paths);
                found.extend(paths.into_iter().map(|path| (offset, path)));
            }
        }
    }
    found
}

/// Every path that `use` brings in.
fn uses(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("use ") {
        if !continues_word(code, offset) {
            tree(&code[offset + 4..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads `a::{b, c::d}` into its paths: the bytes read.
fn tree(code: &str, before: &mut Path, found: &mut Vec<Path>) -> usize {
    let depth = before.len();
    let mut at = 0;
    loop {
        at += blanks(&code[at..]);
        let rest = &code[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += tree(&code[at..], before, found);
                at += blanks(&code[at..]);
                let comma = code[at..].starts_with(',');
                at += 1;
                if !comma || at >= code.len() {
                    break;
                }
            }
            break;
        }
        let word = match rest.starts_with('*') {
            true => 1,
            false => rest
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(rest.len()),
        };
        if word == 0 {
            break;
        }
        before.push(rest[..word].to_owned());
        at += word;
        at += blanks(&code[at..]);
        if code[at..].starts_with("::") {
            at += 2;
            continue;
        }
        found.push(before.clone());
        // The name it is given here is no other path.
        if let Some(name) = code[at..].strip_prefix("as ") {
            at = code.len() - name.len();
            at += name
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(name.len());
        }
        break;
    }
    before.truncate(depth);
    at
}

fn blanks(code: &str) -> usize {
    code.len() - code.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(name, text)| Source::new(&format!("crates/a/src/{name}"), (*text).to_owned()))
            .collect();
        let circles = Modules::of(&sources.iter().collect::<Vec<_>>()).circles();
        circles.into_iter().map(|circle| circle.rooms).collect()
    }

    #[test]
    fn trees_are_read() {
        let mut found = Vec::new();
        tree("a::{b, c::{d, e as f}, g::*};", &mut Vec::new(), &mut found);
        let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
        assert_eq!(found, ["a::b", "a::c::d", "a::c::e", "a::g::*"]);
    }

    #[test]
    fn a_circle_is_found_by_whatever_name() {
        let root = ("lib.rs", "mod b; mod c; pub use c::C;");
        let there = ("b.rs", "use crate::C;");
        assert_eq!(
            circles(&[root, there, ("c/mod.rs", "pub struct C;")]),
            [""; 0]
        );
        let back = ("c/mod.rs", "mod d; fn f() -> super::b::B {}");
        assert_eq!(circles(&[root, there, back]), ["{b, c}"]);
        let deep = [
            root,
            there,
            ("c/mod.rs", "mod d; mod e;"),
            ("c/d.rs", "use super::e::E;"),
            ("c/e.rs", "use crate::c::d::D;"),
        ];
        assert_eq!(circles(&deep), ["c::{d, e}"]);
    }

    #[test]
    fn unit_tests_and_parents_are_left_out() {
        let files = [
            ("lib.rs", "mod b; mod c;"),
            ("b.rs", "use crate::c::C;"),
            (
                "c.rs",
                "use super::X;\n#[cfg(test)]\nmod tests { use crate::b::B; }",
            ),
        ];
        assert_eq!(circles(&files), [""; 0]);
    }
}
