//! The stages of Qwen-VL-Chat's variants, against the original's own code.

mod chat;
mod generation;
mod images;
mod lora;
mod model;
mod tokenizer;
mod train;

use gallery_gpt::{
    checkpoint::{LoadOptions, TensorDtype, load_model},
    model::GalleryModel,
    text::IMAGE_TOKEN_INDEX,
    vision::{AspectRatio, ImageProcessorConfig, PixelValues},
};

use crate::{
    case::Stage,
    fixtures::{Variant, device},
};

/// The stages, the folder of a variant that each needs, and its cases.
pub(crate) const STAGES: [Stage; 7] = [
    Stage::new("tokenizer", "tokenizer", tokenizer::cases),
    Stage::new("images", "images", images::cases),
    Stage::new("model", "expected", model::cases),
    Stage::new("generation", "expected", generation::cases),
    Stage::new("chat", "expected/chat.json", chat::cases),
    Stage::new("lora", "lora", lora::cases),
    Stage::new("train", "train", train::cases),
];

/// Ids between the tags of a picture.
const PICTURE_IDS: usize = 256;

/// The model in f32.
fn load(variant: &Variant) -> GalleryModel {
    load_in(variant, TensorDtype::F32)
}

/// The model. Nothing in its files is missing or unused.
fn load_in(variant: &Variant, dtype: TensorDtype) -> GalleryModel {
    let options = LoadOptions {
        dtype: Some(dtype),
        ..LoadOptions::default()
    };
    let (model, report) = load_model(variant.path("model"), &device(), &options).unwrap();
    assert!(
        report.missing.is_empty() && report.unused.is_empty(),
        "{report}"
    );
    model
}

/// The original's ids of a row with a placeholder in place of the ids of each picture, and the pictures' paths.
fn placeholders(model: &GalleryModel, ids: &[i64]) -> (Vec<i64>, Vec<String>) {
    let start = model.config().reserved.unwrap().image as i64;
    // The pad behind the bytes of a path follows the closing tag.
    let pad = start + 2;
    let (mut row, mut paths) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < ids.len() {
        row.push(ids[at]);
        at += 1;
        if ids[at - 1] == start {
            let inner = &ids[at..at + PICTURE_IDS];
            let bytes = inner
                .iter()
                .take_while(|&&id| id != pad)
                .map(|&id| id as u8);
            paths.push(String::from_utf8(bytes.collect()).unwrap());
            row.push(IMAGE_TOKEN_INDEX);
            at += PICTURE_IDS;
        }
    }
    (row, paths)
}

/// An adapter's folder with one of the files of weights that the fixture has side by side; a folder with both is refused.
fn adapter_folder(variant: &Variant, folder: &str, weights: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", weights] {
        std::fs::copy(variant.path(folder).join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// A picture of the variant, squashed and normalised.
fn pixels(variant: &Variant, size: usize, path: &str) -> PixelValues {
    ImageProcessorConfig::new(size)
        .with_aspect_ratio(AspectRatio::Squash)
        .init()
        .process_file(variant.path(path))
        .unwrap()
}
