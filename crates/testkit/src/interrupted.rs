//! A small training that can be killed at any moment, and what it leaves behind.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use gallery_gpt::{
    checkpoint::AdapterOrigin,
    data::{Order, Record},
    prelude::*,
    train::{SamplePainting, Samples, TrainError, TrainableParts},
};
use rand::{RngExt, SeedableRng};

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

/// Its settings: two epochs, with a checkpoint every second step.
#[must_use]
pub fn config() -> TrainingConfig {
    TrainingConfig {
        num_train_epochs: 2.0,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        order: Order::GroupByLength,
        save_steps: Some(2),
        ..TrainingConfig::lora(2e-3)
    }
}

/// The sample's first records.
pub fn records(count: usize) -> anyhow::Result<Vec<Record>> {
    let file = datasets().join("painting-form-mini/train_samples_tuning.json");
    let mut records = PaintingForm::load(file)?.records;
    records.truncate(count);
    Ok(records)
}

/// Trains in a folder, going on with what is there.
pub fn train(
    folder: &Path,
    config: &TrainingConfig,
    records: &[Record],
    dropout: f64,
    observe: impl FnMut(&TrainEvent),
) -> Result<(), TrainError> {
    let more = More {
        dropout,
        ..More::default()
    };
    train_with(folder, config, records, more, observe)
}

/// What a training may have beside settings and records.
#[derive(Clone, Copy, Debug, Default)]
pub struct More<'a> {
    /// Validation records.
    pub validation: &'a [Record],
    /// Dropout probability of the adapters.
    pub dropout: f64,
    /// CPU devices beside the first.
    pub others: usize,
}

/// As [`train`], with more.
pub fn train_with(
    folder: &Path,
    config: &TrainingConfig,
    records: &[Record],
    more: More<'_>,
    observe: impl FnMut(&TrainEvent),
) -> Result<(), TrainError> {
    let More {
        validation,
        dropout,
        others,
    } = more;
    let device = Device::flex();
    let base = GalleryGpt::load(datasets().join("tiny-base"), &device)
        .expect("the tiny base is in the repository");
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
    let mut trainer = Trainer::new(config.clone())?
        .with_validation(validation.to_vec())
        .with_origin(AdapterOrigin::from("tiny-base"))
        .with_devices(vec![device; others]);
    if !validation.is_empty() {
        let prompt = base.prompt("What is this?", vec![]).expect("plain words");
        trainer = trainer.with_samples(Samples {
            paintings: vec![SamplePainting {
                name: "none".to_owned(),
                picture: "data:,".to_owned(),
                prompt,
            }],
            tokenizer: base.tokenizer().clone(),
            generation: GenerationConfig::greedy(6),
        });
    }
    let mut model = base.model().clone();
    if config.parts == TrainableParts::LORA {
        model = model.apply_lora(&LoraConfig::new(4, 8.0).with_dropout(dropout));
    }
    trainer.train(model, records, &batcher, &mut run, observe)?;
    Ok(())
}

/// Every file under a folder but the speeds, and the page that shows them.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                left.push(entry?.path());
            }
        } else if path
            .file_name()
            .is_some_and(|name| name != "speed.jsonl" && name != "page.html")
        {
            let name = path.strip_prefix(folder)?.to_owned();
            found.insert(name, std::fs::read(path)?);
        }
    }
    Ok(found)
}

/// Says where two run folders differ.
pub fn ensure_same(found: &Path, expected: &Path) -> anyhow::Result<()> {
    let (found, expected) = (files(found)?, files(expected)?);
    ensure!(
        expected.len() > 4,
        "a run leaves more than {} files",
        expected.len()
    );
    ensure!(
        found.keys().eq(expected.keys()),
        "{:?} is not {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, bytes) in &expected {
        ensure!(found[name] == *bytes, "{} differs", name.display());
    }
    Ok(())
}

/// The variable that makes this program the one that is killed.
const VICTIM: &str = "GALLERY_GPT_TEST_TRAINING";

/// Trains in the folder that the variable names; nothing where it names none.
pub fn be_killed() -> anyhow::Result<bool> {
    let Some(folder) = std::env::var_os(VICTIM) else {
        return Ok(false);
    };
    train(Path::new(&folder), &config(), &records(14)?, 0.1, |_| ())?;
    Ok(true)
}

/// Kills the program that `arguments` make of this one at random moments, saves included, as often as told, each time letting it go
/// on, and compares what it leaves with a run that was never killed. Returns how often it was compared.
pub fn kill(
    kills: usize,
    arguments: &[&str],
    mut observe: impl FnMut(usize),
) -> anyhow::Result<usize> {
    let root = tempfile::tempdir()?;
    let spawn = |folder: &Path| -> anyhow::Result<Child> {
        Ok(Command::new(std::env::current_exe()?)
            .args(arguments)
            .env(VICTIM, folder)
            .stdout(Stdio::null())
            .spawn()?)
    };
    let straight = root.path().join("straight");
    let began = Instant::now();
    ensure!(
        spawn(&straight)?.wait()?.success(),
        "the training itself failed"
    );
    let whole = began.elapsed().as_secs_f64();

    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let (mut done, mut compared) = (0, 0);
    while done < kills {
        let folder = root.path().join(format!("killed-{compared}"));
        loop {
            let mut victim = spawn(&folder)?;
            let life = whole * random.random_range(0.05..1.0);
            let until =
                Instant::now() + Duration::from_secs_f64(if done < kills { life } else { 600.0 });
            let ended = loop {
                match victim.try_wait()? {
                    Some(status) => break Some(status),
                    None if Instant::now() >= until => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if let Some(status) = ended {
                ensure!(status.success(), "after {done} kills it could not go on");
                break;
            }
            victim.kill()?;
            victim.wait()?;
            done += 1;
            observe(done);
        }
        ensure_same(&folder, &straight).with_context(|| format!("after {done} kills"))?;
        std::fs::remove_dir_all(&folder)?;
        compared += 1;
    }
    Ok(compared)
}
