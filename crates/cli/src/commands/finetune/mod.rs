//! The main job: finetunes a base with LoRA on records of paintings, then shows what changed.
//!
//! Without flags it takes the base and the sample in `datasets/`, and ends with a test painting: the reference, the base's
//! text and the finetuned text. Flags take the real thing, in the words of the original's script.
//!
//! ```sh
//! gallery-gpt finetune
//! gallery-gpt finetune --base llava-1.5-7b-hf --data train_samples_tuning.json \
//!     --images art_images_data --preset gallery_gpt --device cuda:0,cuda:1
//! ```

mod arguments;
mod effective;
mod going_on;
mod planning;
mod progress;
mod screen;
mod script_only;
mod test_paintings;

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
pub(crate) use arguments::Arguments;
use arguments::BadRecordPolicy;
use gallery_gpt::{
    checkpoint::{
        Destination, SaveOptions, ensure_savable_adapter, save_model, save_projector, sha256_file,
    },
    data::{BadRecord, Record, RecordShape, count_kinds},
    model::{CancelToken, GalleryModel},
    prelude::*,
    train::{SamplePainting, Samples, TrainError, TrainableParts, TrainingCheckpoint},
};
use going_on::{began_with, in_flags};
use planning::{ensure_it_fits, show_plan};
use progress::Progress;
pub(crate) use script_only::without_fixed;
use test_paintings::{QUESTION, compare, examine, sample_test_set};

use crate::{
    command_line::Line,
    files::thumbnail,
    terminal::{Stopped, interrupt},
};

/// Trains, or goes on with a training, by the arguments and as they were given.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn start(arguments: Arguments, line: &Line) -> anyhow::Result<()> {
    let given = line.flags.iter().map(|text| text.to_string_lossy());
    let given: Vec<String> = given.map(Cow::into_owned).collect();
    let Some(folder) = arguments.resume.clone() else {
        if line.prints_config() {
            return print_config(&arguments, line);
        }
        let arguments = arguments.with_absolute_paths()?;
        let flags = arguments.recorded(&given);
        return run(&arguments, flags);
    };
    let began = began_with(&folder)?;
    let words = ["gallery-gpt".to_owned(), "finetune".to_owned()];
    let words = words.into_iter().chain(flags_over(&began, &given));
    let (command, line) = super::parse(words.map(OsString::from))?;
    let super::Command::Finetune(arguments) = command else {
        unreachable!("the words name the command");
    };
    if line.prints_config() {
        return print_config(&arguments, &line);
    }
    run(&arguments.with_absolute_paths()?, began)
}

/// Prints all flags, the preset's values included.
fn print_config(arguments: &Arguments, line: &Line) -> anyhow::Result<()> {
    super::print_config(line, &arguments.effective()?);
    Ok(())
}

/// The flags that a run began with, and the ones that are given now in their place.
fn flags_over(began: &[String], given: &[String]) -> Vec<String> {
    // The one flag with several values, to which more would be added; it is recorded last.
    let several = |flag: &&String| !flag.starts_with("--sample_images");
    let kept = began.iter().take_while(several).count();
    let began = if given.iter().all(|flag| several(&flag)) {
        began
    } else {
        &began[..kept]
    };
    [began, given].concat()
}

