//! Folders that are not what they were written as, or not one model: each is refused by name.

use burn::tensor::Device;
use gallery_gpt_checkpoint::{
    AdapterLayout, CheckpointError, Layout, LoadOptions, Problem, SaveOptions, WeightFiles,
    load_adapter, load_model, save_adapter, save_model,
};
use gallery_gpt_llama::LoraConfig;

use crate::{load, tiny, torch_file::pickled};

#[test]
fn an_adapter_for_what_is_not_adapted_here() {
    let root = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(4, 8.0);
    let base = tiny(3);
    let adapted = base.clone().apply_lora(&lora);
    let folder = root.path().join("adapter");
    let layout = AdapterLayout::LlavaLora;
    save_adapter(&adapted, &"tiny".into(), &folder, layout).unwrap();
    // The head of the model is among the targets, as when all linears were asked for.
    let path = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let zeros = vec![0; 4 * 32 * 4];
    let extra = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4, 32], &zeros);
    let extra = (
        "base_model.model.lm_head.lora_A.weight".to_owned(),
        extra.unwrap(),
    );
    let bytes = safetensors::serialize(tensors.tensors().into_iter().chain([extra]), None);
    std::fs::write(&path, bytes.unwrap()).unwrap();
    let error = load_adapter(base.clone(), &folder, &LoadOptions::default()).unwrap_err();
    let is_named =
        matches!(&error, CheckpointError::Checksum { path: found, .. } if *found == path);
    assert!(is_named, "{error}");
    std::fs::remove_file(folder.join("gallery_gpt.json")).unwrap();
    let error = load_adapter(base, &folder, &LoadOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("not targeted: base_model.model.lm_head.lora_A.weight"),
        "{text}"
    );
    assert!(text.contains("adapter_model.safetensors"), "{text}");
}

#[test]
fn two_checkpoints_in_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();

    // The same tensors as a PyTorch file too: safetensors are read, the other file is named.
    let safetensors = folder.join("model.safetensors");
    let weights = WeightFiles::open_single(&safetensors).unwrap();
    let entries: Vec<(String, Vec<usize>)> = weights
        .iter()
        .map(|(key, tensor)| (key.to_owned(), tensor.shape.clone()))
        .collect();
    std::fs::write(folder.join("pytorch_model.bin"), pickled(&entries)).unwrap();
    let options = LoadOptions::default();
    let (_, report) = load_model(&folder, &Device::flex(), &options).unwrap();
    assert_eq!(report.unread, [folder.join("pytorch_model.bin")]);

    // Not the same tensors.
    let bytes = pickled(&entries[1..]);
    std::fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
    let error = load(&folder).unwrap_err();
    assert!(
        matches!(error, CheckpointError::TwoCheckpoints { .. }),
        "{error}"
    );
    std::fs::remove_file(folder.join("pytorch_model.bin")).unwrap();

    // Names of two layouts in one file.
    let mut names = entries;
    names.push(("model.layers.0.mlp.up_proj.weight".to_owned(), vec![1]));
    std::fs::remove_file(&safetensors).unwrap();
    std::fs::write(folder.join("pytorch_model.bin"), pickled(&names)).unwrap();
    let error = load(&folder).unwrap_err();
    assert!(
        matches!(error, CheckpointError::TwoLayouts { .. }),
        "{error}"
    );
}

#[test]
fn values_that_are_not_finite() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(folder.join("gallery_gpt.json")).unwrap();
    let Err(CheckpointError::Mismatch { problems, .. }) = load(&folder) else {
        panic!("a NaN");
    };
    assert!(
        matches!(problems[..], [Problem::NotFinite { .. }]),
        "{problems:?}"
    );
}

#[test]
fn a_flipped_bit_is_told_from_the_base() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    let options = LoadOptions::default();
    let (_, before) = load_model(&folder, &Device::flex(), &options).unwrap();
    let identity = before.identity().unwrap();
    assert!(identity.differences(&identity).is_empty());

    // The lowest bit of a value in the middle of the largest tensor.
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let files = WeightFiles::open_single(&path).unwrap();
    let key = "language_model.model.embed_tokens.weight";
    let tensor = files.get(key).unwrap().bytes().unwrap();
    let start = bytes.windows(64).position(|window| window == &tensor[..64]);
    bytes[start.unwrap() + 30_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = load(&folder).unwrap_err();
    let is_named =
        matches!(&error, CheckpointError::Checksum { path: found, .. } if *found == path);
    assert!(is_named && error.to_string().contains("SHA-256"), "{error}");

    // Another program's folder has no checksums; the fingerprint is still another.
    std::fs::remove_file(folder.join("gallery_gpt.json")).unwrap();
    let (_, after) = load_model(&folder, &Device::flex(), &options).unwrap();
    assert_ne!(after.fingerprint, before.fingerprint);
    std::fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
    assert_eq!(
        after.identity().unwrap().differences(&identity),
        [
            "the base had no tokenizer_config.json",
            "the base's weights are not the same"
        ]
    );
    // A bit of the tower is told from the tower.
    assert_eq!(after.tower.fingerprint, before.tower.fingerprint);
}

#[test]
fn a_tower_that_is_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    let options = SaveOptions {
        layout: Layout::Llava,
        ..SaveOptions::default()
    };
    save_model(&tiny(1), &folder, &options).unwrap();
    // Stock CLIP is beside it, but the config names another tower.
    std::fs::rename(folder.join("vision_tower"), root.path().join("clip")).unwrap();
    let error = load(&folder).unwrap_err();
    assert!(matches!(error, CheckpointError::NoTower { .. }), "{error}");
    let chosen = LoadOptions {
        vision_tower: Some(root.path().join("clip")),
        ..LoadOptions::default()
    };
    let (_, report) = load_model(&folder, &Device::flex(), &chosen).unwrap();
    assert!(report.tower.chosen && report.tower.fingerprint.is_some());
    assert!(
        report
            .to_string()
            .contains("chosen; the config names vision_tower")
    );
}
