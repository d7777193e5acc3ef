//! Every layout that is written is read again, and files made to do harm are refused by name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, AdapterOrigin, Checkpoint, CheckpointError, Layout, LoadOptions, Problem,
        SaveOptions, TensorDtype, WeightFiles, load_adapter, load_model, save_adapter, save_model,
    },
    llama::LoraConfig,
    model::{GalleryModel, GalleryModelConfig},
};
use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Every number of a model, in f32.
fn numbers(model: &GalleryModel) -> Vec<Vec<f32>> {
    struct Numbers(Vec<Vec<f32>>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data().convert::<f32>();
            self.0.push(data.try_into_vec().unwrap());
        }
    }
    let mut numbers = Numbers(Vec::new());
    model.visit(&mut numbers);
    numbers.0
}

/// Some model; the device's random numbers are shared by all tests, so another with the same seed may have other weights.
fn tiny(seed: u64) -> GalleryModel {
    let device = Device::flex();
    device.seed(seed);
    let model = GalleryModelConfig::tiny().init(&device);
    // Parameters are made when first used: now, before another model is.
    numbers(&model);
    model
}

fn load(folder: &Path) -> Result<GalleryModel, CheckpointError> {
    load_model(folder, &Device::flex(), &LoadOptions::default()).map(|(model, _)| model)
}

#[test]
fn every_layout_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let model = tiny(1);
    let whole = numbers(&model);
    let mut fingerprints = Vec::new();
    for layout in [Layout::LlavaHf, Layout::LlavaHfNested, Layout::Llava] {
        for max_shard_size in [u64::MAX, 20_000] {
            let folder = root.path().join(format!("{layout:?}-{max_shard_size}"));
            let options = SaveOptions {
                layout,
                max_shard_size,
                ..SaveOptions::default()
            };
            save_model(&model, &folder, &options).unwrap();
            assert_eq!(
                folder.join("model.safetensors.index.json").is_file(),
                max_shard_size == 20_000
            );
            let options = LoadOptions::default();
            let (again, report) = load_model(&folder, &Device::flex(), &options).unwrap();
            assert_eq!(report.layout, layout);
            assert_eq!(again.config(), model.config());
            assert!(numbers(&again) == whole, "{layout:?}");
            let parameters: u64 = report.parts().iter().map(|(_, count)| count).sum();
            assert_eq!(parameters, report.parameters);
            assert_eq!(
                parameters as usize,
                whole.iter().map(Vec::len).sum::<usize>()
            );
            let checked = Checkpoint::open(&folder, &options).unwrap();
            let checked = checked.check(&Device::flex());
            assert_eq!(checked.used, report.used);
            assert_eq!(checked.fingerprint, report.fingerprint);
            fingerprints.push(report.fingerprint.unwrap());
        }
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1, "one model, one fingerprint");
    let other = root.path().join("other");
    save_model(&tiny(2), &other, &SaveOptions::default()).unwrap();
    let (_, report) = load_model(&other, &Device::flex(), &LoadOptions::default()).unwrap();
    assert_ne!(report.fingerprint.unwrap(), fingerprints[0]);
}

#[test]
fn number_types_are_kept_and_changed() {
    let root = tempfile::tempdir().unwrap();
    let model = tiny(1);
    for dtype in [TensorDtype::F32, TensorDtype::F16, TensorDtype::BF16] {
        let folder = root.path().join(format!("{dtype:?}"));
        let options = SaveOptions {
            dtype: Some(dtype),
            layout: Layout::Llava,
            ..SaveOptions::default()
        };
        save_model(&model, &folder, &options).unwrap();
        let again = load(&folder).unwrap();
        assert_eq!(again.dtype(), dtype.burn());
        let relative = match dtype {
            TensorDtype::F32 => 0.0,
            TensorDtype::F16 => 1.0 / 2048.0,
            TensorDtype::BF16 => 1.0 / 256.0,
        };
        for (a, b) in numbers(&model)
            .iter()
            .flatten()
            .zip(numbers(&again).iter().flatten())
        {
            // Below the normal numbers of f16 the steps no longer shrink.
            assert!((a - b).abs() <= (a.abs() * relative).max(3e-8), "{a} {b}");
        }
    }
}