fn run(arguments: &Arguments, flags: Vec<String>) -> anyhow::Result<()> {
    if arguments.plan {
        return show_plan(arguments);
    }
    arguments.ensure_defaults_are_there()?;
    let resumed = arguments
        .resume
        .as_ref()
        .map(RunFolder::resume)
        .transpose()?;
    let folder = run_folder(arguments.output_dir.as_deref());
    if resumed.is_none() {
        RunFolder::ensure_free(&folder).map_err(in_flags)?;
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
            note!("note: {note}");
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
    let (on_bad_record, parts) = (training.on_bad_record, training.parts);
    let mut trainer = Trainer::new(training)?
        .with_devices(others)
        .with_base(base_files(&base)?)
        .with_origin(base.origin());
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
    // Only now: what is refused leaves nothing behind.
    let mut run = match resumed {
        Some(run) => run,
        None => RunFolder::create(folder).map_err(in_flags)?,
    }
    .with_flags(flags);
    for bad in bad {
        run.leave_out(bad, on_bad_record)?;
    }
    let total_steps = trainer.total_steps(records.len());
    let newest = TrainingCheckpoint::newest(&run.checkpoints())?;
    let is_done = newest.is_some_and(|newest| newest.state.step >= total_steps);
    say!(
        "{} records, {total_steps} steps, {}; run folder {}",
        records.len(),
        match (parts, &arguments.lora_path) {
            (TrainableParts::PROJECTOR, _) => "the projector".to_owned(),
            (TrainableParts::LORA, None) => format!("adapter of rank {}", lora.rank),
            (TrainableParts::LORA, Some(path)) =>
                format!("going on with the adapter {}", path.display()),
            _ => "projector and decoder".to_owned(),
        },
        run.path().display()
    );

    let before = match &test {
        Some(test) if !is_done => Some(examine(&base, test, &CancelToken::new())?),
        _ => None,
    };
    interrupt::outlive_terminal()?;
    let cancel = interrupt::first_asks()?;
    let trainer = trainer.with_cancel(cancel.clone());
    let mut progress = Progress::new(arguments.full_screen, &cancel)?;
    let trained = train(
        arguments,
        &trainer,
        &base,
        &lora,
        &records,
        &batcher,
        &mut run,
        |event| {
            progress.show(event);
        },
    );
    drop(progress);
    let (model, result) = match trained {
        Err(error) => match error.downcast::<TrainError>() {
            Ok(TrainError::Interrupted { step, .. }) => {
                let run = run.path().display();
                bail!(Stopped(format!(
                    "stopped after step {step}; go on with finetune --resume {run}"
                )));
            }
            Ok(error) => return Err(in_flags(error)),
            Err(error) => return Err(error),
        },
        Ok(trained) => trained,
    };
    if run.bad_count() > 0 {
        say!(
            "{} records were left out; they are listed in {}",
            run.bad_count(),
            run.bad_records().display()
        );
    }
    if is_done {
        let run = run.path().display();
        say!(
            "{run} is done after {total_steps} steps; --num_train_epochs or --max_steps trains longer"
        );
    }
    say!("result {}, page {}", result.display(), run.page().display());
    let finetuned = base.with_model(model);
    if let (Some(test), Some(before)) = (test, before) {
        let after = examine(&finetuned, &test, &cancel)?;
        if cancel.is_cancelled() {
            bail!(Stopped(
                "stopped; the training is done, its result was not compared with the base"
                    .to_owned()
            ));
        }
        compare(&test, &before, &after, &run)?;
        run.write_page(&paintings, true)?;
    }
    Ok(())
}

/// Trains what is to be trained, and writes it: the model, and where its result is.
#[allow(clippy::too_many_arguments, reason = "all that a training takes")]
fn train(
    arguments: &Arguments,
    trainer: &Trainer,
    base: &GalleryGpt,
    lora: &LoraConfig,
    records: &[Record],
    batcher: &Batcher,
    run: &mut RunFolder,
    observe: impl FnMut(&TrainEvent),
) -> anyhow::Result<(GalleryModel, PathBuf)> {
    let start = base.model().clone();
    let parts = trainer.config().parts;
    if parts == TrainableParts::LORA {
        let adapted = match arguments.lora_path {
            Some(_) => start,
            None => start.apply_lora(lora),
        };
        let model = trainer.train(adapted, records, batcher, run, observe)?;
        return Ok((model, run.adapter()));
    }
    let model = trainer.train(start, records, batcher, run, observe)?;
    let own = |name: &str| Destination::new(run.path().join(name)).overwriting(true);
    let result = if parts == TrainableParts::PROJECTOR {
        let folder = own("projector");
        save_projector(&model, folder.clone())?;
        folder
    } else {
        let folder = own("model");
        let options = SaveOptions {
            companions: Some(arguments.base.clone()),
            ..SaveOptions::default()
        };
        save_model(&model, folder.clone(), &options)?;
        folder
    };
    Ok((model, result.path().to_owned()))
}

/// The files that a training begins from, and their SHA-256: the base's, and those of an adapter that is trained further.
fn base_files(base: &GalleryGpt) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = base.report().identity()?.files;
    let adapter = base.adapter_file().map(|adapter| adapter.used.iter());
    for (_, file) in adapter.into_iter().flatten() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("adapter/{name}");
        if let Entry::Vacant(entry) = files.entry(name) {
            entry.insert(sha256_file(file)?);
        }
    }
    Ok(files)
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
        say!("records: {}", counts.collect::<Vec<_>>().join(", "));
    }
    if let Some(first) = repeated.first() {
        note!(
            "{}: {} ids occur more than once; {first}",
            arguments.data.display(),
            repeated.len()
        );
    }
    for bad in bad.iter().take(20) {
        note!("{}: {bad}", arguments.data.display());
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
