//! Hostile files and absurd configs cost little memory and time. Each is opened in a process of its own.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burn::tensor::Device;
use gallery_gpt::checkpoint::{LoadOptions, WeightFiles, load_model};
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{with_field, write};
use crate::{fixture, root};

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
pub(super) fn opened_apart(path: &Path) -> (Vec<String>, u64) {
    let start = Instant::now();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "checkpoints::hostile::opens_what_is_hostile",
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

/// A tensor over storage 0 of 16 elements, of a shape that is repeated along strides of 0.
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
