//! Models of other tools: weights, configs, checksums.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burn::tensor::Device;
use gallery_gpt::{
    GalleryGpt,
    checkpoint::{CheckpointError, LoadOptions, WeightFiles, load_model},
    vision::AspectRatio,
};
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{fixture, root};

/// A copy of the tiny base.
fn base(folder: &Path) -> PathBuf {
    let to = folder.join("base");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(root().join("datasets/tiny-base")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// The tiny base's config with one field changed, by its path with dots.
fn with_field(field: &str, value: Value) -> Value {
    let mut config = read(&root().join("datasets/tiny-base/config.json"));
    match field.split_once('.') {
        Some((part, name)) => config[part][name] = value,
        None => config[field] = value,
    }
    config
}

fn refused(folder: &Path) -> String {
    let error = GalleryGpt::load(folder, &Device::flex()).unwrap_err();
    error.to_string()
}

#[test]
fn fields_that_mean_another_model_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    for (field, value, expected) in [
        (
            "quantization_config",
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }),
            "quantized by bitsandbytes in 4 bits",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "fp8", "activation_scheme": "dynamic" }),
            "quantized by fp8",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "gptq", "bits": 3 }),
            "quantized by gptq in 3 bits",
        ),
        (
            "text_config.quantization_config",
            json!({ "quant_method": "awq", "bits": 4 }),
            "quantized by awq in 4 bits",
        ),
        (
            "quantization",
            json!({ "group_size": 64, "bits": 4 }),
            "4 bits",
        ),
        (
            "vision_feature_layer",
            json!([-2, -5]),
            "vision_feature_layer is [-2,-5]",
        ),
        (
            "vision_feature_layer",
            json!("-2"),
            "vision_feature_layer is",
        ),
        (
            "multimodal_projector_bias",
            json!(false),
            "multimodal_projector_bias is false",
        ),
        (
            "projector_hidden_act",
            json!("relu"),
            "projector_hidden_act is \"relu\"",
        ),
        (
            "tie_word_embeddings",
            json!(true),
            "tie_word_embeddings is true",
        ),
        (
            "text_config.tie_word_embeddings",
            json!(true),
            "text_config.tie_word_embeddings is true",
        ),
        (
            "text_config.attention_bias",
            json!(true),
            "text_config.attention_bias is true",
        ),
        (
            "text_config.mlp_bias",
            json!(true),
            "text_config.mlp_bias is true",
        ),
        (
            "text_config.hidden_act",
            json!("gelu"),
            "text_config.hidden_act is \"gelu\"",
        ),
        (
            "text_config.sliding_window",
            json!(512),
            "text_config.sliding_window is 512",
        ),
        (
            "text_config.model_type",
            json!("mistral"),
            "text_config.model_type is `mistral`",
        ),
        (
            "text_config.rope_scaling",
            json!({ "type": "linear", "factor": 2.0 }),
            "linear",
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "llama3", "rope_theta": 1e4 }),
            "llama3",
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "default", "rope_theta": 5e5 }),
            "rope_theta",
        ),
        (
            "text_config.partial_rotary_factor",
            json!(0.5),
            "partial_rotary_factor is 0.5",
        ),
        (
            "vision_config.model_type",
            json!("siglip_vision_model"),
            "vision_config.model_type is `siglip_vision_model`",
        ),
        (
            "vision_config.vision_use_head",
            json!(true),
            "vision_config.vision_use_head is true",
        ),
        (
            "vision_config.hidden_act",
            json!("gelu_pytorch_tanh"),
            "gelu_pytorch_tanh",
        ),
    ] {
        write(&base.join("config.json"), &with_field(field, value));
        let error = refused(&base);
        assert!(
            error.contains(expected) && error.contains("config.json"),
            "{field}: {error}"
        );
    }
}

