//! Configs that are no Qwen-VL-Chat's, or belong to other files: refused by name.

use std::path::Path;

use burn::tensor::Device;
use gallery_gpt_checkpoint::{Checkpoint, CheckpointError, LoadOptions, load_model};
use serde_json::{Value, json};

use super::{changed, folder, open};

const CONFIG: &str = "config.json";

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let error = open(&changed(CONFIG, change)).unwrap_err();
    assert!(
        matches!(
            error,
            CheckpointError::Config { .. } | CheckpointError::ModelConfig { .. }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(CONFIG), "{text}");
    text
}

fn without(object: &mut Value, name: &str) {
    assert!(object.as_object_mut().unwrap().remove(name).is_some());
}

#[test]
fn what_is_another_model_is_said() {
    let plain = "a Qwen model of texts; expected Qwen-VL-Chat";
    assert!(refused(|config| without(config, "visual")).contains(plain));
    assert!(refused(|config| config["visual"] = Value::Null).contains(plain));
    let gptq = json!({
        "bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": false, "sym": true, "true_sequential": true,
        "model_name_or_path": null, "model_file_base_name": "model", "quant_method": "gptq",
    });
    let text = refused(|config| config["quantization_config"] = gptq);
    assert!(text.contains("quantized by gptq in 4 bits"), "{text}");
    for kind in ["qwen2", "qwen2_vl", "qwen2_5_vl", "Qwen"] {
        let text = refused(|config| config["model_type"] = json!(kind));
        let words = format!("model_type is `{kind}`, expected llava, llava_llama, share4v or qwen");
        assert!(text.contains(&words), "{text}");
    }
}

#[test]
fn fields_that_it_needs_are_named() {
    for name in [
        "heads",
        "image_size",
        "image_start_id",
        "layers",
        "output_dim",
        "patch_size",
        "width",
    ] {
        let text = refused(|config| without(&mut config["visual"], name));
        assert!(
            text.contains(&format!("visual.{name} is missing")),
            "{text}"
        );
    }
    let text = refused(|config| without(config, "seq_length"));
    assert!(text.contains("seq_length is missing"), "{text}");
    for value in [json!([]), json!("x"), json!(7), json!(true)] {
        let text = refused(|config| config["visual"] = value);
        assert!(
            text.contains("visual is") && text.contains("an object"),
            "{text}"
        );
    }
}

#[test]
fn values_that_its_code_has_not_are_refused_by_name() {
    for (name, value, expected) in [
        ("no_bias", json!(false), "expected true"),
        ("scale_attn_weights", json!(false), "expected true"),
        ("tie_word_embeddings", json!(true), "expected false"),
        ("rotary_pct", json!(0.25), "expected 1.0"),
        ("use_dynamic_ntk", json!("yes"), "expected true or false"),
        ("use_logn_attn", json!(1), "expected true or false"),
        ("intermediate_size", json!(257), "expected an even number"),
        ("kv_channels", json!(32), "a product of hidden_size (256)"),
        ("visual.n_queries", json!(64), "expected 256"),
        ("visual.n_queries", json!("256"), "expected 256"),
        (
            "visual.output_dim",
            json!(512),
            "expected hidden_size (256)",
        ),
        ("visual.mlp_ratio", json!(1e-9), "an MLP width from 1"),
        ("visual.mlp_ratio", json!(1e300), "an MLP width from 1"),
        (
            "visual.image_start_id",
            json!(640),
            "below vocab_size (640)",
        ),
        ("visual.image_size", json!(455), "at most 64 patches a side"),
    ] {
        let text = refused(|config| match name.split_once('.') {
            Some((part, name)) => config[part][name] = value.clone(),
            None => config[name] = value.clone(),
        });
        for part in [name, expected] {
            assert!(text.contains(part), "{name} {value}: {text}");
        }
    }
    // What stands in no file has this value.
    let said = changed(CONFIG, |config| config["visual"]["n_queries"] = json!(256));
    assert!(open(&said).is_ok());
    let flags = changed(CONFIG, |config| {
        for (name, value) in [("fp16", json!(true)), ("use_flash_attn", json!("auto"))] {
            config[name] = value;
        }
    });
    let options = LoadOptions::default();
    let (_, report) = load_model(flags.path(), &Device::flex(), &options).unwrap();
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn a_config_beside_the_tensors_of_another_family_is_refused() {
    let llava = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let qwen = folder();
    std::fs::copy(llava.join(CONFIG), qwen.path().join(CONFIG)).unwrap();
    let text = open(&qwen).unwrap_err().to_string();
    let words = "it is of LLaVA, but the tensors beside it are named as Qwen-VL's";
    assert!(text.contains(words), "{text}");

    let other = tempfile::tempdir().unwrap();
    for (from, name) in [(folder().path(), CONFIG), (&*llava, "model.safetensors")] {
        std::fs::copy(from.join(name), other.path().join(name)).unwrap();
    }
    let text = open(&other).unwrap_err().to_string();
    let words = "it is of Qwen-VL, but the tensors beside it are named as llava-hf's";
    assert!(text.contains(words), "{text}");
    for whole in [folder(), other] {
        // Both at once.
        let name = "model.safetensors";
        std::fs::copy(llava.join(name), whole.path().join(name)).unwrap();
        assert!(open(&whole).is_err());
    }
}

#[test]
fn no_tower_takes_the_place_of_its_own() {
    let llava = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let options = LoadOptions {
        vision_tower: Some(llava.clone()),
        ..LoadOptions::default()
    };
    let error = Checkpoint::open(folder().path(), &options).unwrap_err();
    assert!(matches!(error, CheckpointError::OwnTower { .. }), "{error}");
    assert!(
        error.to_string().contains(llava.to_str().unwrap()),
        "{error}"
    );
}
