//! The main job: finetunes a base with LoRA on records of paintings, then shows what changed.
//!
//! Without flags it takes the base and the sample in `datasets/`, and ends with a test painting: the reference, the base's
//! text and the finetuned text. Flags take the real thing, in the words of the original's script.
//!
//! ```sh
//! cargo run --release --example finetune
//! cargo run --release --features cuda --example finetune -- --base llava-1.5-7b-hf --data train_samples_tuning.json \
//!     --images art_images_data --preset gallery_gpt --device cuda
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod thumbnail;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use gallery_gpt::{
    checkpoint::{SaveOptions, save_model, save_projector, write_file},
    data::{BadRecord, Batch, Order, Record},
    llama::LoraTarget,
    model::GalleryModel,
    prelude::*,
    train::{
        AdapterWriting, MicroBatches, OnBadRecord, Recompute, SamplePainting, Samples,
        TrainableParts, evaluate_loss,
    },
};
use gallery_gpt_scenes::{Claims, QUESTIONS, Scene, TEST_SEED};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use thumbnail::thumbnail;

/// Steps allocate and free the same large buffers over and over; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SAMPLE: &str = "datasets/painting-form-mini";

/// Finetunes a base model with LoRA on records of paintings.
#[derive(Parser)]
#[command(rename_all = "snake_case", args_override_self = true)]
struct Arguments {
    /// Goes on with the run in this folder, with the flags it began with. Others may be given to train longer (`--num_train_epochs`,
    /// `--max_steps`), to save at other times, or on another device; what would make it another training is refused.
    #[arg(long, alias = "resume_from_checkpoint")]
    resume: Option<PathBuf>,
    /// Folder of the base model, in any layout, with its tokenizer.
    #[arg(
        long,
        alias = "model_name_or_path",
        default_value = "datasets/tiny-base"
    )]
    base: PathBuf,
    /// Training records (`train_samples_tuning.json`).
    #[arg(
        long,
        alias = "data_path",
        default_value = "datasets/painting-form-mini/train_samples_tuning.json"
    )]
    data: PathBuf,
    /// Folder that the records' picture paths start from.
    #[arg(long, alias = "image_folder", default_value = SAMPLE)]
    images: PathBuf,
    /// Folder of the run; by default the first free runs/finetune-N.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// Number type of the frozen weights: f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the
    /// stored one for large ones.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// Defaults of the flags below: the sample's, or the original script's.
    #[arg(long, value_enum, default_value_t = Preset::Sample)]
    preset: Preset,
    /// Conversation template.
    #[arg(long, default_value = "v1")]
    version: TemplateKind,
    /// Adapter to go on training, in place of a new one: a folder of PEFT's or the original's. Its rank, alpha and dropout stay.
    #[arg(long, conflicts_with_all = ["lora_r", "lora_alpha", "lora_dropout"])]
    lora_path: Option<PathBuf>,
    /// Train adapters of the decoder beside the projector; without, the whole decoder.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    lora_enable: bool,
    /// Train the projector alone.
    #[arg(long, conflicts_with = "lora_path")]
    tune_mm_mlp_adapter: bool,
    /// Inner width of the adapters.
    #[arg(long)]
    lora_r: Option<usize>,
    /// Scale of the adapters times their rank.
    #[arg(long)]
    lora_alpha: Option<f64>,
    /// Share of the adapters' inputs that are dropped.
    #[arg(long)]
    lora_dropout: Option<f64>,
    /// Peak learning rate.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Peak learning rate of the projector.
    #[arg(long)]
    mm_projector_lr: Option<f64>,
    /// Weight decay.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Share of the steps over which the rate rises.
    #[arg(long)]
    warmup_ratio: Option<f64>,
    /// Global norm that gradients are scaled down to; 0 leaves them.
    #[arg(long)]
    max_grad_norm: Option<f64>,
    /// Times over the data.
    #[arg(long)]
    num_train_epochs: Option<usize>,
    /// Stops after so many steps.
    #[arg(long)]
    max_steps: Option<usize>,
    /// Records of a micro-batch.
    #[arg(long)]
    per_device_train_batch_size: Option<usize>,
    /// Micro-batches of a step.
    #[arg(long)]
    gradient_accumulation_steps: Option<usize>,
    /// Runs the decoder's blocks again in the backward pass: off or blocks.
    #[arg(long)]
    gradient_checkpointing: Option<Recompute>,
    /// Records that are not trained on, in the form of the training records, for a validation loss.
    #[arg(long)]
    eval_data: Option<PathBuf>,
    /// Pictures to ask about as the training goes on, for the run's page; by default some test paintings of the sample.
    #[arg(long, num_args = 1..)]
    sample_images: Vec<PathBuf>,
    /// Steps between validations, and between looks at the sample pictures.
    #[arg(long)]
    eval_steps: Option<usize>,
    /// Ends the training after so many validations that were no better than the best.
    #[arg(long, requires = "eval_data")]
    early_stopping_patience: Option<usize>,
    /// Steps between checkpoints; 0 writes none.
    #[arg(long)]
    save_steps: Option<usize>,
    /// Checkpoints that are kept, the newest.
    #[arg(long)]
    save_total_limit: Option<usize>,
    /// Longest record in tokens, pictures expanded.
    #[arg(long, default_value_t = 2048)]
    model_max_length: usize,
    /// What to do about a record that cannot be used: end the run, or leave it out and list it in the run folder.
    #[arg(long, value_enum, default_value_t = BadRecordPolicy::Fail)]
    on_bad_record: BadRecordPolicy,
    /// Most records that may be left out.
    #[arg(long, default_value_t = 100)]
    max_bad_records: usize,
    /// Seed of the adapters, the order and dropout.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Preset {
    Sample,
    GalleryGpt,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum BadRecordPolicy {
    Fail,
    Skip,
}

