//! The main job: finetunes a base with LoRA on records of paintings, then shows what changed.
//!
//! Without flags it takes the base and the sample in `datasets/`, and ends with a test painting: the reference, the base's
//! text and the finetuned text. Flags take the real thing, in the words of the original's script.
//!
//! ```sh
//! cargo run --release --example finetune
//! cargo run --release --features cuda --example finetune -- --base llava-1.5-7b-hf --data train_samples_tuning.json \
//!     --images art_images_data --preset gallery_gpt --device cuda:0,cuda:1
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod arguments;
mod going_on;
#[path = "../hub_cache.rs"]
mod hub_cache;
mod planning;
mod screen;
mod script_only;
#[path = "../spelling.rs"]
mod spelling;
mod test_paintings;
#[path = "../thumbnail.rs"]
mod thumbnail;

use std::{
    borrow::Cow,
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use arguments::{Arguments, BadRecordPolicy};
use clap::Parser;
use gallery_gpt::{
    checkpoint::{SaveOptions, ensure_savable_adapter, save_model, save_projector, write_file},
    data::{BadRecord, Record, RecordShape, count_kinds},
    llama::LoraTarget,
    prelude::*,
    train::{AdapterWriting, SamplePainting, Samples, TrainableParts},
};
use going_on::{SETTINGS, began_with, ensure_same_training};
use indicatif::{ProgressBar, ProgressStyle};
use planning::{ensure_it_fits, show_plan};
use screen::Screen;
use script_only::without_fixed;
use serde_json::json;
use test_paintings::{QUESTION, compare, examine, sample_test_set};
use thumbnail::thumbnail;

/// Steps allocate and free the same large buffers over and over; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let given = without_fixed(spelling::arguments())?;
    let flags = |given: &[OsString]| -> Vec<String> {
        let texts = given.iter().skip(1).map(|text| text.to_string_lossy());
        texts.map(Cow::into_owned).collect()
    };
    let arguments = Arguments::parse_from(&given);
    match &arguments.resume {
        None => run(&arguments, &flags(&given)),
        Some(folder) => {
            let began = began_with(folder)?;
            let name = ["finetune".to_owned()];
            let given = flags(&given);
            let all = name.iter().chain(&began).chain(&given);
            run(&Arguments::parse_from(all), &began)
        }
    }
}

