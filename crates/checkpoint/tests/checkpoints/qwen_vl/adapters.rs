//! Adapters on Qwen-VL-Chat, and on the wrong base.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use gallery_gpt_checkpoint::{
    AdapterLayout, AdapterOrigin, CheckpointError, LazyTensor, LoadOptions, Placement, Slot,
    WeightFiles, load_adapter, load_model, load_projector, save_adapter, write_tensors,
};
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::{GalleryModel, GalleryModelConfig};
use serde_json::{Value, json};

use super::{goldens, read};
use crate::{tiny, values};

fn model() -> GalleryModel {
    let options = LoadOptions::default();
    let (model, _) = load_model(goldens().join("model"), &Device::flex(), &options).unwrap();
    model
}

/// The fixtures' adapter with more tensors, and its config changed.
fn adapter(folder: &Path, more: Vec<(String, Tensor<2>)>, change: impl FnOnce(&mut Value)) {
    let source = goldens().join("lora/peft");
    let mut config = read(&source.join("adapter_config.json"));
    change(&mut config);
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let file = ["adapter_model.safetensors", "adapter_model.bin"];
    let file = file.map(|name| source.join(name));
    let file = file.iter().find(|path| path.is_file()).unwrap();
    let weights = WeightFiles::open_single(file).unwrap();
    let tensors = weights.iter().map(|(name, stored)| {
        let slot = Slot {
            key: name,
            shape: &stored.shape,
            placement: Placement::Same,
            more_rows: false,
            dtype: None,
            device: &Device::flex(),
        };
        let value: Tensor<2> = stored.load(&slot).unwrap();
        (
            name.to_owned(),
            LazyTensor::new(value, Placement::Same, None),
        )
    });
    let more = more
        .into_iter()
        .map(|(name, value)| (name, LazyTensor::new(value, Placement::Same, None)));
    let tensors = tensors.chain(more).collect();
    write_tensors(&folder.join("adapter_model.safetensors"), tensors).unwrap();
}

#[test]
fn embedding_and_head_that_were_trained_whole_are_loaded() {
    let base = model();
    let device = Device::flex();
    let rows = base.config().llama.vocab_size;
    let width = base.config().llama.hidden_size;
    let whole = |value: f32| Tensor::<2>::full([rows, width], value, &device);
    for wrapped in ["", ".modules_to_save.default"] {
        let folder = tempfile::tempdir().unwrap();
        let name = |module: &str| format!("base_model.model.{module}{wrapped}.weight");
        let more = vec![
            (name("transformer.wte"), whole(0.25)),
            (name("lm_head"), whole(-0.5)),
        ];
        adapter(folder.path(), more, |config| {
            config["modules_to_save"] = json!(["wte", "lm_head"]);
        });
        let options = LoadOptions::default();
        let (adapted, file) = load_adapter(base.clone(), folder.path(), &options).unwrap();
        let mut changed = file.changed_base.clone();
        changed.sort();
        assert_eq!(
            changed,
            [
                "language_model.lm_head",
                "language_model.model.embed_tokens"
            ]
        );
        let decoder = &adapted.language_model;
        let all = |value: Tensor<2>, expected: f32| {
            let values = value.into_data().convert::<f32>();
            let values: Vec<f32> = values.try_into_vec().unwrap();
            values.iter().all(|&value| value == expected)
        };
        assert!(all(decoder.embed_tokens.weight.val(), 0.25));
        assert!(all(decoder.lm_head.weight.val(), -0.5));
        // They are not in an adapter's folder.
        let error = save_adapter(
            &adapted,
            &"base".into(),
            folder.path().join("again"),
            AdapterLayout::Peft,
        );
        assert!(matches!(error, Err(CheckpointError::ChangedBase { .. })));
    }
    // The original's script saves the names without the weights.
    let folder = tempfile::tempdir().unwrap();
    adapter(folder.path(), Vec::new(), |config| {
        config["modules_to_save"] = json!(["wte", "lm_head"]);
    });
    let error = load_adapter(base, folder.path(), &LoadOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("transformer.wte.weight") && text.contains("lm_head.weight"),
        "{text}"
    );
}

#[test]
fn an_adapter_of_another_family_is_refused_with_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    adapter(folder.path(), Vec::new(), |config| {
        config["base_model_name_or_path"] = json!("Qwen/Qwen-VL-Chat");
    });
    let options = LoadOptions::default();
    let error = load_adapter(tiny(1), folder.path(), &options).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, CheckpointError::ForeignAdapter { .. }),
        "{text}"
    );
    for part in [
        "named as in Qwen-VL",
        "the base is a LLaVA",
        "(Qwen/Qwen-VL-Chat)",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let lora = LoraConfig::new(2, 4.0);
    let llava = tiny(2).apply_lora(&lora);
    for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
        let path = folder.path().join(format!("{layout:?}"));
        save_adapter(&llava, &"llava".into(), &path, layout).unwrap();
        let error = load_adapter(model(), &path, &options).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, CheckpointError::ForeignAdapter { .. }),
            "{text}"
        );
        for part in ["named as in LLaVA", "the base is a Qwen-VL", "(llava)"] {
            assert!(text.contains(part), "{text}");
        }
    }
    let error = load_projector(model(), folder.path(), &options).unwrap_err();
    assert!(matches!(error, CheckpointError::NoOwnProjector), "{error}");
}

#[test]
fn an_adapter_comes_back_from_pefts_layout_alone() {
    let device = Device::flex();
    let base = GalleryModelConfig::tiny_qwen_vl().init(&device);
    values(&base);
    let mut lora = LoraConfig::qwen_vl_chat();
    lora.rank = 4;
    let adapted = base.clone().apply_lora(&lora);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("adapter");
    let origin = AdapterOrigin::from("tiny");
    save_adapter(&adapted, &origin, &path, AdapterLayout::Peft).unwrap();
    let (again, file) = load_adapter(base, &path, &LoadOptions::default()).unwrap();
    assert!(values(&again) == values(&adapted));
    assert_eq!((file.layout, file.lora), (AdapterLayout::Peft, lora));
    assert_eq!(
        read(&path.join("adapter_config.json"))["target_modules"],
        json!(["attn.c_proj", "w2", "w1", "c_attn"])
    );

    let path = root.path().join("other");
    let error = save_adapter(&adapted, &origin, &path, AdapterLayout::LlavaLora).unwrap_err();
    assert!(
        matches!(error, CheckpointError::CannotStore { .. }),
        "{error}"
    );
    assert!(!path.exists());
}
