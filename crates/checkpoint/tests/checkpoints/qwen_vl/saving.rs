//! Models, written and read again.

use std::{collections::BTreeSet, path::Path};

use burn::tensor::Device;
use gallery_gpt_checkpoint::{
    CheckpointError, Layout, LoadOptions, SaveOptions, load_model, save_model, save_projector,
};
use gallery_gpt_model::GalleryModelConfig;
use serde_json::json;

use super::{folder, goldens, read};
use crate::{tiny, values};

fn qwen_vl(companions: Option<&Path>) -> SaveOptions {
    SaveOptions {
        layout: Layout::QwenVl,
        max_shard_size: 800_000,
        companions: companions.map(Path::to_owned),
        ..SaveOptions::default()
    }
}

#[test]
fn a_saved_model_is_the_one_that_was_loaded() {
    let source = folder();
    for name in ["modeling_qwen.py", "visual.py", "SimSun.ttf"] {
        std::fs::write(source.path().join(name), name).unwrap();
    }
    let (device, options) = (Device::flex(), LoadOptions::default());
    let (model, report) = load_model(source.path(), &device, &options).unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("saved");
    save_model(&model, &path, &qwen_vl(Some(source.path()))).unwrap();
    let (again, saved) = load_model(&path, &device, &options).unwrap();
    assert!(values(&again) == values(&model));
    assert_eq!(again.config(), model.config());
    assert_eq!(saved.fingerprint, report.fingerprint);
    assert!(saved.notes.is_empty(), "{:?}", saved.notes);

    // Names and files as in the original's folder.
    let names = |folder: &Path| -> BTreeSet<String> {
        let index = read(&folder.join("model.safetensors.index.json"));
        let names = index["weight_map"].as_object().unwrap().keys();
        names.cloned().collect()
    };
    assert_eq!(names(&path), names(source.path()));
    let index = read(&path.join("model.safetensors.index.json"));
    let map = index["weight_map"].as_object().unwrap();
    let shards: BTreeSet<_> = map.values().map(|name| name.as_str().unwrap()).collect();
    assert!(shards.len() > 2 && shards.iter().all(|name| path.join(name).is_file()));
    for name in [
        "SimSun.ttf",
        "generation_config.json",
        "modeling_qwen.py",
        "qwen.tiktoken",
        "tokenizer_config.json",
        "visual.py",
    ] {
        let bytes = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(bytes(&path), bytes(source.path()), "{name}");
    }
}

#[test]
fn a_saved_config_says_what_the_originals_says() {
    let (device, options) = (Device::flex(), LoadOptions::default());
    let (model, _) = load_model(goldens().join("model"), &device, &options).unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("saved");
    save_model(&model, &path, &qwen_vl(Some(&goldens().join("model")))).unwrap();
    let mut ours = read(&path.join("config.json"));
    let mut theirs = read(&goldens().join("model/config.json"));
    // The path that it was saved from, and with what.
    for name in ["_name_or_path", "transformers_version"] {
        theirs.as_object_mut().unwrap().remove(name).unwrap();
    }
    // Python reads either number as the same base.
    assert_eq!(ours["rotary_emb_base"].as_f64(), Some(10000.0));
    for config in [&mut ours, &mut theirs] {
        config["rotary_emb_base"].take();
    }
    assert_eq!(ours, theirs);

    // Without a generation config the ends are in this file.
    save_model(&model, root.path().join("alone"), &qwen_vl(None)).unwrap();
    let alone = root.path().join("alone");
    assert_eq!(
        read(&alone.join("config.json"))["eos_token_id"],
        json!([420, 421, 422])
    );
    let (again, _) = load_model(&alone, &device, &options).unwrap();
    assert_eq!(again.config(), model.config());
}

#[test]
fn a_model_is_not_saved_in_the_layout_of_another_family() {
    let (device, options) = (Device::flex(), LoadOptions::default());
    let (qwen, _) = load_model(goldens().join("model"), &device, &options).unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("saved");
    for (model, layout, said) in [
        (&qwen, Layout::LlavaHf, "a model of Qwen-VL"),
        (&qwen, Layout::LlavaHfNested, "a model of Qwen-VL"),
        (&qwen, Layout::Llava, "save in its own (qwen_vl)"),
        (&tiny(1), Layout::QwenVl, "save in llava-hf's (llava_hf)"),
    ] {
        let options = SaveOptions {
            layout,
            ..SaveOptions::default()
        };
        let error = save_model(model, &path, &options).unwrap_err();
        assert!(
            matches!(error, CheckpointError::CannotStore { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{error}");
        assert!(!path.exists());
    }
    // Its code has 256 of them.
    let other = GalleryModelConfig::tiny_qwen_vl().init(&device);
    let error = save_model(&other, &path, &qwen_vl(None)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CheckpointError::FixedSize { .. }), "{text}");
    assert!(
        text.contains("256 tokens a picture") && text.contains("with 9"),
        "{text}"
    );
    let error = save_projector(&other, &path).unwrap_err();
    assert!(matches!(error, CheckpointError::NoOwnProjector), "{error}");
    assert!(!path.exists());
}