fn run(arguments: &Arguments, flags: &[String]) -> anyhow::Result<()> {
    if arguments.plan {
        return show_plan(arguments);
    }
    let (training, mut lora) = arguments.settings()?;
    training.validate()?;
    lora.validate()?;
    let options = arguments.load_options(&training.script);
    ensure!(
        DeviceKind::allow_tf32(training.script.tf32),
        "--tf32 comes too late: a GPU is in use already"
    );
    let device = arguments.device.first().device()?;
    let others = arguments.device.others().iter().map(|other| other.device());
    let others: Vec<Device> = others.collect::<Result<_, _>>()?;
    let mut base =
        GalleryGpt::load_with(&arguments.base, &device, &options)?.template(arguments.version);
    training.script.check(base.model().config())?;
    if let Some(path) = &arguments.lora_path {
        base = base.adapter(path)?;
        for note in base.notes() {
            eprintln!("note: {note}");
        }
        let file = base.adapter_file();
        let file = file.with_context(|| format!("{} holds no LoRA adapter", path.display()))?;
        if training.parts == TrainableParts::LORA {
            ensure_savable_adapter(base.model())?;
        }
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
        arguments.model_max_length,
    )
    .within_context(base.model().config().llama.max_position_embeddings);
    let (records, shapes, bad) = usable_records(arguments, &batcher)?;
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
        "world_size": arguments.device.count(),
        "threads": rayon::current_num_threads(),
    });
    let (on_bad_record, parts) = (training.on_bad_record, training.parts);
    let mut trainer = Trainer::new(training)?.with_devices(others);
    ensure_it_fits(arguments, &trainer, &base, &lora, &shapes)?;
    if let Some(path) = &arguments.eval_data {
        let set = PaintingForm::load(path)?;
        let checked = batcher.check(set.records);
        if let Some(bad) = set.bad.iter().chain(&checked.bad).next() {
            bail!("{}: {bad}", path.display());
        }
        trainer = trainer.with_validation(checked.records);
    }
    let test = sample_test_set(arguments)?;
    let shown = match &test {
        Some(test) if arguments.sample_images.is_empty() => &test.pictures[..3],
        _ => &arguments.sample_images,
    };
    let paintings: Vec<SamplePainting> = shown
        .iter()
        .map(|path| sample_painting(&base, path))
        .collect::<anyhow::Result<_>>()?;
    if !paintings.is_empty() {
        trainer = trainer.with_samples(Samples {
            paintings: paintings.clone(),
            tokenizer: base.tokenizer().clone(),
            generation: GenerationConfig::greedy(160),
        });
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

    let before = test.as_ref().map(|test| examine(&base, test)).transpose()?;
    let mut progress = Progress::new(arguments.full_screen)?;
    let observe = |event: &TrainEvent| progress.show(event);
    let origin = base.origin();
    let (model, result) = if parts == TrainableParts::LORA {
        let start = base.model().clone();
        let adapted = match arguments.lora_path {
            Some(_) => start,
            None => start.apply_lora(&lora),
        };
        let adapter = AdapterWriting { origin: &origin };
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
        run.write_page(&paintings, true)?;
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

/// The records that have a label mask and fit the context, and how long they are; the others are named.
fn usable_records(
    arguments: &Arguments,
    batcher: &Batcher,
) -> anyhow::Result<(Vec<Record>, Vec<RecordShape>, Vec<BadRecord>)> {
    let set = PaintingForm::load(&arguments.data)?;
    let repeated = set.repeated_ids();
    let mut bad = set.bad;
    let checked = batcher.check(set.records);
    let (records, shapes) = (checked.records, checked.shapes);
    bad.extend(checked.bad);
    bad.sort_by_key(|record| record.index);
    let kinds = count_kinds(&records);
    if kinds.keys().any(|kind| !kind.is_usual()) {
        let counts = kinds
            .iter()
            .map(|(kind, (count, _))| format!("{count} {kind}"));
        println!("records: {}", counts.collect::<Vec<_>>().join(", "));
    }
    if let Some(first) = repeated.first() {
        eprintln!(
            "{}: {} ids occur more than once; {first}",
            arguments.data.display(),
            repeated.len()
        );
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
    Ok((records, shapes, bad))
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

/// A bar on a terminal, or a screen; a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    screen: Option<Screen>,
}

impl Progress {
    fn new(full_screen: bool) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {elapsed} gone, {eta} left, {msg}",
        )?;
        ensure!(
            !full_screen || std::io::stdout().is_terminal(),
            "--full_screen needs a terminal"
        );
        Ok(Self {
            bar: ProgressBar::new(0).with_style(style),
            screen: full_screen.then(Screen::new).transpose()?,
        })
    }

    fn say(&mut self, message: String) {
        match &mut self.screen {
            Some(screen) => screen.view.say(message),
            None => self.bar.suspend(|| println!("{message}")),
        }
    }

    fn show(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Started {
                total_steps,
                parameters,
            } => {
                self.bar.set_length(*total_steps as u64);
                match &mut self.screen {
                    Some(screen) => screen.view.total_steps = *total_steps,
                    None => self.bar.enable_steady_tick(Duration::from_millis(500)),
                }
                self.say(format!("{parameters} trainable parameters"));
            }
            TrainEvent::Step {
                report,
                tokens_per_second,
                data_wait,
            } => {
                if let Some(screen) = &mut self.screen {
                    screen.view.step(report, *tokens_per_second, *data_wait);
                } else {
                    self.step(report.step, report.loss, *tokens_per_second);
                }
            }
            TrainEvent::Resumed { step } => {
                self.bar.reset_eta();
                self.say(format!("going on after step {step}"));
            }
            TrainEvent::Evaluated { step, loss } => {
                if let Some(screen) = &mut self.screen {
                    screen.view.validated(*step, *loss);
                }
                self.say(format!("step {step}: validation loss {loss:.3}"));
            }
            TrainEvent::StoppedEarly {
                best_step,
                best_loss,
                ..
            } => self.say(format!(
                "stopped: no better than {best_loss:.3} at step {best_step} for too long"
            )),
            TrainEvent::LeftOut { record, count } => {
                self.say(format!("left out ({count} so far): {record}"));
            }
            TrainEvent::Saved { .. } => {}
            TrainEvent::Finished { steps, seconds } => {
                self.screen = None;
                self.bar.finish_and_clear();
                println!("{steps} steps in {seconds:.0} s");
            }
        }
        if self.screen.as_mut().is_some_and(|screen| !screen.draw()) {
            self.screen = None;
        }
    }

    fn step(&self, step: usize, loss: f64, tokens_per_second: f64) {
        let message = format!("loss {loss:.3}, {tokens_per_second:.0} tokens/s");
        if !std::io::stderr().is_terminal()
            && (step.is_multiple_of(20) || Some(step as u64) == self.bar.length())
        {
            println!("step {step}: {message}");
        }
        self.bar.set_message(message);
        self.bar.set_position(step as u64);
    }
}
