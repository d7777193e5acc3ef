//! The door to finetuning: what it checks, what it writes, and what it refuses to resume.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use gallery_gpt::{
    FinetuneError, Finetuned,
    data::Order,
    llama::LoraTarget,
    prelude::*,
    train::{OnBadRecord, TrainError, TrainableParts},
};
use gallery_gpt_testkit::copy_of_tiny_base;
use serde_json::Value;
use tempfile::TempDir;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use super::root;

const QUESTION: &str = "Please write a paragraph of formal analysis for this painting.";

fn base_at(folder: &Path) -> GalleryGpt {
    GalleryGpt::load(folder, &Device::flex()).unwrap()
}

fn tiny_base() -> PathBuf {
    root().join("datasets/tiny-base")
}

fn sample() -> PathBuf {
    root().join("datasets/painting-form-mini")
}

/// A copy of the sample's first eight records and their pictures; returns the file.
fn few_records(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(sample().join("train_samples_tuning.json")).unwrap();
    let mut records: Vec<Value> = serde_json::from_str(&text).unwrap();
    records.truncate(8);
    for record in &records {
        let name = record["image"].as_str().unwrap();
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::copy(sample().join(name), folder.join(name)).unwrap();
    }
    let file = folder.join("records.json");
    fs::write(&file, serde_json::to_string(&records).unwrap()).unwrap();
    file
}

fn steps(count: usize) -> TrainingConfig {
    TrainingConfig {
        max_steps: Some(count),
        num_train_epochs: 8.0,
        per_device_train_batch_size: 4,
        ..TrainingConfig::lora(4e-3)
    }
}

fn adapter() -> LoraConfig {
    LoraConfig::new(4, 8.0)
}

/// Two steps in `run`, on the records of a folder.
fn two_steps(data: &TempDir, run: &Path) -> Result<Finetuned, FinetuneError> {
    let file = few_records(data.path());
    base_at(&tiny_base())
        .finetune(adapter(), steps(2))
        .records(file, data.path())?
        .run(run, |_| {})
}

#[test]
fn a_finetuning_ends_with_a_model_that_its_adapter_makes_again() {
    let data = tempfile::tempdir().unwrap();
    let run = data.path().join("run");
    let finetuned = two_steps(&data, &run).unwrap();
    assert_eq!(finetuned.result(), run.join("adapter"));
    let picture = sample().join("images/test_0.jpg");
    let config = GenerationConfig::greedy(16);
    let text = finetuned
        .gallery()
        .describe(&picture, QUESTION, &config)
        .unwrap();
    drop(finetuned);
    let loaded = base_at(&tiny_base()).with_adapter(&run).unwrap();
    assert_eq!(loaded.describe(&picture, QUESTION, &config).unwrap(), text);

    // The run goes on where it stopped, and only in a folder that holds it.
    let file = data.path().join("records.json");
    let longer = || {
        base_at(&tiny_base())
            .finetune(adapter(), steps(3))
            .records(&file, data.path())
            .unwrap()
    };
    let error = longer().run(&run, |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            FinetuneError::Train(TrainError::HoldsRun { whole: true, .. })
        ),
        "{error}"
    );
    let resumed = longer().resume(&run).unwrap();
    assert_eq!((resumed.steps_done(), resumed.is_done()), (2, false));
    let mut done = Vec::new();
    resumed
        .train(|event| {
            if let TrainEvent::Step { report, .. } = event {
                done.push(report.step);
            }
        })
        .unwrap();
    assert_eq!(done, [3]);
    let nowhere = longer().resume(data.path().join("nowhere")).unwrap_err();
    assert!(
        matches!(nowhere, FinetuneError::Train(TrainError::NoRun { .. })),
        "{nowhere}"
    );
}