#[test]
fn fields_that_mean_the_same_model_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    for (field, value) in [
        ("vision_feature_layer", json!([-2])),
        ("vision_feature_layer", json!(3)),
        ("multimodal_projector_bias", json!(true)),
        ("quantization_config", Value::Null),
        ("text_config.hidden_act", json!("swish")),
        ("text_config.sliding_window", Value::Null),
        (
            "text_config.rope_scaling",
            json!({ "rope_type": "default" }),
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "default", "rope_theta": 10000.0 }),
        ),
        ("text_config.head_dim", json!(32)),
    ] {
        write(&base.join("config.json"), &with_field(field, value));
        let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
        let blocks = gallery.model().config().select_layer.blocks(4).unwrap();
        assert_eq!((blocks, gallery.notes()), (3, Vec::new()), "{field}");
    }
}

#[test]
fn what_is_assumed_or_not_followed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    let note = |field: &str, value: Value| {
        write(&base.join("config.json"), &with_field(field, value));
        let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
        (
            gallery.notes().join("\n"),
            gallery.model().config().aspect_ratio,
        )
    };
    let (said, _) = note("text_config.attention_dropout", json!(0.1));
    assert!(
        said.contains("text_config.attention_dropout is 0.1"),
        "{said}"
    );
    let (said, _) = note("vision_config.some_new_field", json!(7));
    assert!(said.contains("vision_config.some_new_field"), "{said}");
    let (said, _) = note("image_seq_length", json!(576));
    assert!(said.contains("576") && said.contains("64 tokens"), "{said}");
    // Who does not say how pictures become square.
    let (said, aspect_ratio) = note("image_aspect_ratio", Value::Null);
    assert!(
        said.contains("image_aspect_ratio") && aspect_ratio == AspectRatio::Pad,
        "{said}"
    );
    let preprocessor = base.join("preprocessor_config.json");
    let whole = read(&preprocessor);
    for (do_pad, expected) in [(true, AspectRatio::Pad), (false, AspectRatio::CenterCrop)] {
        let mut said_here = whole.clone();
        said_here["do_pad"] = json!(do_pad);
        write(&preprocessor, &said_here);
        assert_eq!(
            note("image_aspect_ratio", Value::Null),
            (String::new(), expected)
        );
    }
    // A part of processor_config.json comes before the other file, as in transformers 5.
    let mut nested = whole.clone();
    nested["image_mean"] = json!([0.5, 0.5, 0.5]);
    let processor = base.join("processor_config.json");
    write(
        &processor,
        &json!({ "image_processor": nested, "patch_size": 8, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default" }),
    );
    let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
    assert_eq!(gallery.processor().config().image_mean, [0.5; 3]);
    write(&processor, &json!({ "patch_size": 14 }));
    let error = refused(&base);
    assert!(
        error.contains("patch_size is 14") && error.contains("processor_config.json"),
        "{error}"
    );
    std::fs::remove_file(processor).unwrap();
    std::fs::remove_file(preprocessor).unwrap();
    let (said, _) = note("image_aspect_ratio", json!("pad"));
    assert!(said.contains("no preprocessor_config.json"), "{said}");
}

#[test]
fn git_lfs_pointers_are_told() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 14000000000\n";
    for name in [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let base = base(folder.path());
        std::fs::write(base.join(name), pointer).unwrap();
        let error = refused(&base);
        assert!(
            error.contains(name) && error.contains("git lfs pull"),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.safetensors.index.json",
    ] {
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let error = WeightFiles::open(folder.path()).unwrap_err();
        let is_told =
            matches!(&error, CheckpointError::GitLfsPointer { path } if path.ends_with(name));
        assert!(is_told, "{error}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
}

#[test]
fn files_of_other_kinds_are_called_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let tar = [&[b'x'; 257][..], b"ustar\x0000", &[0; 248]].concat();
    for (bytes, expected) in [
        // pickle.dump({"a": 1}), with protocols 2 and 4.
        (
            &b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."[..],
            "a pickle that torch.save did not write",
        ),
        (
            b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.",
            "a pickle that torch.save did not write",
        ),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (&tar, "tar archive"),
        (b"PK\x03\x04 and nothing else", "archive"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = WeightFiles::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("pytorch_model.bin"),
            "{error}"
        );
    }
}

/// In the child that a test of memory starts: the folder or file to open.
const HOSTILE: &str = "GALLERY_GPT_TEST_HOSTILE";

/// Not a test of its own: opens what the tests below made, and says the largest memory it ever held, in KiB.
#[test]
fn opens_what_is_hostile() {
    let mut out = std::io::stdout();
    let Some(path) = std::env::var_os(HOSTILE).map(PathBuf::from) else {
        return;
    };
    if path.is_file() {
        let opened = WeightFiles::open_single(&path);
        let bytes = opened.map(|files| {
            files
                .iter()
                .map(|(_, tensor)| tensor.bytes().map(|bytes| bytes.len()))
                .collect::<Vec<_>>()
        });
        writeln!(
            out,
            "said {}",
            bytes.map_or_else(|error| error.to_string(), |bytes| format!("{bytes:?}"))
        )
        .unwrap();
    } else {
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let start = Instant::now();
            let loaded = load_model(entry.path(), &Device::flex(), &LoadOptions::default());
            let said = loaded.map_or_else(|error| error.to_string(), |_| "loaded".to_owned());
            writeln!(
                out,
                "said {} ms {}: {}",
                start.elapsed().as_millis(),
                entry.path().display(),
                said.lines().next().unwrap()
            )
            .unwrap();
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    writeln!(out, "peak {}", peak.trim().trim_end_matches(" kB")).unwrap();
}

/// What a child says of a file or of folders, and its peak of memory in MiB.
fn opened_apart(path: &Path) -> (Vec<String>, u64) {
    let start = Instant::now();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "checkpoints::opens_what_is_hostile",
            "--exact",
            "--nocapture",
        ])
        .env(HOSTILE, path)
        .output()
        .unwrap();
    let text = String::from_utf8(child.stdout).unwrap();
    assert!(
        child.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    if path.is_file() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
    let lines = |what: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(what));
        lines.map(str::to_owned).collect()
    };
    let peak: u64 = lines("peak ")[0].parse().unwrap();
    (lines("said "), peak >> 10)
}

