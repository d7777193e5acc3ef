//! Arrows point down the floors: a crate depends on crates of a strictly lower floor only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

const FLOORS: [(&str, usize); 16] = [
    ("text", 0),
    ("vision", 0),
    ("projector", 0),
    ("llama", 0),
    ("scenes", 0),
    ("report", 0),
    ("model", 1),
    ("data", 1),
    ("checkpoint", 2),
    ("train", 3),
    ("eval", 3),
    ("gallery-gpt", 4),
    ("server", 5),
    // Tests of any floor may use it.
    ("testkit", 0),
    ("cli", 6),
    ("sample-data", 5),
];

fn floor(folder: &str) -> usize {
    let found = FLOORS.iter().find(|(name, _)| *name == folder);
    found
        .unwrap_or_else(|| panic!("crates/{folder} has no floor; give it one here"))
        .1
}

#[test]
fn arrows_point_down() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut arrows = 0;
    for entry in std::fs::read_dir(crates).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let Some(below) = dependency.strip_prefix("gallery-gpt-") else {
                continue;
            };
            // Programs may draw scenes; the library may not.
            if section == "[dev-dependencies]" || section == "[dependencies]" {
                arrows += 1;
                assert!(
                    floor(below) < floor(&name),
                    "{name} points up or sideways to {below}"
                );
            }
        }
    }
    assert!(arrows > 15, "{arrows} arrows were read");
}