impl Arguments {
    fn settings(&self) -> (TrainingConfig, LoraConfig) {
        let (mut training, mut lora) = match self.preset {
            Preset::Sample => (
                TrainingConfig {
                    num_train_epochs: 8,
                    per_device_train_batch_size: 8,
                    gradient_accumulation_steps: 2,
                    micro_batches: MicroBatches::InParallel,
                    order: Order::GroupByLength,
                    eval_steps: 50,
                    save_steps: Some(100),
                    ..TrainingConfig::lora(4e-3)
                },
                LoraConfig::new(16, 32.0),
            ),
            Preset::GalleryGpt => (TrainingConfig::gallery_gpt(), LoraConfig::gallery_gpt()),
        };
        fn set<T>(field: &mut T, flag: Option<T>) {
            if let Some(value) = flag {
                *field = value;
            }
        }
        set(&mut lora.rank, self.lora_r);
        set(&mut lora.alpha, self.lora_alpha);
        set(&mut lora.dropout, self.lora_dropout);
        lora.seed = self.seed;
        training.parts = match (self.tune_mm_mlp_adapter, self.lora_enable) {
            (true, _) => TrainableParts::PROJECTOR,
            (false, true) => TrainableParts::LORA,
            (false, false) => TrainableParts::FULL_FINETUNE,
        };
        set(&mut training.learning_rate, self.learning_rate);
        training.mm_projector_lr = self.mm_projector_lr.or(training.mm_projector_lr);
        set(&mut training.weight_decay, self.weight_decay);
        set(&mut training.warmup_ratio, self.warmup_ratio);
        if let Some(norm) = self.max_grad_norm {
            training.max_grad_norm = (norm != 0.0).then_some(norm);
        }
        set(&mut training.num_train_epochs, self.num_train_epochs);
        training.max_steps = self.max_steps.or(training.max_steps);
        set(
            &mut training.per_device_train_batch_size,
            self.per_device_train_batch_size,
        );
        set(
            &mut training.gradient_accumulation_steps,
            self.gradient_accumulation_steps,
        );
        set(
            &mut training.gradient_checkpointing,
            self.gradient_checkpointing,
        );
        if let Some(steps) = self.save_steps {
            training.save_steps = (steps != 0).then_some(steps);
        }
        set(&mut training.eval_steps, self.eval_steps);
        training.early_stopping_patience = self.early_stopping_patience;
        set(&mut training.save_total_limit, self.save_total_limit);
        if self.device != DeviceKind::Cpu || lora.dropout > 0.0 {
            training.micro_batches = MicroBatches::OneByOne;
        }
        training.on_bad_record = match self.on_bad_record {
            BadRecordPolicy::Fail => OnBadRecord::Fail,
            BadRecordPolicy::Skip => OnBadRecord::Skip {
                most: self.max_bad_records,
            },
        };
        training.seed = self.seed;
        (training, lora)
    }
}

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let arguments = Arguments::parse();
    match &arguments.resume {
        None => run(&arguments, &given),
        Some(folder) => {
            let flags = began_with(folder)?;
            let name = ["finetune".to_owned()];
            let all = name.iter().chain(&flags).chain(&given);
            run(&Arguments::parse_from(all), &flags)
        }
    }
}