#[test]
fn adapters_come_back_from_both_layouts() {
    let root = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(4, 8.0);
    let base = tiny(3);
    let adapted = base.clone().apply_lora(&lora);
    let origin = AdapterOrigin {
        base_model: "tiny".to_owned(),
        base_fingerprint: Some("aa".repeat(32)),
        template: Some("vicuna_v1".to_owned()),
        ..AdapterOrigin::default()
    };
    for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
        let folder = root.path().join(format!("{layout:?}"));
        save_adapter(&adapted, &origin, &folder, layout).unwrap();
        let options = LoadOptions::default();
        let (again, file) = load_adapter(base.clone(), &folder, &options).unwrap();
        assert!(numbers(&again) == numbers(&adapted), "{layout:?}");
        assert_eq!((file.layout, &file.lora), (layout, &lora));
        assert_eq!(file.origin.as_ref(), Some(&origin));
    }
    let folder = root.path().join("LlavaLora");
    let rest = WeightFiles::open_single(folder.join("non_lora_trainables.bin")).unwrap();
    let names: Vec<&str> = rest.iter().map(|(key, _)| key).collect();
    assert_eq!(
        names,
        [
            "base_model.model.model.mm_projector.0.bias",
            "base_model.model.model.mm_projector.0.weight",
            "base_model.model.model.mm_projector.2.bias",
            "base_model.model.model.mm_projector.2.weight"
        ]
    );

    let here = AdapterOrigin {
        base_fingerprint: Some("bb".repeat(32)),
        template: Some("llava_v0".to_owned()),
        ..origin.clone()
    };
    let notes = origin.differences(&here);
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("another base") && notes[1].contains("llava_v0"));
    assert!(origin.differences(&"tiny".into()).is_empty());
}

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
fn merged_equals_adapted_after_a_round_through_files() {
    let root = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(4, 8.0);
    let adapted = tiny(3).apply_lora(&lora);
    let merged = adapted.clone().merge_lora();
    let folder = root.path().join("merged");
    save_model(&merged, &folder, &SaveOptions::default()).unwrap();
    assert!(numbers(&load(&folder).unwrap()) == numbers(&merged));
}

#[test]
fn two_checkpoints_in_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();

    // The same tensors once more, as a PyTorch file: safetensors are taken, the other is named.
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
fn numbers_that_are_none() {
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

    // The lowest bit of a number in the middle of the largest tensor.
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
    // Stock CLIP lies beside it, but the config names another.
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

#[test]
fn safetensors_that_lie() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.safetensors");
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let cases = [
        format!(
            r#"{{"a":{},"b":{}}}"#,
            tensor("[2]", 0, 8),
            tensor("[2]", 4, 12)
        ),
        format!(r#"{{"a":{}}}"#, tensor("[2]", 8, 0)),
        format!(r#"{{"a":{}}}"#, tensor("[4611686018427387904,4]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[18446744073709551615]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[4]", 0, u64::MAX)),
        format!(r#"{{"a":{}}}"#, tensor("[3]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[4]", 16, 32)),
        r#"{"a":[]}"#.to_owned(),
        "[".repeat(10_000),
    ];
    for header in cases {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 16]);
        std::fs::write(&path, bytes).unwrap();
        let error = WeightFiles::open_single(&path).unwrap_err();
        assert!(error.to_string().contains("x.safetensors"), "{error}");
    }
    // Nothing in it is no lie.
    let header = format!(r#"{{"a":{}}}"#, tensor("[0,7]", 0, 0));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(&path, bytes).unwrap();
    let files = WeightFiles::open_single(&path).unwrap();
    assert!(files.get("a").unwrap().bytes().unwrap().is_empty());
}

/// A PyTorch file of f32 tensors, all zero, by name and shape.
fn pickled(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, shape) in tensors {
        pickle.extend(text(key));
        pickle.extend(tensor(shape.iter().map(|&size| size as i64), 0, 1 << 20));
    }
    pickle.extend(b"u.");
    archive(&pickle, CompressionMethod::Stored, 4 << 20)
}

fn text(text: &str) -> Vec<u8> {
    let mut out = b"X".to_vec();
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

fn int(value: i64) -> Vec<u8> {
    let mut out = b"\x8a\x08".to_vec();
    out.extend(value.to_le_bytes());
    out
}

/// A tensor over storage `0`, which has `stored` numbers.
fn tensor(shape: impl Iterator<Item = i64> + Clone, offset: i64, stored: i64) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(text("storage"));
    out.extend(b"ctorch\nFloatStorage\n");
    out.extend(text("0"));
    out.extend(text("cpu"));
    out.extend(int(stored));
    out.extend(b"tQ");
    out.extend(int(offset));
    out.extend(b"(");
    let sizes: Vec<i64> = shape.collect();
    for size in &sizes {
        out.extend(int(*size));
    }
    out.extend(b"t(");
    for at in 0..sizes.len() {
        out.extend(int(sizes[at + 1..]
            .iter()
            .fold(1, |a, b| a.wrapping_mul(*b))));
    }
    out.extend(b"t\x89}tR");
    out
}

fn archive(pickle: &[u8], method: CompressionMethod, stored: usize) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &vec![0; stored]),
        ("archive/version", b"3\n"),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn opened(root: &Path, bytes: &[u8]) -> Result<WeightFiles, CheckpointError> {
    let path = root.join("hostile.bin");
    std::fs::write(&path, bytes).unwrap();
    WeightFiles::open_single(&path)
}

