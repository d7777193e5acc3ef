//! The `config.json` of a folder with weights: opened or refused, never a panic.
#![no_main]

use burn::tensor::Device;
use gallery_gpt_checkpoint::{Checkpoint, LoadOptions, SaveOptions, save_model};
use gallery_gpt_model::GalleryModelConfig;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: tempfile::TempDir = {
        let root = tempfile::tempdir().expect("a temporary folder");
        let model = GalleryModelConfig::tiny().init(&Device::flex());
        save_model(&model, root.path().join("model"), &SaveOptions::default()).expect("a model");
        root
    };
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|root| {
        let folder = root.path().join("model");
        std::fs::write(folder.join("config.json"), bytes).expect("a file");
        if let Ok(checkpoint) = Checkpoint::open(&folder, &LoadOptions::default()) {
            let _ = checkpoint.check(&Device::flex());
        }
    });
});
