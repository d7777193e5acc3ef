//! Pictures, squashed: exact in u8, within rounding in f32.

use gallery_gpt::vision::{AspectRatio, ImageProcessorConfig};
use image::RgbImage;
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Variant, distance, list, text},
    images::sha256,
};

/// Largest difference of a normalised value.
const PIXEL: f32 = 2e-6;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let cases = variant.json("images/cases.json");
    let sides = ["image_size", "small_size"].map(|side| cases[side].as_u64().unwrap() as usize);
    let pictures = list(&cases["pictures"]).iter().map(|case| {
        let case = case.clone();
        Case::new(text(&case["file"]).to_owned(), move |variant| {
            check(variant, &case, sides);
        })
    });
    pictures.collect()
}

fn check(variant: &Variant, case: &Value, [large, small]: [usize; 2]) {
    let name = text(&case["file"]);
    let processor = |size| {
        ImageProcessorConfig::new(size)
            .with_aspect_ratio(AspectRatio::Squash)
            .init()
    };
    let path = variant.path(&format!("images/files/{name}"));
    let picture = processor(large).open(&path).unwrap();
    let (stem, extension) = name.rsplit_once('.').unwrap();
    let stored = variant.path(&format!("images/decoded/{stem}__{extension}.png"));
    if stored.is_file() {
        assert!(
            picture == processor(large).open(&stored).unwrap(),
            "{}",
            variant.at(name)
        );
    }
    let same = |what: &str, found: &RgbImage| {
        assert_eq!(
            sha256(found.as_raw()),
            text(&case[what]),
            "{}: {what}",
            variant.at(name)
        );
    };
    same("rgb_sha256", &picture);
    same("resized_sha256", &processor(large).resize(&picture));
    same("resized_448_sha256", &processor(448).resize(&picture));
    let golden = variant.tensors(&format!("images/pixel_values_{small}.safetensors"));
    let found = processor(small).process_file(&path).unwrap();
    let worst = distance(found.values(), &golden[stem].values);
    assert!(worst <= PIXEL, "{}: differs by {worst:e}", variant.at(name));
}
