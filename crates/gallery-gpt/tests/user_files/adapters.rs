//! Adapters of other trainers.
//!
//! The fixtures were written by PEFT 0.21.2 on the tiny base. The numbers in `logits.json` are transformers 5.24.0's with the same
//! adapters (torch 2.15, f32), and the texts are its greedy answers.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::{Tensor, TensorData};
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, CheckpointError, PeftConfig, SaveOptions, WeightFiles, inspect_adapter,
        load_adapter, save_adapter, save_model,
    },
    model::{GalleryModel, SplicePlan},
    prelude::*,
};

use crate::{fixture, root};

fn base() -> GalleryModel {
    let options = LoadOptions {
        dtype: Some(TensorDtype::F32),
        ..LoadOptions::default()
    };
    let folder = root().join("datasets/tiny-base");
    load_model(folder, &Device::flex(), &options).unwrap().0
}

fn adapted(name: &str) -> (GalleryModel, gallery_gpt::checkpoint::AdapterFile) {
    let path = fixture("adapters").join(name);
    load_adapter(base(), path, &LoadOptions::default()).unwrap()
}

/// The logits after the last token of a prompt with a picture made of waves.
fn logits(model: &GalleryModel) -> Vec<f32> {
    let wave = |c: usize, y: usize, x: usize| ((c * 3 + y * 7 + x * 11) as f64 * 0.01).sin() as f32;
    let mut pixels = Vec::new();
    for c in 0..3 {
        for y in 0..64 {
            pixels.extend((0..64).map(|x| wave(c, y, x)));
        }
    }
    let pixels = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, 64, 64]), &model.device());
    let ids = vec![1, -200, 5, 17, 300, 42, 799, 123, 64];
    let plan = SplicePlan::new(&[ids], 64, 1, 800).unwrap();
    let all = model.forward(&plan, Some(pixels));
    let [_, seq, vocab] = all.dims();
    let last = all.slice([0..1, seq - 1..seq, 0..vocab]);
    last.into_data().try_into_vec().unwrap()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

/// What is not plain LoRA on the decoder gives PEFT's numbers, every tensor is used, and merging changes none of them.
#[test]
fn all_that_peft_trains_gives_its_logits() {
    let text = fs::read(fixture("adapters").join("logits.json")).unwrap();
    let expected: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&text).unwrap();
    let of_base = &expected["base"];
    for (name, expected) in &expected {
        let model = if name == "base" {
            base()
        } else {
            let (model, file) = adapted(name);
            let path = fixture("adapters")
                .join(name)
                .join("adapter_model.safetensors");
            let tensors = WeightFiles::open_single(path).unwrap();
            assert_eq!(file.used.len(), tensors.len(), "{name}");
            assert!(furthest(expected, of_base) > 0.1, "{name}");
            model
        };
        let found = logits(&model);
        let some: Vec<f32> = found.iter().copied().step_by(100).collect();
        let difference = furthest(&some, expected);
        assert!(difference < 2e-5, "{name}: {difference}");
        let largest = found.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let merged = logits(&model.merge_lora());
        let difference = furthest(&found, &merged) / largest;
        assert!(difference < 1e-6, "{name}: merged differs by {difference}");
    }
}

/// Greedy answers with adapters of PEFT.
#[test]
fn answers_are_those_of_transformers() {
    let base = GalleryGpt::load(root().join("datasets/tiny-base"), &Device::flex()).unwrap();
    let answer = |gallery: &GalleryGpt| {
        let picture = fixture("adapters").join("square.png");
        let config = GenerationConfig::greedy(160);
        gallery
            .describe(picture.as_path(), "Describe the light.", &config)
            .unwrap()
    };
    let of_base = "Landscape: a tree in black at the centre; a sky in red; light from the right.";
    assert_eq!(answer(&base), of_base);
    for (name, expected) in [
        ("rank_pattern", "Landscape: a tree in black at the right."),
        (
            "dora",
            "Landscape: a tree in black at the centre; a meadow in orange; broad brushwork.",
        ),
        (
            "all_linear",
            "Landscape: a sky in red; light from the right; broad brushwork.",
        ),
        (
            "projector_lora",
            "green sky in red at the centre abrob red; a sky in red; a meadow in orange; light from",
        ),
    ] {
        let base = GalleryGpt::load(root().join("datasets/tiny-base"), &Device::flex()).unwrap();
        let gallery = base.with_adapter(fixture("adapters").join(name)).unwrap();
        let found = answer(&gallery);
        assert!(found.starts_with(expected), "{name}: {found}");
    }
}

