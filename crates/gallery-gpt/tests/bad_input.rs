//! What comes from outside gives a typed error that names it, never a panic, whatever is wrong with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use gallery_gpt::{
    GalleryGpt,
    checkpoint::{
        AdapterLayout, CheckpointError, LoadOptions, Problem, SaveOptions, Strictness,
        load_adapter, load_model, save_adapter, save_model,
    },
    data::{Batch, DatasetError, PaintingForm, RecordError, TestSet},
    llama::LoraConfig,
    model::{
        GalleryModelConfig, GenerationConfig, GenerationError, Generator, Prompt, SpliceError,
    },
    text::{Tokenizer, TokenizerError, TokenizerMode},
    train::{RunFolder, TrainError, TrainState, TrainingConfig},
    vision::{ImageError, ImageProcessorConfig, PixelValues},
};

fn datasets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Where to cut a file: every byte of its head, and steps through the rest.
fn cuts(length: usize, head: usize) -> impl Iterator<Item = usize> {
    let step = ((length - head.min(length)) / 200).max(1);
    (0..head.min(length)).chain((head.min(length)..length).step_by(step))
}

#[test]
fn tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NotFound { .. }), "{error}");
    for (name, bytes) in [
        ("tokenizer.json", &b"{}"[..]),
        ("tokenizer.json", b"{\"model\": 7"),
        ("tokenizer.model", b""),
        ("tokenizer.model", b"\x0a\xff\xff\xff\xff\x0fgarbage"),
        ("tokenizer.model", b"not a protobuf"),
    ] {
        let path = write(folder.path(), name, bytes);
        let error = Tokenizer::from_file(&path, TokenizerMode::Slow).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/basic/tokenizer");
    let whole = std::fs::read(goldens.join("tokenizer.model")).unwrap();
    for cut in cuts(whole.len(), 300) {
        // Protobuf has no end mark: a cut between two pieces leaves a smaller vocabulary without its trainer's spec.
        let path = write(folder.path(), "tokenizer.model", &whole[..cut]);
        assert!(
            Tokenizer::from_file(&path, TokenizerMode::Slow).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn data_sets() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    assert!(matches!(
        PaintingForm::load(&missing),
        Err(DatasetError::Read { .. })
    ));
    assert!(matches!(
        TestSet::load(&[missing]),
        Err(DatasetError::Read { .. })
    ));
    let object = write(folder.path(), "object.json", r#"{"records": []}"#);
    let error = PaintingForm::load(&object).unwrap_err().to_string();
    assert!(
        error.contains("object.json") && error.contains("a JSON array"),
        "{error}"
    );
    let pictureless =
        r#"[{"id": "identity_7", "conversations": [{"from": "human", "value": "<image>"}]}]"#;
    let pictureless = write(folder.path(), "pictureless.json", pictureless);
    let error = PaintingForm::load(&pictureless).unwrap_err().to_string();
    assert!(
        error.contains("identity_7") && error.contains("for 0 pictures"),
        "{error}"
    );
    let whole =
        std::fs::read(datasets().join("painting-form-mini/formalanalysis_test_gpt.json")).unwrap();
    for cut in cuts(whole.len() - 3, 50) {
        let path = write(folder.path(), "cut.json", &whole[..cut]);
        assert!(TestSet::load(&[path]).is_err(), "cut at {cut}");
    }
}

/// A PNG that says it has 60000x60000 pixels and is a few hundred bytes long.
fn bomb() -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (0_u32.wrapping_sub(crc & 1)))
            })
        })
    }
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        [
            &(data.len() as u32).to_be_bytes()[..],
            &body,
            &crc(&body).to_be_bytes(),
        ]
        .concat()
    };
    let side = 60_000_u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn pictures() {
    let processor = ImageProcessorConfig::new(28).init();
    let missing = processor.open("no/such/picture.png").unwrap_err();
    assert!(matches!(missing, ImageError::Read { .. }), "{missing}");
    let error = processor.decode("bomb.png", &bomb()).unwrap_err();
    assert!(
        matches!(error, ImageError::TooLarge { width: 60_000, .. }),
        "{error}"
    );
    for bytes in [
        &b""[..],
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
    ] {
        let error = processor.decode("junk", bytes).unwrap_err();
        assert!(error.to_string().contains("junk"), "{error}");
    }
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/basic/images/files");
    for name in [
        "photo_420.jpg",
        "photo_422_progressive.jpg",
        "rgba.png",
        "palette.png",
    ] {
        let whole = std::fs::read(goldens.join(name)).unwrap();
        let half = processor.decode(name, &whole[..whole.len() / 2]);
        let found = matches!(
            half,
            Err(ImageError::Decode { .. } | ImageError::Truncated { .. })
        );
        assert!(found, "{name}");
        for cut in cuts(whole.len(), 64) {
            // No panic; a cut in the last bytes may leave every pixel whole.
            let _ = processor.decode(name, &whole[..cut]);
        }
    }
}