const SETTINGS: &str = "config.json";

/// The flags that a run began with.
fn began_with(folder: &Path) -> anyhow::Result<Vec<String>> {
    let settings = settings(folder)?;
    let flags = settings["flags"].as_array().map(|flags| {
        let flags = flags.iter().filter_map(serde_json::Value::as_str);
        flags.map(str::to_owned).collect()
    });
    flags.with_context(|| format!("{} names no flags", folder.join(SETTINGS).display()))
}

fn settings(folder: &Path) -> anyhow::Result<serde_json::Value> {
    let path = folder.join(SETTINGS);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("no run to go on with: cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Refuses to go on with what would be another training.
fn ensure_same_training(folder: &Path, now: &serde_json::Value) -> anyhow::Result<()> {
    const MAY_DIFFER: [&str; 7] = [
        "num_train_epochs",
        "max_steps",
        "save_steps",
        "save_total_limit",
        "micro_batches",
        "on_bad_record",
        "early_stopping_patience",
    ];
    let then = settings(folder)?;
    for part in [
        "base",
        "data",
        "model_max_length",
        "template",
        "lora",
        "training",
    ] {
        let (then, now) = (&then[part], &now[part]);
        let Some(fields) = now.as_object() else {
            ensure!(
                then == now,
                "{part} was {then} when the run began and is {now} now"
            );
            continue;
        };
        for (field, now) in fields
            .iter()
            .filter(|(field, _)| !MAY_DIFFER.contains(&field.as_str()))
        {
            let then = &then[field];
            ensure!(
                then == now,
                "{part}.{field} was {then} when the run began and is {now} now; go on with what it began with, or begin another run"
            );
        }
    }
    Ok(())
}

fn run(arguments: &Arguments, flags: &[String]) -> anyhow::Result<()> {
    let (training, mut lora) = arguments.settings();
    training.validate()?;
    lora.validate()?;
    let options = LoadOptions {
        dtype: arguments.dtype,
        ..LoadOptions::default()
    };
    let mut base = GalleryGpt::load_with(&arguments.base, &arguments.device.device(), &options)?
        .template(arguments.version);
    if let Some(path) = &arguments.lora_path {
        base = base.adapter(path)?;
        for note in base.notes() {
            eprintln!("note: {note}");
        }
        let file = base.adapter_file();
        let file = file.with_context(|| format!("{} holds no LoRA adapter", path.display()))?;
        lora = LoraConfig {
            seed: lora.seed,
            ..file.lora.clone()
        };
    }
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        arguments.version.template(),
        base.processor().clone(),
        &arguments.images,
        base.model().config().tokens_per_picture(),
        arguments
            .model_max_length
            .min(base.model().config().llama.max_position_embeddings),
    );
    let (records, bad) = usable_records(arguments, &batcher)?;
    let settings = json!({
        "flags": flags,
        "base": { "folder": arguments.base, "fingerprint": base.report().fingerprint, "dtype": base.model().dtype() },
        "data": arguments.data,
        "images": arguments.images,
        "template": arguments.version.to_string(),
        "model_max_length": arguments.model_max_length,
        "lora": {
            "continues": arguments.lora_path,
            "r": lora.rank, "alpha": lora.alpha, "dropout": lora.dropout, "seed": lora.seed,
            "target_modules": lora.targets.iter().map(LoraTarget::name).collect::<Vec<_>>(),
        },
        "training": training,
        "threads": rayon::current_num_threads(),
    });
    let (on_bad_record, parts) = (training.on_bad_record, training.parts);
    let mut trainer = Trainer::new(training)?;
    if let Some(path) = &arguments.eval_data {
        let set = PaintingForm::load(path)?;
        if let Some(bad) = set.bad.first() {
            bail!("{}: {bad}", path.display());
        }
        trainer = trainer.with_validation(set.records);
    }
    let mut run = match &arguments.resume {
        Some(folder) => {
            ensure_same_training(folder, &settings)?;
            RunFolder::resume(folder)?
        }
        None => {
            let run = RunFolder::create(run_folder(arguments.output_dir.as_deref()))?;
            write_file(
                &run.path().join(SETTINGS),
                format!("{settings:#}\n").as_bytes(),
            )?;
            run
        }
    };
    for bad in bad {
        run.leave_out(bad, on_bad_record)?;
    }
    println!(
        "{} records, {} steps, {}; run folder {}",
        records.len(),
        trainer.total_steps(records.len()),
        match (parts, &arguments.lora_path) {
            (TrainableParts::PROJECTOR, _) => "the projector".to_owned(),
            (TrainableParts::LORA, None) => format!("adapter of rank {}", lora.rank),
            (TrainableParts::LORA, Some(path)) =>
                format!("going on with the adapter {}", path.display()),
            _ => "projector and decoder".to_owned(),
        },
        run.path().display()
    );

    let test = sample_test_set(arguments)?;
    let shown = match &test {
        Some(test) if arguments.sample_images.is_empty() => &test.pictures[..3],
        _ => &arguments.sample_images,
    };
    if !shown.is_empty() {
        trainer = trainer.with_samples(Samples {
            paintings: shown
                .iter()
                .map(|path| sample_painting(&base, path))
                .collect::<anyhow::Result<_>>()?,
            tokenizer: base.tokenizer().clone(),
            generation: GenerationConfig::greedy(160),
        });
    }
    let before = test.as_ref().map(|test| examine(&base, test)).transpose()?;
    let progress = progress_bar();
    let observe = |event: &TrainEvent| show(&progress, event);
    let origin = base.origin();
    let (model, result) = if parts == TrainableParts::LORA {
        let start = base.model().clone();
        let adapted = match arguments.lora_path {
            Some(_) => start,
            None => start.apply_lora(&lora),
        };
        let adapter = AdapterWriting {
            lora: &lora,
            origin: &origin,
        };
        let model =
            trainer.train_adapter(adapted, adapter, &records, &batcher, &mut run, observe)?;
        (model, run.adapter())
    } else {
        let start = base.model().clone();
        let model = trainer.train(start, None, &records, &batcher, &mut run, observe)?;
        let result = if parts == TrainableParts::PROJECTOR {
            let folder = run.path().join("projector");
            save_projector(&model, &folder)?;
            folder
        } else {
            let folder = run.path().join("model");
            let options = SaveOptions {
                companions: Some(arguments.base.clone()),
                ..SaveOptions::default()
            };
            save_model(&model, &folder, &options)?;
            folder
        };
        (model, result)
    };
    if run.bad_count() > 0 {
        println!(
            "{} records were left out; they are listed in {}",
            run.bad_count(),
            run.bad_records().display()
        );
    }
    println!("result {}, page {}", result.display(), run.page().display());
    let finetuned = base.with_model(model);
    if let (Some(test), Some(before)) = (test, before) {
        let after = examine(&finetuned, &test)?;
        compare(&test, &before, &after, &run)?;
    }
    Ok(())
}

/// A picture to ask about as the training goes on.
fn sample_painting(base: &GalleryGpt, path: &Path) -> anyhow::Result<SamplePainting> {
    let pixels = base.processor().process_file(path)?;
    Ok(SamplePainting {
        name: path.display().to_string(),
        picture: thumbnail(path)?,
        prompt: base.prompt(QUESTION, vec![pixels])?,
    })
}

/// The records that have a label mask and fit the context; the others are named.
fn usable_records(
    arguments: &Arguments,
    batcher: &Batcher,
) -> anyhow::Result<(Vec<Record>, Vec<BadRecord>)> {
    let set = PaintingForm::load(&arguments.data)?;
    let mut bad = set.bad;
    let mut records = Vec::with_capacity(set.records.len());
    for record in set.records {
        let picture = arguments.images.join(&record.image);
        match batcher.encode_text(&record) {
            Ok(_) if !picture.is_file() => bad.push(BadRecord {
                index: record.index,
                id: record.id.clone(),
                cause: gallery_gpt::vision::ImageError::Read {
                    path: picture,
                    source: std::io::ErrorKind::NotFound.into(),
                }
                .into(),
            }),
            Ok(_) => records.push(record),
            Err(cause) => bad.push(BadRecord {
                index: record.index,
                id: record.id,
                cause,
            }),
        }
    }
    for bad in bad.iter().take(20) {
        eprintln!("{}: {bad}", arguments.data.display());
    }
    if !bad.is_empty() && arguments.on_bad_record == BadRecordPolicy::Fail {
        bail!(
            "{} of {} records cannot be used; mend them, or leave them out with --on_bad_record skip",
            bad.len(),
            bad.len() + records.len()
        );
    }
    ensure!(
        !records.is_empty(),
        "{} has no usable record",
        arguments.data.display()
    );
    Ok((records, bad))
}

fn run_folder(wanted: Option<&Path>) -> PathBuf {
    match wanted {
        Some(path) => path.to_owned(),
        None => (1..)
            .map(|number| PathBuf::from(format!("runs/finetune-{number}")))
            .find(|path| !path.exists())
            .expect("some number is free"),
    }
}

fn progress_bar() -> ProgressBar {
    let progress = ProgressBar::new(0);
    progress.set_style(
        ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {elapsed} gone, {eta} left, {msg}",
        )
        .expect("a valid template"),
    );
    progress
}