#[test]
fn pickles_that_mean_harm() {
    let root = tempfile::tempdir().unwrap();
    let stored = |pickle: &[u8]| archive(pickle, CompressionMethod::Stored, 64);
    let dictionary = |value: &[u8]| {
        let mut pickle = b"\x80\x02}(".to_vec();
        pickle.extend(text("weight"));
        pickle.extend(value);
        pickle.extend(b"u.");
        stored(&pickle)
    };
    let good = dictionary(&tensor([4, 4].into_iter(), 0, 16));
    assert_eq!(opened(root.path(), &good).unwrap().len(), 1);

    let touched = root.path().join("touched");
    let mut run = b"cposix\nsystem\n(".to_vec();
    run.extend(text(&format!("touch {}", touched.display())));
    run.extend(b"tR");
    let mut deep = vec![b'('; 100_000];
    deep.extend(vec![b't'; 100_000]);
    let mut sized = Vec::new();
    for shape in [
        vec![1 << 62, 2],
        vec![i64::MAX],
        vec![-1, 4],
        vec![1 << 32, 1 << 32],
    ] {
        sized.push(dictionary(&tensor(shape.into_iter(), 0, 16)));
    }
    let mut cases = vec![
        dictionary(&run),
        stored(&[b"\x80\x02".to_vec(), run.clone(), b".".to_vec()].concat()),
        dictionary(&deep),
        // Behind its storage, and before it.
        dictionary(&tensor([4, 4].into_iter(), 1, 16)),
        dictionary(&tensor([4].into_iter(), -1, 16)),
        // A storage that the file has not.
        dictionary(&tensor([1 << 20].into_iter(), 0, 1 << 20)),
        // No tensor, no end, no stack, no such memo.
        dictionary(b"K\x01"),
        stored(b"\x80\x02}"),
        stored(b"\x80\x02u."),
        stored(b"\x80\x02h\x05."),
        stored(b""),
        b"PK\x03\x04".to_vec(),
        good[..good.len() - 30].to_vec(),
    ];
    cases.extend(sized);
    for (number, bytes) in cases.iter().enumerate() {
        match opened(root.path(), bytes) {
            Err(error) => assert!(
                error.to_string().contains("hostile.bin"),
                "{number}: {error}"
            ),
            // What the pickle says of a storage is known to be wrong when that is read.
            Ok(files) => {
                let (key, tensor) = files.iter().next().unwrap();
                let error = tensor.bytes().unwrap_err().to_string();
                assert!(
                    error.contains("hostile.bin") && error.contains(key),
                    "{number}: {error}"
                );
            }
        }
    }
    assert!(!touched.exists(), "a pickle was run");
}

#[test]
fn pytorch_files_cut_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let whole = std::fs::read(goldens.join("gqa/model/mm_projector.bin")).unwrap();
    let head = 300;
    let step = (whole.len() - head) / 200;
    for cut in (0..head).chain((head..whole.len()).step_by(step)) {
        let error = opened(root.path(), &whole[..cut]).unwrap_err();
        assert!(error.to_string().contains("hostile.bin"), "{cut}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_pickle_is_read_or_refused(
        pickle in prop::collection::vec(any::<u8>(), 0..60),
        prefix in any::<bool>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut bytes = if prefix { b"\x80\x02}(".to_vec() } else { Vec::new() };
        bytes.extend(&pickle);
        bytes.extend(b"u.");
        let _ = opened(root.path(), &archive(&bytes, CompressionMethod::Stored, 16));
    }
}

#[test]
fn writing_over_what_is_being_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    let model = load(&folder).unwrap();
    let before = numbers(&model);
    save_model(&tiny(2), &folder, &SaveOptions::default()).unwrap();
    assert!(
        numbers(&model) == before,
        "a loaded model keeps its weights"
    );
    // And onto itself.
    save_model(&model, &folder, &SaveOptions::default()).unwrap();
    assert!(numbers(&load(&folder).unwrap()) == before);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

const VICTIM: &str = "GALLERY_GPT_TEST_VICTIM";

/// Not a test of its own: what the next one kills.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let models = [tiny(1), tiny(2)];
        for turn in 0.. {
            let path = PathBuf::from(&folder);
            save_model(&models[turn % 2], path, &SaveOptions::default()).unwrap();
        }
    }
}

/// What is being written in a folder, or was when its writer was killed.
#[cfg(target_os = "linux")]
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_partial = |path: &PathBuf| path.to_string_lossy().contains(".partial-");
    paths.filter(is_partial).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn killed_while_writing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    // Only a kill that left something unfinished fell into a write.
    let mut kills_in_a_write = 0;
    for attempt in 0..200 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, &folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while unfinished(root.path()).is_empty() {
            assert!(
                victim.try_wait().unwrap().is_none(),
                "the writer ended by itself"
            );
        }
        std::thread::sleep(Duration::from_micros(300 * (attempt % 20)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let left = unfinished(root.path());
        kills_in_a_write += usize::from(!left.is_empty());
        for path in left {
            std::fs::remove_dir_all(path).unwrap();
        }
        load(&folder).unwrap();
        if kills_in_a_write == 20 {
            return;
        }
    }
    panic!("{kills_in_a_write} of 200 kills fell into a write, expected 20");
}
