//! Files with changed bytes give a picture or a typed error, never a panic.

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
    // Both must happen often, else the changes would be too weak or too strong to test anything.
    assert!(
        read > 200 && refused > 200,
        "{read} read, {refused} refused"
    );
}

#[test]
fn half_a_file_is_refused() {
    let _alone = alone();
    for name in [
        "jpeg_17x16_2_0_95.jpg",
        "jpeg_17x16_2_1_95.jpg",
        "p_17x16_RGB.png",
        "g_17x16_RGB.gif",
        "b_17x16_RGB.bmp",
        "w_17x16_80.webp",
        "wl_17x16.webp",
        "t_17x16_RGB_raw.tif",
        "t_17x16_RGB_tiff_lzw.tif",
        "t_17x16_RGB_tiff_adobe_deflate.tif",
        "t_17x16_RGB_packbits.tif",
        "tj_17x16_RGB.tif",
    ] {
        let whole = std::fs::read(folder("corpus").join(name)).unwrap();
        processor().process_bytes(name, &whole).unwrap();
        // The directory of a TIFF is before or after the pixels; without it there is no picture either.
        let error = processor()
            .process_bytes(name, &whole[..whole.len() / 2])
            .unwrap_err();
        let found = matches!(
            error,
            ImageError::Truncated { .. } | ImageError::Decode { .. }
        );
        assert!(found, "{error}");
    }
    // Pillow needs the end-of-image marker as well.
    let whole = std::fs::read(folder("corpus").join("jpeg_17x16_2_0_95.jpg")).unwrap();
    let error = processor()
        .process_bytes("without its last marker", &whole[..whole.len() - 2])
        .unwrap_err();
    assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
}

#[test]
fn changed_pixels_of_a_png_do_not_match_the_checksum() {
    let _alone = alone();
    let name = "p_17x16_RGB.png";
    let mut file = std::fs::read(folder("corpus").join(name)).unwrap();
    let idat = file.windows(4).position(|four| four == b"IDAT").unwrap();
    let mut refused = 0;
    for at in (idat + 8..file.len() - 20).step_by(7) {
        file[at] ^= 4;
        let result = processor().process_bytes(name, &file);
        refused += usize::from(result.is_err());
        file[at] ^= 4;
    }
    assert_eq!(refused, (file.len() - 20 - idat - 8).div_ceil(7));
}
