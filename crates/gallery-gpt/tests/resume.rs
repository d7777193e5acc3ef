//! A training that was killed and went on leaves the same bytes as one that was not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use gallery_gpt::{
    checkpoint::AdapterOrigin,
    data::{Order, Record},
    prelude::*,
    train::{AdapterWriting, TrainError, TrainableParts},
};
use rand::{RngExt, SeedableRng};

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn config() -> TrainingConfig {
    TrainingConfig {
        num_train_epochs: 2,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        order: Order::GroupByLength,
        save_steps: Some(2),
        ..TrainingConfig::lora(2e-3)
    }
}

fn records(count: usize) -> Vec<Record> {
    let file = datasets().join("painting-form-mini/train_samples_tuning.json");
    let mut records = PaintingForm::load(file).unwrap().records;
    records.truncate(count);
    records
}

/// Trains in a folder, going on with what is there.
fn train(
    folder: &Path,
    config: &TrainingConfig,
    records: &[Record],
    observe: impl FnMut(&TrainEvent),
) -> Result<(), TrainError> {
    let base = GalleryGpt::load(datasets().join("tiny-base"), &Device::flex()).unwrap();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        TemplateKind::VicunaV1.template(),
        base.processor().clone(),
        datasets().join("painting-form-mini"),
        base.model().config().tokens_per_picture(),
        2048,
    );
    let mut run = match RunFolder::create(folder) {
        Ok(run) => run,
        Err(_) => RunFolder::resume(folder)?,
    };
    let trainer = Trainer::new(config.clone())?;
    if config.parts != TrainableParts::LORA {
        let model = base.model().clone();
        trainer.train(model, None, records, &batcher, &mut run, observe)?;
        return Ok(());
    }
    let lora = LoraConfig {
        dropout: 0.1,
        ..LoraConfig::new(4, 8.0)
    };
    let adapter = AdapterWriting {
        lora: &lora,
        origin: &AdapterOrigin::from("tiny-base"),
    };
    let model = base.model().clone().apply_lora(&lora);
    trainer.train_adapter(model, adapter, records, &batcher, &mut run, observe)?;
    Ok(())
}

/// Every file under a folder but the speeds.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.file_name().unwrap() != "speed.jsonl" {
            let name = path.strip_prefix(folder).unwrap().to_owned();
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

fn assert_same(found: &Path, expected: &Path, what: &str) {
    let (found, expected) = (files(found), files(expected));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "{what}");
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{what}: {} differs", name.display());
    }
}

const VICTIM: &str = "GALLERY_GPT_TEST_TRAINING";

/// Not a test of its own: what the next one kills.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        train(Path::new(&folder), &config(), &records(14), |_| ()).unwrap();
    }
}

#[test]
fn killed_fifty_times() {
    let root = tempfile::tempdir().unwrap();
    let spawn = |folder: &Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let straight = root.path().join("straight");
    let began = std::time::Instant::now();
    assert!(spawn(&straight).wait().unwrap().success());
    let whole = began.elapsed();
    assert!(files(&straight).len() > 8);

    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut kills = 0;
    for run in 0.. {
        let folder = root.path().join(format!("killed-{run}"));
        loop {
            let mut victim = spawn(&folder);
            let moment = if kills < 50 {
                random.random_range(0.05..1.0)
            } else {
                f64::INFINITY
            };
            let moment = Duration::try_from_secs_f64(whole.as_secs_f64() * moment);
            let until = std::time::Instant::now() + moment.unwrap_or(Duration::from_secs(120));
            let ended = loop {
                match victim.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if std::time::Instant::now() >= until => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if let Some(status) = ended {
                assert!(status.success());
                break;
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
            kills += 1;
        }
        assert_same(
            &folder,
            &straight,
            &format!("run {run}, after {kills} kills in all"),
        );
        std::fs::remove_dir_all(&folder).unwrap();
        if kills >= 50 {
            break;
        }
    }
}

/// Ends a training after a step, as a crash would.
fn crash_after(folder: &Path, config: &TrainingConfig, records: &[Record], last: usize) {
    let crashed = catch_unwind(AssertUnwindSafe(|| {
        train(folder, config, records, |event| {
            if let TrainEvent::Step { report, .. } = event {
                assert!(report.step < last, "crash");
            }
        })
    }));
    assert!(crashed.is_err());
}

#[test]
fn whole_parts_go_on_too() {
    let root = tempfile::tempdir().unwrap();
    let records = records(12);
    for (name, parts) in [
        ("projector", TrainableParts::PROJECTOR),
        ("full", TrainableParts::FULL),
    ] {
        let config = TrainingConfig { parts, ..config() };
        let [straight, crashed] =
            ["straight", "crashed"].map(|kind| root.path().join(kind).join(name));
        train(&straight, &config, &records, |_| ()).unwrap();
        crash_after(&crashed, &config, &records, 3);
        let mut resumed = None;
        train(&crashed, &config, &records, |event| {
            if let TrainEvent::Resumed { step } = event {
                resumed = Some(*step);
            }
        })
        .unwrap();
        assert_eq!(resumed, Some(2));
        assert_same(&crashed, &straight, name);
    }
}

#[test]
fn epochs_can_be_added_and_records_cannot_change() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let twelve = records(12);
    let epochs = |num_train_epochs| TrainingConfig {
        num_train_epochs,
        ..config()
    };
    train(&run, &epochs(1), &twelve, |_| ()).unwrap();
    let mut steps = Vec::new();
    train(&run, &epochs(3), &twelve, |event| {
        if let TrainEvent::Step { report, .. } = event {
            steps.push(report.step);
        }
    })
    .unwrap();
    assert_eq!(steps, [4, 5, 6, 7, 8, 9]);
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 9);
    // Two are kept, and no more is left behind.
    assert_eq!(
        std::fs::read_dir(run.join("checkpoints")).unwrap().count(),
        2
    );

    let error = train(&run, &epochs(4), &records(11), |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::Changed { .. }), "{error}");

    // A damaged checkpoint is named.
    let newest = run.join("checkpoints/step-00000009");
    for file in [
        "optimizer.bpk",
        "state.json",
        "adapter/adapter_model.safetensors",
    ] {
        let path = newest.join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = train(&run, &epochs(4), &twelve, |_| ()).unwrap_err();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.to_string().contains(&name), "{error}");
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::write(run.join("log.jsonl"), "").unwrap();
    let error = train(&run, &epochs(4), &twelve, |_| ()).unwrap_err();
    assert!(error.to_string().contains("log.jsonl"), "{error}");
}
