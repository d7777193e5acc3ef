//! Pixels: exact in u8, within 1e-6 in f32.

use gallery_gpt::vision::{AspectRatio, ImageProcessorConfig};
use image::RgbImage;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    case::Case,
    fixtures::{Goldens, Variant, distance, list, text},
};

/// Pixel by pixel to channel by channel, as the reference stores them.
fn channels(picture: &RgbImage) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| picture.as_raw().iter().skip(channel).step_by(3).copied())
        .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let cases = variant.json("images/cases.json");
    let pad: Vec<u64> = ints(&cases["pad_color"]);
    let pad_color = Case::new("pad_color", move |_| {
        let ours = ImageProcessorConfig::new(28).init().pad_color();
        assert_eq!(ours.map(u64::from).to_vec(), pad);
    });
    let pictures = list(&cases["images"]).iter().map(|case| {
        let case = case.clone();
        Case::new(text(&case["name"]).to_owned(), move |variant| {
            picture(variant, &case);
        })
    });
    std::iter::once(pad_color).chain(pictures).collect()
}

fn ints(value: &Value) -> Vec<u64> {
    let ints = list(value).iter().map(|int| int.as_u64().unwrap());
    ints.collect()
}

/// A file is decoded as it was, and resized and normalized as it was.
fn picture(variant: &Variant, case: &Value) {
    let resized = variant.tensors("images/resized_u8.safetensors");
    let pixels = variant.tensors("images/pixel_values.safetensors");
    let name = text(&case["name"]);
    let (stem, extension) = name.rsplit_once('.').unwrap();
    let processor = ImageProcessorConfig::new(28).init();
    let decoded = variant.path(&format!("images/decoded/{stem}__{extension}.png"));
    let decoded = processor.open(decoded).unwrap();
    let size = [decoded.width(), decoded.height()].map(u64::from);
    assert_eq!(size.to_vec(), ints(&case["size_wh"]));
    assert_eq!(sha256(decoded.as_raw()), text(&case["rgb_sha256"]));

    let opened = processor
        .open(variant.path(&format!("images/files/{name}")))
        .unwrap();
    assert!(opened == decoded, "{}", variant.at(name));

    let paths = case["paths"].as_object().unwrap();
    assert!(!paths.is_empty());
    for (path, expected) in paths {
        check_path(variant, name, path, expected, &decoded, [&resized, &pixels]);
    }
}

fn check_path(
    variant: &Variant,
    name: &str,
    path: &str,
    expected: &Value,
    decoded: &RgbImage,
    [resized, pixels]: [&Goldens; 2],
) {
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
}
