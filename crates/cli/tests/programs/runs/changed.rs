//! Runs whose data, base, settings or checkpoints have changed.

use std::{fs, path::Path};

use burn::tensor::Device;
use gallery_gpt::{data::Order, llama::LoraTarget, prelude::*, train::TrainError};
use serde_json::{Value, json};

use super::{Site, refused, succeeded, text};

#[test]
fn a_resume_refuses_by_name_what_changed_behind_its_back() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 4").output().unwrap());
    let change = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = site.path(name);
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        assert!(bytes != before, "{name} is not changed");
        fs::write(&path, bytes).unwrap();
        before
    };
    let replace = |old: &'static str, new: &'static str| {
        move |bytes: &mut Vec<u8>| *bytes = text(bytes).replacen(old, new, 1).into_bytes()
    };
    // One bit of a picture: its size stays.
    let flip = |from_the_end: usize| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.len() - from_the_end;
            bytes[at] ^= 1;
        }
    };
    let weights = fs::read_dir(site.path("base")).unwrap();
    let weights = weights
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .find(|name| name.ends_with(".safetensors"))
        .unwrap();
    type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let changes: [(String, Change<'_>, &str); 8] = [
        ("data/images/0.jpg".into(), Box::new(flip(400)), "pictures"),
        (format!("base/{weights}"), Box::new(flip(5000)), "weights"),
        (
            "base/tokenizer.json".into(),
            Box::new(replace("\"version\"", "\"version\" ")),
            "tokenizer.json",
        ),
        (
            "base/preprocessor_config.json".into(),
            Box::new(replace("\"do_resize\"", "\"do_resize\" ")),
            "preprocessor_config.json",
        ),
        (
            "base/config.json".into(),
            Box::new(replace("{", "{ ")),
            "config.json",
        ),
        (
            "data/train.json".into(),
            Box::new(replace("light", "night")),
            "training records",
        ),
        (
            "data/eval.json".into(),
            Box::new(replace("light", "night")),
            "validation records",
        ),
        (
            "data/images/8.jpg".into(),
            Box::new(flip(400)),
            "validation records",
        ),
    ];
    for (name, how, said) in &changes {
        let before = change(name, how);
        let error = refused(&site.resume("kept", "--max_steps 6").output().unwrap());
        assert!(
            error.contains(said) && error.contains("when the run began"),
            "{name}: {error}"
        );
        fs::write(site.path(name), before).unwrap();
    }
    // A changed number in a config is named.
    let before = change("base/config.json", &|bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        let text = config.get_mut("text_config").unwrap();
        text["rope_theta"] = json!(12345.0);
        *bytes = config.to_string().into_bytes();
    });
    let error = refused(&site.resume("kept", "--max_steps 6").output().unwrap());
    assert!(
        error.contains("rope_theta") && error.contains("12345"),
        "{error}"
    );
    fs::write(site.path("base/config.json"), before).unwrap();
    // Flags that make it another training are refused by name.
    for (flags, said) in [
        ("--learning_rate 0.5", "learning_rate"),
        ("--lora_r 8", "lora.r"),
        ("--lora_alpha 3", "lora.lora_alpha"),
        ("--seed 1", "seed"),
        ("--loss_mean micro_batches", "loss_mean"),
        ("--version llava_v1", "version"),
    ] {
        let error = refused(&site.resume("kept", flags).output().unwrap());
        assert!(error.contains(said), "{flags}: {error}");
    }
    // Unchanged, or moved together with everything it reads, it resumes.
    fs::create_dir(site.path("elsewhere")).unwrap();
    let mut moved = site.resume("../kept", "--max_steps 6");
    moved.current_dir(site.path("elsewhere"));
    succeeded(&moved.output().unwrap());
    for name in ["base", "data"] {
        fs::rename(site.path(name), site.path(&format!("elsewhere/{name}"))).unwrap();
    }
    let places = "--max_steps 7 --base elsewhere/base --data elsewhere/data/train.json --images elsewhere/data \
                  --eval_data elsewhere/data/eval.json --sample_images elsewhere/data/images/0.jpg";
    succeeded(&site.resume("kept", places).output().unwrap());
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 4").output().unwrap());
    let newest = "checkpoints/step-00000004";
    let files = site.files(&format!("kept/{newest}"));
    assert!(files.len() >= 5, "{:?}", files.keys());
    for (name, bytes) in &files {
        // The list of the folder's files has no part in the training.
        if name == Path::new("gallery_gpt.json") {
            continue;
        }
        for at in [0, bytes.len() / 3, bytes.len() - 2] {
            site.copy_run("kept", "flipped");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            fs::write(site.path("flipped").join(newest).join(name), flipped).unwrap();
            let error = refused(&site.resume("flipped", "--max_steps 5").output().unwrap());
            let name = name.file_name().unwrap().to_string_lossy();
            assert!(
                error.contains(&*name) && error.contains("damaged"),
                "{name} {at}: {error}"
            );
        }
    }
    // A missing file, an extra one and a changed log are found too.
    let gone = |run: &Path| fs::remove_file(run.join(newest).join("adapter/gallery_gpt.json"));
    let extra = |run: &Path| fs::write(run.join(newest).join("adapter/more.bin"), "x");
    let log = |run: &Path| {
        let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
        fs::write(
            run.join("log.jsonl"),
            text.replacen("\"step\":1", "\"step\":9", 1),
        )
    };
    type Harm<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let harms: [(Harm<'_>, &str); 3] = [
        (&gone, "gallery_gpt.json"),
        (&extra, "more.bin"),
        (&log, "log.jsonl"),
    ];
    for (harm, said) in harms {
        site.copy_run("kept", "flipped");
        harm(&site.path("flipped")).unwrap();
        let error = refused(&site.resume("flipped", "--max_steps 5").output().unwrap());
        assert!(error.contains(said), "{error}");
    }
    site.copy_run("kept", "flipped");
    succeeded(&site.resume("flipped", "--max_steps 5").output().unwrap());
}