/// A bar on a terminal, a line now and then elsewhere.
fn show(progress: &ProgressBar, event: &TrainEvent) {
    match event {
        TrainEvent::Started {
            total_steps,
            parameters,
        } => {
            progress.set_length(*total_steps as u64);
            progress.enable_steady_tick(Duration::from_millis(500));
            println!("{parameters} trainable parameters");
        }
        TrainEvent::Step {
            report,
            tokens_per_second,
            ..
        } => {
            let message = format!("loss {:.3}, {tokens_per_second:.0} tokens/s", report.loss);
            if !std::io::stderr().is_terminal()
                && (report.step % 20 == 0 || Some(report.step as u64) == progress.length())
            {
                println!("step {}: {message}", report.step);
            }
            progress.set_message(message);
            progress.set_position(report.step as u64);
        }
        TrainEvent::Resumed { step } => {
            progress.reset_eta();
            println!("going on after step {step}");
        }
        TrainEvent::Evaluated { step, loss } => {
            progress.suspend(|| println!("step {step}: validation loss {loss:.3}"));
        }
        TrainEvent::StoppedEarly {
            best_step,
            best_loss,
            ..
        } => {
            progress.suspend(|| {
                println!("stopped: no better than {best_loss:.3} at step {best_step} for too long");
            });
        }
        TrainEvent::LeftOut { record, count } => {
            progress.suspend(|| eprintln!("left out ({count} so far): {record}"));
        }
        TrainEvent::Saved { .. } => {}
        TrainEvent::Finished { steps, seconds } => {
            progress.finish_and_clear();
            println!("{steps} steps in {seconds:.0} s");
        }
    }
}