#[test]
fn checkpoints_cut_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let path = folder.path().join("tiny");
    let model = GalleryModelConfig::tiny().init(&device);
    save_model(&model, &path, &SaveOptions::default()).unwrap();
    let weights = path.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for cut in cuts(whole.len(), header + 1) {
        std::fs::write(&weights, &whole[..cut]).unwrap();
        let error = load_model(&path, &device, &LoadOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("model.safetensors"),
            "cut at {cut}: {error}"
        );
    }
    // A header length that points beyond the file, and one that overflows.
    for length in [u64::MAX, 1 << 40, whole.len() as u64] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&weights, bytes).unwrap();
        assert!(load_model(&path, &device, &LoadOptions::default()).is_err());
    }
    std::fs::write(&weights, &whole).unwrap();
    let config = std::fs::read(path.join("config.json")).unwrap();
    for cut in cuts(config.len() - 3, 20) {
        std::fs::write(path.join("config.json"), &config[..cut]).unwrap();
        let error = load_model(&path, &device, &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, CheckpointError::Config { .. }), "{error}");
    }
}

#[test]
fn checkpoints_that_do_not_match() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let options = LoadOptions::default();
    let error = load_model(folder.path(), &device, &options).unwrap_err();
    assert!(matches!(error, CheckpointError::Read { .. }), "{error}");

    let path = folder.path().join("tiny");
    let model = GalleryModelConfig::tiny().init(&device);
    save_model(&model, &path, &SaveOptions::default()).unwrap();
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();

    // Another model's config, not a damaged file of ours.
    std::fs::remove_file(path.join("gallery_gpt.json")).unwrap();
    let change = |from: &str, to: &str| {
        assert!(config.contains(from));
        write(&path, "config.json", config.replacen(from, to, 1));
        load_model(&path, &device, &options)
    };
    let Err(CheckpointError::Mismatch { problems, .. }) =
        change("\"intermediate_size\": 96", "\"intermediate_size\": 80")
    else {
        panic!("an MLP of another width is a mismatch");
    };
    assert!(
        problems.iter().all(|p| matches!(p, Problem::Shape { .. })),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 6);
    let Err(CheckpointError::Mismatch { problems, .. }) =
        change("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")
    else {
        panic!("a block too few leaves tensors unused");
    };
    assert!(
        problems.iter().all(|p| matches!(p, Problem::Unused { .. })),
        "{problems:?}"
    );
    let Err(CheckpointError::Mismatch { problems, .. }) =
        change("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4")
    else {
        panic!("blocks too many are missing");
    };
    assert!(
        problems
            .iter()
            .all(|p| matches!(p, Problem::Missing { .. })),
        "{problems:?}"
    );
    let partial = LoadOptions {
        strictness: Strictness::Partial,
        ..options.clone()
    };
    let (_, report) = load_model(&path, &device, &partial).unwrap();
    assert_eq!(report.missing.len(), 18);
    assert!(change("\"num_attention_heads\": 4", "\"num_attention_heads\": 5").is_err());
    assert!(change("\"model_type\": \"llava\"", "\"model_type\": \"bert\"").is_err());
    write(&path, "config.json", &config);

    // An index that names a shard which is not there.
    std::fs::rename(path.join("model.safetensors"), path.join("a.safetensors")).unwrap();
    let index = r#"{"weight_map": {"language_model.lm_head.weight": "b.safetensors"}}"#;
    write(&path, "model.safetensors.index.json", index);
    let error = load_model(&path, &device, &options).unwrap_err();
    assert!(error.to_string().contains("b.safetensors"), "{error}");
    let index = r#"{"weight_map": {"language_model.lm_head.weight": "../a.safetensors"}}"#;
    write(&path, "model.safetensors.index.json", index);
    assert!(matches!(
        load_model(&path, &device, &options),
        Err(CheckpointError::Index { .. })
    ));
}

