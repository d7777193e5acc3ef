//! Folders of Qwen-VL-Chat: absurd configs cost little memory and time, and changed files are noticed.

use std::path::PathBuf;

use burn::tensor::Device;
use gallery_gpt::{GalleryGpt, model::GenerationConfig};
use serde_json::{Value, json};

use super::{hostile::opened_apart, read, write};
use crate::root;

fn source() -> PathBuf {
    root().join("crates/gallery-gpt/tests/goldens/qwen_basic/model")
}

/// The tiny model's config with fields changed, by their paths with dots.
fn with_fields(fields: &[(&str, Value)]) -> Value {
    let mut config = read(&source().join("config.json"));
    for (field, value) in fields {
        match field.split_once('.') {
            Some((part, name)) => config[part][name] = value.clone(),
            None => config[*field] = value.clone(),
        }
    }
    config
}

#[test]
#[cfg(target_os = "linux")]
fn absurd_configs_of_qwen_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut make = |kind: &str, fields: &[(&str, Value)]| {
        let made = folder.path().join(kind).join(format!("{count:03}"));
        count += 1;
        std::fs::create_dir_all(&made).unwrap();
        for entry in std::fs::read_dir(source()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            if name != "config.json" {
                std::os::unix::fs::symlink(&path, made.join(name)).unwrap();
            }
        }
        write(&made.join("config.json"), &with_fields(fields));
    };
    let sizes = [
        json!(0),
        json!(-1),
        json!(5),
        json!(10_000),
        json!(1_000_000),
        json!(1_u64 << 31),
        json!(1_u64 << 40),
        json!(1_u64 << 63),
        json!(u64::MAX),
        json!(1e300),
        json!(128.5),
        json!("128"),
        json!([128]),
        json!({}),
    ];
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "kv_channels",
        "intermediate_size",
        "vocab_size",
        "visual.width",
        "visual.layers",
        "visual.heads",
        "visual.image_size",
        "visual.patch_size",
        "visual.output_dim",
        "visual.image_start_id",
        "visual.n_queries",
    ] {
        for value in &sizes {
            make("refused", &[(field, value.clone())]);
        }
    }
    let numbers = [
        "layer_norm_epsilon",
        "rotary_emb_base",
        "visual.mlp_ratio",
        "seq_length",
        "max_position_embeddings",
    ];
    for field in numbers {
        for value in [json!(0), json!(-1), json!("1e-5"), json!([1])] {
            make("refused", &[(field, value)]);
        }
    }
    for field in ["seq_length", "max_position_embeddings"] {
        for value in [json!(1_u64 << 31), json!(1_u64 << 62), json!(2.5)] {
            make("refused", &[(field, value)]);
        }
    }
    // Sizes that fit each other, and no tensor.
    let wide = json!(1 << 20);
    make(
        "refused",
        &[
            ("hidden_size", wide.clone()),
            ("num_attention_heads", json!(1 << 13)),
            ("kv_channels", json!(128)),
            ("visual.output_dim", wide.clone()),
            ("intermediate_size", wide.clone()),
        ],
    );
    make(
        "refused",
        &[("visual.width", wide), ("visual.heads", json!(1 << 10))],
    );
    make(
        "refused",
        &[
            ("visual.layers", json!(60)),
            ("num_hidden_layers", json!(60)),
        ],
    );
    // Lengths that no tensor has.
    for field in ["seq_length", "max_position_embeddings"] {
        for value in [2, 1 << 30] {
            make("loaded", &[(field, json!(value))]);
        }
    }
    make("good", &[]);
    let refused = count - 5;

    let (said, normal) = opened_apart(&folder.path().join("good"));
    assert!(said[0].ends_with(": loaded"), "{said:?}");
    for (kind, expected) in [("refused", refused), ("loaded", 4)] {
        let (said, peak) = opened_apart(&folder.path().join(kind));
        assert_eq!(said.len(), expected);
        for line in &said {
            let (milliseconds, said) = line.split_once(" ms ").unwrap();
            assert_eq!(said.ends_with(": loaded"), kind == "loaded", "{line}");
            let is_named =
                said.contains("config.json") || said.contains("does not match the model");
            assert!(kind == "loaded" || is_named, "{line}");
            assert!(milliseconds.parse::<u64>().unwrap() < 1000, "{line}");
        }
        assert!(
            peak <= normal + 64,
            "{kind}: {peak} MiB, {normal} for the model itself"
        );
    }
}

#[test]
fn another_tokenizer_is_told_from_the_base() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let known = || {
        let gallery = GalleryGpt::load(folder.path(), &Device::flex()).unwrap();
        let written_by = gallery.written_by(&GenerationConfig::greedy(1)).unwrap();
        (gallery.report().identity().unwrap(), written_by)
    };
    let (identity, written_by) = known();
    let path = folder.path().join("qwen.tiktoken");
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, lines.replace('\n', "\r\n")).unwrap();
    let (later, then) = known();
    assert_eq!(
        later.differences(&identity),
        ["the base's qwen.tiktoken is not the same"]
    );
    assert_ne!(then, written_by);
}