/// The sample's test paintings, with the scenes they were drawn from.
struct Test {
    scenes: Vec<Scene>,
    references: Vec<Vec<String>>,
    pictures: Vec<PathBuf>,
}

/// What a model makes of the test paintings.
struct Figures {
    texts: Vec<String>,
    loss: f64,
    claims: Claims,
}

const QUESTION: &str = QUESTIONS[3];

fn sample_test_set(arguments: &Arguments) -> anyhow::Result<Option<Test>> {
    if arguments.images != Path::new(SAMPLE) {
        return Ok(None);
    }
    let files = [
        "formalanalysis_test_gpt.json",
        "formalanalysis_test_gemini.json",
    ]
    .map(|name| Path::new(SAMPLE).join(name));
    let mut test = Test {
        scenes: Vec::new(),
        references: Vec::new(),
        pictures: Vec::new(),
    };
    for painting in TestSet::load(&files)?.paintings {
        let image = painting.image.context("a test record names its picture")?;
        test.scenes
            .push(Scene::sample(TEST_SEED, painting.index as u64));
        test.pictures
            .push(Path::new(SAMPLE).join("images").join(image));
        test.references.push(painting.references);
    }
    Ok(Some(test))
}

fn examine(gallery: &GalleryGpt, test: &Test) -> anyhow::Result<Figures> {
    let mut batch = Batch::default();
    let mut prompts = Vec::new();
    for (path, references) in test.pictures.iter().zip(&test.references) {
        let picture = gallery.processor().process_file(path)?;
        prompts.push(gallery.prompt(QUESTION, vec![picture.clone()])?);
        for reference in references {
            let row = gallery_gpt::text::encode_conversation(
                gallery.tokenizer(),
                &TemplateKind::VicunaV1.template(),
                &Conversation::question(format!("{QUESTION}\n<image>")).answer(reference),
            )?;
            batch.input_ids.push(row.input_ids);
            batch.labels.push(row.labels);
            batch.pictures.push(picture.clone());
            batch.ids.push(path.display().to_string());
        }
    }
    let model: &GalleryModel = gallery.model();
    let written = Generator::new(model, GenerationConfig::greedy(160)).generate(&prompts)?;
    let texts: Vec<String> = written
        .iter()
        .map(|row| gallery.text_of(&row.ids))
        .collect();
    let mut claims = Claims::default();
    for (text, scene) in texts.iter().zip(&test.scenes) {
        claims += Claims::of(text, scene);
    }
    Ok(Figures {
        texts,
        loss: evaluate_loss(model, &[batch])?,
        claims,
    })
}