#[test]
fn adapters_of_another_base() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let lora = LoraConfig::new(4, 8.0);
    let model = GalleryModelConfig::tiny().init(&device);
    let path = folder.path().join("adapter");
    assert!(matches!(
        save_adapter(&model, &"tiny".into(), &path, AdapterLayout::Peft),
        Err(CheckpointError::NoAdapter)
    ));
    save_adapter(
        &model.clone().apply_lora(&lora),
        &"tiny".into(),
        &path,
        AdapterLayout::Peft,
    )
    .unwrap();

    let mut wider = GalleryModelConfig::tiny();
    wider.llama.hidden_size = 64;
    let error = load_adapter(wider.init(&device), &path, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("mis-shaped"), "{error}");
    let config = std::fs::read_to_string(path.join("adapter_config.json")).unwrap();
    // Another trainer's config, not a damaged file of ours.
    std::fs::remove_file(path.join("gallery_gpt.json")).unwrap();
    for (from, to, expected) in [
        ("\"r\": 4", "\"r\": 8", "mis-shaped"),
        ("\"r\": 4", "\"r\": 0", "r is 0"),
        (
            "\"use_dora\": false",
            "\"use_dora\": true",
            "lora_magnitude_vector",
        ),
        ("\"LORA\"", "\"IA3\"", "IA3"),
    ] {
        assert!(config.contains(from), "{config}");
        write(&path, "adapter_config.json", config.replace(from, to));
        let error = load_adapter(model.clone(), &path, &LoadOptions::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn prompts_and_settings_of_generation() {
    let model = GalleryModelConfig::tiny().init(&Device::flex());
    let generate = |prompt: Prompt, config: GenerationConfig| {
        Generator::new(&model, config)
            .generate(&[prompt])
            .unwrap_err()
    };
    let greedy = GenerationConfig::greedy(3);
    let error = generate(Prompt::text(vec![1; 600]), greedy.clone());
    assert!(
        matches!(error, GenerationError::PromptTooLong { length: 600, .. }),
        "{error}"
    );
    let error = generate(Prompt::text(vec![1, -200]), greedy.clone());
    let expected = SpliceError::Pictures {
        placeholders: 1,
        pictures: 0,
    };
    assert!(
        matches!(&error, GenerationError::Splice(found) if *found == expected),
        "{error}"
    );
    let error = generate(Prompt::text(vec![1, 9_999]), greedy.clone());
    assert!(error.to_string().contains("9999"), "{error}");
    let small = PixelValues::from_values(vec![0.0; 3 * 14 * 14], 14);
    let error = generate(
        Prompt::with_pictures(vec![1, -200], vec![small]),
        greedy.clone(),
    );
    assert!(
        matches!(
            error,
            GenerationError::Splice(SpliceError::PictureSize { found: 14, .. })
        ),
        "{error}"
    );
    for config in [
        GenerationConfig::greedy(0),
        GenerationConfig {
            temperature: f32::NAN,
            ..greedy.clone()
        },
        GenerationConfig {
            top_p: 0.0,
            ..greedy.clone()
        },
        GenerationConfig {
            repetition_penalty: -1.0,
            ..greedy
        },
    ] {
        let error = generate(Prompt::text(vec![1]), config);
        assert!(matches!(error, GenerationError::Config { .. }), "{error}");
    }
}

#[test]
fn settings_and_losses_of_training() {
    let device = Device::flex();
    let model = GalleryModelConfig::tiny()
        .init(&device)
        .apply_lora(&LoraConfig::new(4, 8.0));
    for config in [
        TrainingConfig::lora(-1.0),
        TrainingConfig::lora(f64::NAN),
        TrainingConfig {
            warmup_ratio: 1.5,
            ..TrainingConfig::lora(1e-3)
        },
        TrainingConfig {
            max_grad_norm: Some(0.0),
            ..TrainingConfig::lora(1e-3)
        },
        TrainingConfig {
            num_train_epochs: 0.0,
            ..TrainingConfig::lora(1e-3)
        },
    ] {
        let error = TrainState::new(model.clone(), &config, 10).err().unwrap();
        assert!(matches!(error, TrainError::Config(_)), "{error}");
    }
    let plain = GalleryModelConfig::tiny().init(&device);
    let mut frozen = TrainingConfig::lora(1e-3);
    frozen.parts.projector = gallery_gpt::train::Trainable::Frozen;
    let error = TrainState::new(plain, &frozen, 10).err().unwrap();
    assert!(matches!(error, TrainError::NothingTrainable), "{error}");

    let mut state = TrainState::new(model, &TrainingConfig::lora(1e-3), 10).unwrap();
    let batch = |labels: Vec<i64>, picture: f32| Batch {
        input_ids: vec![vec![1, -200, 5, 6]],
        labels: vec![labels],
        pictures: vec![PixelValues::from_values(vec![picture; 3 * 28 * 28], 28)],
        ids: vec!["identity_9".to_owned()],
    };
    let error = state.step(&[batch(vec![-100; 4], 0.0)]).unwrap_err();
    assert!(
        matches!(error, TrainError::NothingSupervised { .. }),
        "{error}"
    );
    let error = state
        .step(&[batch(vec![-100, -100, 5, 6], f32::NAN)])
        .unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("identity_9"), "{error}");
    // The state is as before, and goes on.
    assert_eq!(state.steps_done(), 0);
    state.step(&[batch(vec![-100, -100, 5, 6], 0.5)]).unwrap();

    let folder = tempfile::tempdir().unwrap();
    // One that never began is nothing; an earlier run is not overwritten, and neither is anything else.
    for _ in 0..2 {
        RunFolder::create(folder.path().join("run")).unwrap();
    }
    for (name, holds) in [("run", "holds a run"), ("mine", "thesis.txt")] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let file = if name == "run" {
            "log.jsonl"
        } else {
            "thesis.txt"
        };
        std::fs::write(path.join(file), "a line\n").unwrap();
        let error = RunFolder::create(&path).unwrap_err().to_string();
        assert!(error.contains(holds), "{error}");
        assert_eq!(std::fs::read(path.join(file)).unwrap(), b"a line\n");
    }
    let error = RunFolder::resume(folder.path().join("run")).unwrap_err();
    assert!(matches!(error, TrainError::NoRun { .. }), "{error}");
}

#[test]
fn the_facade_passes_errors_on() {
    let device = Device::flex();
    let error = GalleryGpt::load("no/such/folder", &device).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    let gallery = GalleryGpt::load(datasets().join("tiny-base"), &device).unwrap();
    let config = GenerationConfig::greedy(3);
    let error = gallery.describe("no/such.png", "Q", &config).unwrap_err();
    assert!(error.to_string().contains("no/such.png"), "{error}");
    let error = gallery.with_adapter("no/such/adapter").unwrap_err();
    assert!(error.to_string().contains("no/such/adapter"), "{error}");
    let record = RecordError::TooLong {
        length: 3000,
        limit: 2048,
    };
    assert!(record.to_string().contains("3000") && record.to_string().contains("2048"));
}