#[test]
fn another_training_is_refused_by_the_library() {
    let data = tempfile::tempdir().unwrap();
    let run = data.path().join("run");
    two_steps(&data, &run).unwrap();
    let file = data.path().join("records.json");
    let before = fs::read(run.join("adapter/adapter_config.json")).unwrap();
    let resume = |base: GalleryGpt, lora: LoraConfig, training: TrainingConfig| {
        base.finetune(lora, training)
            .records(&file, data.path())
            .unwrap()
            .resume(&run)
            .unwrap()
            .train(|_| {})
            .unwrap_err()
            .to_string()
    };
    let base = || base_at(&tiny_base());
    let more = || steps(3);
    for (what, error) in [
        ("lora.r", resume(base(), LoraConfig::new(8, 8.0), more())),
        (
            "lora.lora_alpha",
            resume(base(), LoraConfig::new(4, 16.0), more()),
        ),
        (
            "lora.target_modules",
            resume(
                base(),
                LoraConfig {
                    targets: [LoraTarget::QProj].into_iter().collect(),
                    ..adapter()
                },
                more(),
            ),
        ),
        (
            "learning_rate",
            resume(
                base(),
                adapter(),
                TrainingConfig {
                    learning_rate: 1e-3,
                    ..more()
                },
            ),
        ),
        (
            "per_device_train_batch_size",
            resume(
                base(),
                adapter(),
                TrainingConfig {
                    per_device_train_batch_size: 2,
                    ..more()
                },
            ),
        ),
        (
            "order",
            resume(
                base(),
                adapter(),
                TrainingConfig {
                    order: Order::Sequential,
                    ..more()
                },
            ),
        ),
        (
            "template",
            resume(
                base().with_template(TemplateKind::LlavaV1),
                adapter(),
                more(),
            ),
        ),
    ] {
        assert!(error.contains(what), "{what}: {error}");
    }

    // The base, in its last byte; then a picture.
    let other = copy_of_tiny_base(data.path());
    let weights = other.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let error = resume(base_at(&other), adapter(), more());
    assert!(error.contains("the base's weights"), "{error}");

    let text = fs::read_to_string(&file).unwrap();
    let records: Vec<Value> = serde_json::from_str(&text).unwrap();
    let picture = |at: usize| data.path().join(records[at]["image"].as_str().unwrap());
    fs::copy(picture(1), picture(0)).unwrap();
    let error = resume(base(), adapter(), more());
    assert!(error.contains("pictures"), "{error}");

    let after = fs::read(run.join("adapter/adapter_config.json")).unwrap();
    assert_eq!(before, after, "a refused training changed the result");
}