fn compare(test: &Test, before: &Figures, after: &Figures, run: &RunFolder) -> anyhow::Result<()> {
    let shown = 0;
    println!("\n{} {}", test.pictures[shown].display(), QUESTION);
    for (name, text) in [
        ("reference", &test.references[shown][0]),
        ("base", &before.texts[shown]),
        ("finetuned", &after.texts[shown]),
    ] {
        println!("\n{name:>10}  {text}");
    }
    println!(
        "\n{} test paintings   loss   colour and place words that are true   facts named",
        test.scenes.len()
    );
    let mut rows = Vec::new();
    for (name, figures) in [("base", before), ("finetuned", after)] {
        let precision = figures.claims.precision().unwrap_or(0.0);
        let recall = figures.claims.recall();
        println!(
            "{name:>17} {:>6.3} {:>37.1} % {:>11.1} %",
            figures.loss,
            100.0 * precision,
            100.0 * recall
        );
        rows.push(json!({
            "model": name, "loss": figures.loss, "true_claims": figures.claims.right,
            "false_claims": figures.claims.wrong, "facts_named": figures.claims.facts_named,
            "facts": figures.claims.facts, "texts": figures.texts,
        }));
    }
    let summary = format!("{:#}\n", json!(rows));
    write_file(&run.path().join("test.json"), summary.as_bytes())?;
    Ok(())
}
