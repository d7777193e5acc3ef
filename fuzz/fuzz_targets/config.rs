//! The `config.json` of a folder with weights: opened or refused, never a panic.
#![no_main]

use burn::tensor::Device;
use gallery_gpt_checkpoint::{Checkpoint, Layout, LoadOptions, SaveOptions, save_model};
use gallery_gpt_model::GalleryModelConfig;
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::VisionConfig;
use libfuzzer_sys::fuzz_target;

const FAMILIES: [&str; 2] = ["llava", "qwen_vl"];

/// With the sizes that its layout has.
fn qwen_vl() -> GalleryModelConfig {
    let tiny = GalleryModelConfig::tiny_qwen_vl();
    GalleryModelConfig {
        vision: VisionConfig {
            position_grid: Some(16),
            ..tiny.vision.clone()
        },
        projector: ProjectorKind::Resampler { queries: 256 },
        ..tiny
    }
}

thread_local! {
    static FOLDER: tempfile::TempDir = {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (name, config) in FAMILIES
            .into_iter()
            .zip([GalleryModelConfig::tiny(), qwen_vl()]) {
            let options = SaveOptions {
                layout: Layout::default_of(config.family),
                ..SaveOptions::default()
            };
            let model = config.init(&Device::flex());
            save_model(&model, root.path().join(name), &options).expect("a model");
        }
        root
    };
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|root| {
        for name in FAMILIES {
            let folder = root.path().join(name);
            std::fs::write(folder.join("config.json"), bytes).expect("a file");
            if let Ok(checkpoint) = Checkpoint::open(&folder, &LoadOptions::default()) {
                let _ = checkpoint.check(&Device::flex());
            }
        }
    });
});