#[test]
fn records_are_checked_before_the_first_step() {
    let data = tempfile::tempdir().unwrap();
    let file = few_records(data.path());
    let text = fs::read_to_string(&file).unwrap();
    let mut records: Vec<Value> = serde_json::from_str(&text).unwrap();
    records[2]["image"] = "images/missing.jpg".into();
    records[5]["conversations"] = Value::Null;
    fs::write(&file, serde_json::to_string(&records).unwrap()).unwrap();
    let run = data.path().join("run");
    let finetune = |on_bad_record| {
        let training = TrainingConfig {
            on_bad_record,
            ..steps(1)
        };
        base_at(&tiny_base())
            .finetune(adapter(), training)
            .records(&file, data.path())
    };
    let error = finetune(OnBadRecord::Fail).unwrap_err();
    let FinetuneError::BadRecords {
        bad: 2,
        total: 8,
        first,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(first.index, 2);
    assert!(error.to_string().contains("missing.jpg"), "{error}");

    let error = finetune(OnBadRecord::Skip { max: 1 })
        .unwrap()
        .run(&run, |_| {})
        .unwrap_err();
    assert!(
        matches!(
            error,
            FinetuneError::Train(TrainError::TooManyBadRecords { count: 2, .. })
        ),
        "{error}"
    );
    let finetuned = finetune(OnBadRecord::Skip { max: 2 })
        .unwrap()
        .run(&run, |_| {})
        .unwrap();
    assert_eq!(finetuned.folder().bad_count(), 2);
    let list = fs::read_to_string(finetuned.folder().bad_records()).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");

    // Validation records are never left out.
    let error = finetune(OnBadRecord::Skip { max: 2 })
        .unwrap()
        .validation(&file)
        .unwrap_err();
    assert!(
        matches!(error, FinetuneError::BadValidation { .. }),
        "{error}"
    );
}

#[test]
fn adapters_that_nothing_would_train_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let run = data.path().join("run");
    two_steps(&data, &run).unwrap();
    let file = data.path().join("records.json");
    let finetune = |base: GalleryGpt, lora: Option<LoraConfig>, parts| {
        let training = TrainingConfig { parts, ..steps(1) };
        base.finetune(lora, training).records(&file, data.path())
    };
    let base = || base_at(&tiny_base());
    let loaded = || base().with_adapter(&run).unwrap();
    let error = finetune(loaded(), Some(adapter()), TrainableParts::LORA).unwrap_err();
    assert!(matches!(error, FinetuneError::TwoAdapters), "{error}");
    for parts in [TrainableParts::PROJECTOR, TrainableParts::FULL_FINETUNE] {
        for (base, lora) in [(base(), Some(adapter())), (loaded(), None)] {
            let error = finetune(base, lora, parts).unwrap_err();
            assert!(matches!(error, FinetuneError::AdapterNotTrained), "{error}");
        }
    }
    let error = finetune(base(), None, TrainableParts::LORA).unwrap_err();
    assert!(
        error.to_string().contains("no LoRA adapters to train"),
        "{error}"
    );

    // The loaded adapter is trained further, and its files are what the training begins from.
    let further = data.path().join("further");
    let finetuned = finetune(loaded(), None, TrainableParts::LORA)
        .unwrap()
        .run(&further, |_| {})
        .unwrap();
    assert_eq!(finetuned.result(), further.join("adapter"));
    let settings = fs::read_to_string(further.join("config.json")).unwrap();
    assert!(settings.contains("adapter/adapter_model.safetensors"));
}

#[test]
fn what_is_trained_is_what_is_written() {
    let data = tempfile::tempdir().unwrap();
    let file = few_records(data.path());
    for (parts, result) in [
        (TrainableParts::PROJECTOR, "projector"),
        (TrainableParts::FULL_FINETUNE, "model"),
    ] {
        let run = data.path().join(format!("run-{result}"));
        let training = TrainingConfig { parts, ..steps(1) };
        let finetuned = base_at(&tiny_base())
            .finetune(None, training)
            .records(&file, data.path())
            .unwrap()
            .run(&run, |_| {})
            .unwrap();
        let folder = finetuned.result().to_owned();
        assert_eq!(folder, run.join(result));
        let picture = sample().join("images/test_1.jpg");
        let config = GenerationConfig::greedy(12);
        let describe =
            |gallery: &GalleryGpt| gallery.describe(&picture, QUESTION, &config).unwrap();
        let loaded = if parts == TrainableParts::PROJECTOR {
            base_at(&tiny_base()).with_adapter(&folder).unwrap()
        } else {
            base_at(&folder)
        };
        assert_eq!(describe(&loaded), describe(finetuned.gallery()), "{result}");
    }
}

/// Collects the names of spans and the messages of events of one thread: other tests train beside it.
#[derive(Clone)]
struct Collected(Arc<Mutex<Vec<String>>>, ThreadId);

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Collected {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        thread::current().id() == self.1 && metadata.target().starts_with("gallery_gpt")
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut collected = self.0.lock().unwrap();
        collected.push(span.metadata().name().to_owned());
        Id::from_u64(collected.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_training_is_traced() {
    let data = tempfile::tempdir().unwrap();
    let collected = Collected(Arc::default(), thread::current().id());
    tracing::subscriber::set_global_default(collected.clone()).unwrap();
    two_steps(&data, &data.path().join("run")).unwrap();
    let collected = collected.0.lock().unwrap();
    let expected = [
        "load",
        "train",
        "training started",
        "step",
        "step",
        "checkpoint saved",
        "training finished",
    ];
    assert_eq!(*collected, expected);
}