/// Otherwise the checkpoint's adapters would be trained further, and saved under the new settings.
#[test]
fn the_library_refuses_to_resume_with_another_rank() {
    let site = Site::new();
    let base = GalleryGpt::load(site.path("base"), &Device::flex()).unwrap();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        TemplateKind::VicunaV1.template(),
        base.processor().clone(),
        site.path("data"),
        base.model().config().tokens_per_picture(),
        2048,
    );
    let records = PaintingForm::load(site.path("data/train.json"))
        .unwrap()
        .records;
    let train = |lora: LoraConfig, learning_rate: f64, epochs: f64, adapted: bool| {
        let path = site.path("run");
        let mut run = if path.exists() {
            RunFolder::resume(path)
        } else {
            RunFolder::create(path)
        }?;
        let config = TrainingConfig {
            per_device_train_batch_size: 4,
            num_train_epochs: epochs,
            order: Order::Sequential,
            ..TrainingConfig::lora(learning_rate)
        };
        let model = base.model().clone();
        let model = if adapted {
            model.apply_lora(&lora)
        } else {
            model
        };
        let trainer = Trainer::new(config)?.with_origin(base.origin());
        trainer.train(model, &records, &batcher, &mut run, |_| ())?;
        Ok::<_, TrainError>(())
    };
    let lora = LoraConfig::new(4, 8.0);
    let error = train(lora.clone(), 1e-3, 1.0, false).unwrap_err();
    assert!(matches!(error, TrainError::NoAdapter), "{error}");
    fs::remove_dir_all(site.path("run")).unwrap();
    train(lora.clone(), 1e-3, 1.0, true).unwrap();
    for (other, rate, said) in [
        (LoraConfig::new(8, 8.0), 1e-3, "lora.r "),
        (LoraConfig::new(4, 16.0), 1e-3, "lora.lora_alpha"),
        (
            lora.clone()
                .with_targets([LoraTarget::QProj].into_iter().collect()),
            1e-3,
            "target_modules",
        ),
        (lora.clone(), 2e-3, "learning_rate"),
    ] {
        let error = train(other, rate, 2.0, true).unwrap_err();
        assert!(matches!(error, TrainError::Changed { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    train(lora, 1e-3, 2.0, true).unwrap();
    // The config of the result describes its tensors.
    let result = site.path("run/adapter");
    let text = fs::read(result.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(4), &json!(8.0))
    );
    let bytes = fs::read(result.join("adapter_model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let ranks: Vec<usize> = tensors
        .filter(|(name, _)| name.contains("lora_A"))
        .map(|(_, tensor)| tensor.shape()[0])
        .collect();
    assert!(
        !ranks.is_empty() && ranks.iter().all(|&rank| rank == 4),
        "{ranks:?}"
    );
    // Its settings tell the program that it was begun by another one.
    let error = refused(&site.resume("run", "").output().unwrap());
    assert!(error.contains("program of its own"), "{error}");
}
