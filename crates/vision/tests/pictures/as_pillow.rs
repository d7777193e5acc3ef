//! Pixels equal to Pillow's, to the last bit.
//!
//! `as_pillow` has files that were once decoded wrongly, each with the pixels of Pillow 13.0. `corpus` has small files of all
//! formats with the SHA-256 of Pillow's pixels; it was written with Pillow 13.0, tifffile 2026.9 and libjpeg-turbo 2.1.5's
//! `cjpeg`.

use std::{collections::BTreeMap, path::Path};

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::{alone, folder, processor};

/// File names with Pillow's pixels.
fn expected(folder: &Path) -> BTreeMap<String, String> {
    let file = std::fs::read(folder.join("expected.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn size_and_sha256(picture: &RgbImage) -> String {
    let (width, height) = picture.dimensions();
    let sha256 = Sha256::digest(picture.as_raw());
    let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{width}x{height} {sha256}")
}

#[test]
fn files_that_were_read_wrongly() {
    let _alone = alone();
    let folder = folder("as_pillow");
    let mut compared = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".expected.png") {
            continue;
        }
        let expected = folder.join(format!("{name}.expected.png"));
        let expected = processor().open(expected).unwrap();
        let found = processor().open(&path).unwrap();
        assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
        let pixels = found.pixels().zip(expected.pixels());
        let different = pixels.filter(|(found, expected)| found != expected).count();
        assert_eq!(different, 0, "pixels of {name} that differ");
        // Reading row by row gives the same picture.
        let whole = processor().process(&expected);
        assert!(processor().process_file(&path).unwrap() == whole, "{name}");
        compared += 1;
    }
    assert!(compared >= 7, "{compared} files");
}

#[test]
fn corpus_of_all_formats() {
    let _alone = alone();
    let folder = folder("corpus");
    let expected = expected(&folder);
    let mut different = Vec::new();
    for (name, expected) in &expected {
        let found = match processor().open(folder.join(name)) {
            Ok(picture) => size_and_sha256(&picture),
            Err(error) => error.to_string(),
        };
        if found != *expected {
            different.push(format!("{name}: {found}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let formats = ["jpg", "png", "gif", "bmp", "webp", "tif"];
    for format in formats {
        let count = expected
            .keys()
            .filter(|name| name.ends_with(format))
            .count();
        assert!(count >= 8, "{count} files of {format}");
    }
}

#[test]
fn orientations_are_applied_if_set() {
    let _alone = alone();
    let folder = folder("turned");
    let turning = processor().with_apply_orientation(true);
    for (name, expected) in expected(&folder) {
        let path = folder.join(&name);
        let turned = turning.open(&path).unwrap();
        assert_eq!(size_and_sha256(&turned), expected, "{name}");
        let by_rows = turning.process_file(&path).unwrap();
        assert!(by_rows == processor().process(&turned), "{name}");

        let info = processor().info(&path).unwrap();
        let stored = processor().open(&path).unwrap();
        assert_eq!((info.width, info.height), stored.dimensions(), "{name}");
        // Pillow applies the orientation of a TIFF by itself.
        let upright = name.starts_with('1') || name.ends_with("tif");
        assert_eq!(info.orientation.is_upright(), upright, "{name}");
        assert_eq!(stored == turned, upright, "{name}");
        if name.starts_with('6') && !upright {
            let words = info.orientation.description();
            assert_eq!(words, "a rotation by 90 degrees clockwise");
        }
    }
}
