//! Changed bytes: a picture or a typed error, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gallery_gpt_vision::{ImageError, ImageLimits};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{alone, folder, processor};

#[test]
fn a_thousand_changed_files() {
    let _alone = alone();
    let mut names: Vec<_> = [folder("corpus"), folder("as_pillow")]
        .iter()
        .flat_map(|folder| folder.read_dir().unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind != "json"))
        .collect();
    names.sort();
    let processor = processor().with_limits(ImageLimits::small());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..1000 {
        let path = &names[rng.random_range(0..names.len())];
        let mut bytes = std::fs::read(path).unwrap();
        for _ in 0..rng.random_range(1..=4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] ^= 1 << rng.random_range(0..8),
                2 => bytes[at] = [0, 1, 0x7F, 0xFF][rng.random_range(0..4)],
                _ => bytes.truncate(at.max(1)),
            }
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| processor.process_bytes(name, &bytes)));
        match result.unwrap_or_else(|_| panic!("{name} made the processor panic")) {
            Ok(_) => read += 1,
            Err(ImageError::Read { .. }) => panic!("{name}: nothing is read from disk here"),
            Err(error) => {
                assert!(error.to_string().contains(name), "{error}");
                refused += 1;
            }
        }
    }
    // Both happen: the changes are neither too weak nor too strong to say anything.
    assert!(
        read > 200 && refused > 200,
        "{read} read, {refused} refused"
    );
}