/// A PyTorch archive with a pickle and one storage of 64 bytes.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [
        ("archive/data.pkl", pickle),
        ("archive/data/0", &[0; 64]),
        ("archive/version", b"3\n"),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A tensor over storage 0 of 16 numbers, of a shape that is repeated along strides of 0.
fn expanded(rows: u32) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQK\0(M\xff\xffJ".to_vec();
    out.extend(rows.to_le_bytes());
    out.extend(b"t(K\0K\0t\x89}tR");
    out
}

#[test]
#[cfg(target_os = "linux")]
fn no_pickle_takes_more_memory_than_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.bin");
    let start = |rest: &[&[u8]]| [&[&b"\x80\x02"[..]], rest].concat().concat();
    let numbered: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| [&b"r"[..], &n.to_le_bytes()].concat())
        .collect();
    let calls = b"h\x00h\x01R0".repeat(300_000);
    let long_list = [&b"]("[..], &b"K\x01K\x02\x86".repeat(80_000), b"e\x85q\x01"].concat();
    let cases = [
        std::fs::read(fixture("none_flood.bin")).unwrap(),
        archive(&start(&[b"](", &vec![b'N'; 6_000_000], b"e."])),
        archive(&start(&[&vec![b'}'; 6_000_000], b"."])),
        archive(&start(&[&vec![b'('; 6_000_000], b"."])),
        archive(&start(&[b"N", &vec![b'2'; 6_000_000], b"."])),
        archive(&start(&[b"N", &numbered, b"."])),
        archive(&start(&[
            b"ccollections\nOrderedDict\nq\x00",
            &long_list,
            &calls,
            b".",
        ])),
        archive(&start(&[
            b"}(X\x01\0\0\0a",
            &expanded(i32::MAX as u32),
            b"u.",
        ])),
        archive(&start(&[
            b"}(",
            &[&b"X\x01\0\0\0a"[..], &expanded(1)].concat().repeat(3000),
            b"u.",
        ])),
    ];
    let good = root().join("crates/checkpoint/tests/torch_files/plain.bin");
    let (_, normal) = opened_apart(&good);
    for (number, bytes) in cases.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let (said, peak) = opened_apart(&path);
        assert!(
            peak <= normal + 64,
            "case {number}: {peak} MiB, {normal} for a good file: {said:?}"
        );
        assert!(
            said[0].contains("hostile.bin") || number == 8,
            "case {number}: {said:?}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn absurd_configs_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = root().join("datasets/tiny-base");
    let mut count = 0;
    let mut make = |field: &str, value: Value| {
        let made = folder.path().join("models").join(format!("{count:03}"));
        count += 1;
        std::fs::create_dir_all(&made).unwrap();
        for name in ["model.safetensors", "preprocessor_config.json"] {
            std::os::unix::fs::symlink(tiny.join(name), made.join(name)).unwrap();
        }
        write(&made.join("config.json"), &with_field(field, value));
    };
    let sizes = [
        json!(0),
        json!(-1),
        json!(3),
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
        "text_config.hidden_size",
        "text_config.num_hidden_layers",
        "text_config.num_attention_heads",
        "text_config.num_key_value_heads",
        "text_config.head_dim",
        "text_config.intermediate_size",
        "text_config.vocab_size",
        "vision_config.hidden_size",
        "vision_config.intermediate_size",
        "vision_config.num_hidden_layers",
        "vision_config.image_size",
        "vision_config.patch_size",
        "vision_config.num_channels",
        "image_token_index",
    ] {
        for value in &sizes {
            // Three channels are right, and three words a vocabulary.
            let is_right = ["vision_config.num_channels", "image_token_index"].contains(&field)
                && *value == json!(3);
            if !is_right {
                make(field, value.clone());
            }
        }
    }
    for value in [
        json!(0),
        json!(-100),
        json!(1_000_000_000),
        json!(i64::MIN),
        json!(u64::MAX),
    ] {
        if value != json!(0) {
            make("vision_feature_layer", value);
        }
    }
    for field in [
        "text_config.rms_norm_eps",
        "text_config.rope_theta",
        "vision_config.layer_norm_eps",
    ] {
        for value in [json!(0), json!(-1), json!("1e-5")] {
            make(field, value);
        }
    }
    for value in [json!(0), json!(1_u64 << 62), json!(-5)] {
        make("text_config.max_position_embeddings", value);
    }
    // Large in bytes, and deep.
    make("text_config.junk", json!(vec!["y"; 3_000_000]));
    let deep = folder.path().join("models/deep");
    std::fs::create_dir(&deep).unwrap();
    std::os::unix::fs::symlink(
        tiny.join("model.safetensors"),
        deep.join("model.safetensors"),
    )
    .unwrap();
    std::fs::write(deep.join("config.json"), "[".repeat(500_000)).unwrap();

    let one = folder.path().join("good");
    std::fs::create_dir(&one).unwrap();
    std::os::unix::fs::symlink(&tiny, one.join("tiny-base")).unwrap();
    let (said, normal) = opened_apart(&one);
    assert!(said[0].ends_with(": loaded"), "{said:?}");
    let (said, peak) = opened_apart(&folder.path().join("models"));
    assert_eq!(said.len(), count + 1);
    for line in &said {
        let (milliseconds, said) = line.split_once(" ms ").unwrap();
        assert!(!said.ends_with(": loaded"), "{line}");
        assert!(
            said.contains("config.json") || said.contains("does not match the model"),
            "{line}"
        );
        assert!(milliseconds.parse::<u64>().unwrap() < 1000, "{line}");
    }
    assert!(
        peak <= normal + 64,
        "{peak} MiB, {normal} for the model itself"
    );
}
