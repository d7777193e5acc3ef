//! Pixels: exact in u8, within 1e-6 in f32.

use gallery_gpt::vision::{AspectRatio, ImageProcessorConfig};
use image::RgbImage;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fixtures::{Variant, distance, list, text};

/// Pixel by pixel to channel by channel, as the reference stores them.
fn channels(picture: &RgbImage) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| picture.as_raw().iter().skip(channel).step_by(3).copied())
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn check(variant: &Variant) {
    let resized = variant.tensors("images/resized_u8.safetensors");
    let pixels = variant.tensors("images/pixel_values.safetensors");
    let cases = variant.json("images/cases.json");
    let mut compared = 0;
    for case in list(&cases["images"]) {
        let name = text(&case["name"]);
        let (stem, extension) = name.rsplit_once('.').unwrap();
        let plain = ImageProcessorConfig::new(28).init();
        let pad: Vec<u64> = list(&cases["pad_color"])
            .iter()
            .map(|c| c.as_u64().unwrap())
            .collect();
        assert_eq!(
            plain.pad_color().map(u64::from).to_vec(),
            pad,
            "{}",
            variant.at("pad colour")
        );

        let decoded = variant.path(&format!("images/decoded/{stem}__{extension}.png"));
        let decoded = plain.open(decoded).unwrap();
        let size: Vec<u64> = list(&case["size_wh"])
            .iter()
            .map(|s| s.as_u64().unwrap())
            .collect();
        assert_eq!(
            [u64::from(decoded.width()), u64::from(decoded.height())].to_vec(),
            size
        );
        assert_eq!(
            sha256(decoded.as_raw()),
            text(&case["rgb_sha256"]),
            "{}",
            variant.at(name)
        );

        let opened = plain
            .open(variant.path(&format!("images/files/{name}")))
            .unwrap();
        assert!(opened == decoded, "{}", variant.at(name));

        let paths = case["paths"].as_object().unwrap();
        for (path, expected) in paths {
            compared += check_path(variant, name, path, expected, &decoded, &resized, &pixels);
        }
    }
    assert!(compared > 0);
    variant.measured(&format!(
        "{compared} resized pictures bit-equal, and every file as it was decoded"
    ));
}

fn check_path(
    variant: &Variant,
    name: &str,
    path: &str,
    expected: &Value,
    decoded: &RgbImage,
    resized: &crate::fixtures::Goldens,
    pixels: &crate::fixtures::Goldens,
) -> usize {
    let (kind, size) = path.split_once('/').unwrap();
    let aspect_ratio = match kind {
        "llava_pad" => AspectRatio::Pad,
        "clip_center_crop" => AspectRatio::CenterCrop,
        other => panic!("unknown path {other}"),
    };
    let processor = ImageProcessorConfig::new(size.parse().unwrap())
        .with_aspect_ratio(aspect_ratio)
        .init();
    let at = variant.at(&format!("{name}/{path}"));
    let found = channels(&processor.resize(decoded));
    let key = format!("{name}/{path}");
    if let Some(golden) = resized.get(&key) {
        let found: Vec<f32> = found.iter().map(|&level| f32::from(level)).collect();
        assert_eq!(distance(&found, &golden.values), 0.0, "{at}");
    }
    assert_eq!(sha256(&found), text(&expected["u8_sha256"]), "{at}");
    if let Some(golden) = pixels.get(&key) {
        let worst = distance(processor.process(decoded).values(), &golden.values);
        assert!(worst <= 1e-6, "{at}: differs by {worst:e}");
    }
    1
}