/// An adapter whose start moved the base's weights is refused by all that load one.
#[test]
fn an_adapter_on_a_moved_base_is_refused() {
    let pissa = fixture("adapters").join("pissa");
    let is_named = |error: &CheckpointError| {
        let text = error.to_string();
        text.contains("init_lora_weights")
            && text.contains("path_initial_model_for_weight_conversion")
    };
    let error = load_adapter(base(), &pissa, &LoadOptions::default()).unwrap_err();
    assert!(is_named(&error), "{error}");
    let error = inspect_adapter(base(), &pissa).unwrap_err();
    assert!(is_named(&error), "{error}");
    // Converted, it says so, and its factors are those of a plain LoRA.
    let folder = copied("pissa");
    edit(folder.path(), |config| {
        config["init_lora_weights"] = true.into();
    });
    load_adapter(base(), folder.path(), &LoadOptions::default()).unwrap();
}

/// A copy of a fixture.
fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture("adapters").join(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn edit(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = folder.join("adapter_config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

/// Rewrites the tensors of a folder: the names that are kept, and what they are called.
fn rename(folder: &Path, name: impl Fn(&str) -> Option<String>) {
    let path = folder.join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors();
    let tensors = tensors.into_iter();
    let tensors = tensors.filter_map(|(key, tensor)| Some((name(&key)?, tensor)));
    let bytes = safetensors::serialize(tensors.collect::<Vec<_>>(), None).unwrap();
    fs::write(&path, bytes).unwrap();
}

fn refusal(folder: &Path) -> String {
    let error = load_adapter(base(), folder, &LoadOptions::default()).unwrap_err();
    error.to_string()
}

/// The config and the tensors have to mean the same modules: each tensor is used, each module that should have one has it.
#[test]
fn configs_and_tensors_that_disagree_are_refused() {
    for (name, field, value, expected) in [
        (
            "dora",
            "use_dora",
            "false",
            "unused: base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        ),
        (
            "rank_pattern",
            "use_dora",
            "true",
            "missing: base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        ),
        ("rank_pattern", "rank_pattern", "{}", "mis-shaped"),
        (
            "rank_pattern",
            "target_modules",
            r#"["q_proj"]"#,
            "not targeted",
        ),
        (
            "rank_pattern",
            "target_modules",
            r#"".*(q_proj|v_proj)""#,
            "",
        ),
        (
            "rank_pattern",
            "target_modules",
            r#"["q_proj", "v_proj", "up_proj"]"#,
            "missing: base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A",
        ),
        (
            "rank_pattern",
            "target_modules",
            r#"["q_proj", "v_proj", "lm_head"]"#,
            "missing: base_model.model.lm_head.lora_A",
        ),
        ("rank_pattern", "lora_bias", "true", "lora_B.bias"),
        (
            "rank_pattern",
            "bias",
            "\"all\"",
            "missing: base_model.model.model.multi_modal_projector.linear_1.bias",
        ),
        (
            "rank_pattern",
            "modules_to_save",
            r#"["multi_modal_projector"]"#,
            "missing: base_model.model.model.multi_modal_projector.linear_1",
        ),
        (
            "rank_pattern",
            "modules_to_save",
            r#"["classifier"]"#,
            "modules_to_save is \"classifier\"",
        ),
        (
            "rank_pattern",
            "trainable_token_indices",
            "[3]",
            "trainable_tokens_delta",
        ),
        ("saved_rows", "trainable_token_indices", "null", "unused"),
        (
            "saved_rows",
            "trainable_token_indices",
            r#"{"embed_tokens": [17, 300], "lm_head": [7, 799]}"#,
            "mis-shaped",
        ),
        (
            "saved_rows",
            "trainable_token_indices",
            r#"{"embed_tokens": [17, 300, 900000], "lm_head": [7, 799]}"#,
            "trainable_token_indices is 900000",
        ),
        (
            "norms_saved",
            "modules_to_save",
            r#"["norm", "lm_head"]"#,
            "missing: base_model.model.lm_head.weight",
        ),
        (
            "some_layers",
            "layers_to_transform",
            "[1, 2, 3]",
            "layers.2.self_attn.q_proj",
        ),
        ("some_layers", "layers_to_transform", "[1]", "not targeted"),
        (
            "some_layers",
            "exclude_modules",
            r#"["up_proj"]"#,
            "not targeted",
        ),
        ("all_linear", "init_lora_weights", "\"loftq\"", "LoftQ"),
    ] {
        let folder = copied(name);
        edit(folder.path(), |config| {
            config[field] = serde_json::from_str(value).unwrap();
        });
        if expected.is_empty() {
            // The tower's linears fit the names too; an adapter of the decoder alone leaves them out.
            load_adapter(base(), folder.path(), &LoadOptions::default()).unwrap();
            continue;
        }
        let text = refusal(folder.path());
        assert!(text.contains(expected), "{name} {field} {value}: {text}");
    }
    // Half an update, and a module of one that is left out.
    let v_proj = "layers.1.self_attn.v_proj";
    for left_out in [format!("{v_proj}.lora_A"), format!("{v_proj}.lora_")] {
        let folder = copied("rank_pattern");
        rename(folder.path(), |key| {
            (!key.contains(&left_out)).then(|| key.to_owned())
        });
        let text = refusal(folder.path());
        assert!(text.contains("missing") && text.contains(v_proj), "{text}");
    }
}

/// Older and newer libraries nest the modules differently, and keep the adapter's name.
#[test]
fn names_of_all_versions_mean_the_same() {
    for (from, to) in [
        ("model.model.language_model.", "model.language_model.model."),
        ("lora_A.weight", "lora_A.default.weight"),
        (
            "lora_magnitude_vector",
            "lora_magnitude_vector.default.weight",
        ),
    ] {
        let folder = copied("dora");
        rename(folder.path(), |key| Some(key.replace(from, to)));
        let (model, _) = load_adapter(base(), folder.path(), &LoadOptions::default()).unwrap();
        assert!(logits(&model) == logits(&adapted("dora").0), "{to}");
    }
    let folder = copied("all_linear");
    rename(folder.path(), |key| {
        let key = key.replace(
            "model.model.vision_tower.",
            "model.vision_tower.vision_model.",
        );
        let key = key.replace("model.model.multi_modal", "model.multi_modal");
        Some(key.replace("model.model.language_model.", "model.language_model.model."))
    });
    let (model, _) = load_adapter(base(), folder.path(), &LoadOptions::default()).unwrap();
    assert!(logits(&model) == logits(&adapted("all_linear").0));
}

/// What is written is read from the model: it comes back equal, whatever ranks and scales it has, and in either layout.
#[test]
fn adapters_with_patterns_come_back() {
    let root = tempfile::tempdir().unwrap();
    for name in ["rank_pattern", "some_layers", "projector_lora", "olora"] {
        let fixture = copied(name);
        // Of the decoder and the projector alone, which an adapter's folder holds.
        rename(fixture.path(), |key| {
            (!key.contains("vision_tower")).then(|| key.to_owned())
        });
        let options = LoadOptions::default();
        let (model, _) = load_adapter(base(), fixture.path(), &options).unwrap();
        for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
            let folder = root.path().join(format!("{name}-{layout:?}"));
            save_adapter(&model, &"tiny".into(), &folder, layout).unwrap();
            let (again, file) = load_adapter(base(), &folder, &options).unwrap();
            assert_eq!(file.layout, layout);
            assert!(logits(&again) == logits(&model), "{name} {layout:?}");
        }
    }
}

/// The settings a trainer was given do not count, only the adapters that are on the model: no config can say another rank than its
/// tensors have.
#[test]
fn the_config_that_is_written_is_the_model_s() {
    let root = tempfile::tempdir().unwrap();
    let earlier = base().apply_lora(&LoraConfig::new(3, 10.0).with_dropout(0.1));
    let folder = root.path().join("earlier");
    save_adapter(&earlier, &"tiny".into(), &folder, AdapterLayout::Peft).unwrap();
    // As a training that goes on with another rank: its model had rank 8 until the checkpoint was put on it.
    let begun = base().apply_lora(&LoraConfig::new(8, 16.0));
    let (resumed, file) = load_adapter(begun, &folder, &LoadOptions::default()).unwrap();
    assert_eq!(
        (file.lora.rank, file.lora.alpha, file.lora.dropout),
        (3, 10.0, 0.1)
    );
    let folder = root.path().join("later");
    save_adapter(&resumed, &"tiny".into(), &folder, AdapterLayout::Peft).unwrap();
    let config = PeftConfig::read(&folder).unwrap().settings();
    assert_eq!((config.rank, config.alpha, config.dropout), (3, 10.0, 0.1));
    load_adapter(base(), &folder, &LoadOptions::default()).unwrap();
}

/// What went into the base is not lost without a word when only an adapter is saved, nor mixed with a second adapter.
#[test]
fn an_adapter_in_the_base_is_not_saved_without_it() {
    let root = tempfile::tempdir().unwrap();
    for name in ["all_linear", "dora", "saved_rows", "bias_all", "lora_bias"] {
        let (model, file) = adapted(name);
        assert!(!file.changed_base.is_empty(), "{name}");
        // Given an adapter beside it, so that there is something to save.
        let adapted = model.clone().apply_lora(&LoraConfig::new(1, 1.0));
        let folder = root.path().join(name);
        let error = save_adapter(&adapted, &"tiny".into(), &folder, AdapterLayout::Peft);
        let refused = matches!(error, Err(CheckpointError::ChangedBase { .. }));
        assert!(refused && !folder.exists(), "{name}");
        let path = fixture("adapters").join("rank_pattern");
        let error = load_adapter(model, path, &LoadOptions::default());
        assert!(
            matches!(error, Err(CheckpointError::HasAdapter { .. })),
            "{name}"
        );
    }
    // Biases of the decoder have no place in any layout; the rest merges.
    let save = |name: &str| {
        let folder = root.path().join(format!("merged-{name}"));
        let model = adapted(name).0.merge_lora();
        save_model(&model, &folder, &SaveOptions::default())?;
        let (again, _) = load_model(&folder, &Device::flex(), &LoadOptions::default())?;
        assert!(logits(&again) == logits(&model), "{name}");
        Ok(())
    };
    let error: Result<(), CheckpointError> = save("lora_bias");
    assert!(matches!(error, Err(CheckpointError::DecoderBias)));
    for name in ["all_linear", "dora", "saved_rows", "bias_all", "olora"] {
        save(name).unwrap();
    }
}

/// In 8 bits a bias is scaled with its outputs; an adapter that goes into such weights is refused.
#[test]
fn adapters_and_weights_in_8_bits() {
    let (model, _) = adapted("lora_bias");
    let quantized = logits(&model.clone().quantize());
    let without = logits(&base().quantize());
    let moved = furthest(&quantized, &without);
    let difference = furthest(&quantized, &logits(&model));
    assert!(difference < 0.1 * moved, "{difference} of {moved}");
    for name in ["dora", "olora"] {
        let path = fixture("adapters").join(name);
        let error = load_adapter(base().quantize(), path, &LoadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("before quantizing"), "{error}");
    }
}

/// A file of the folder, and the folder of a run or of one of its checkpoints, mean the adapter in it.
#[test]
fn paths_near_an_adapter_lead_to_it() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("finetune-1");
    let step = run.join("checkpoints/step-00000100");
    let there = copied("rank_pattern");
    let place = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(there.path().join(name), folder.join(name)).unwrap();
        }
    };
    place(&step.join("adapter"));
    // Before the run is over, its last checkpoint is named.
    let text = refusal(&run);
    let hint = format!("did you mean {}?", step.join("adapter").display());
    assert!(text.contains(&hint), "{text}");
    place(&run.join("adapter"));
    for path in [
        run.join("adapter"),
        run.join("adapter/adapter_model.safetensors"),
        run.join("adapter/adapter_config.json"),
        run.clone(),
        step,
    ] {
        let base = GalleryGpt::load(crate::root().join("datasets/tiny-base"), &Device::flex());
        let gallery = base.unwrap().with_adapter(&path).unwrap();
        let folder = &gallery.adapter_file().unwrap().folder;
        assert!(folder.ends_with("adapter"), "{}", folder.display());
    }
    let missing = refusal(&root.path().join("nothing"));
    assert!(missing.contains("cannot read"), "{missing}");
}

/// A pointer of Git LFS in the place of a file is called one.
#[test]
fn an_adapter_that_was_not_downloaded() {
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let folder = copied("rank_pattern");
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1173\n";
        fs::write(folder.path().join(name), text).unwrap();
        let text = refusal(folder.path());
        assert!(
            text.contains("Git LFS pointer") && text.contains(name),
            "{text}"
        );
    }
}
