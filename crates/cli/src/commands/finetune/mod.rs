//! Finetunes a base with LoRA on records of paintings, then shows what changed.
//!
//! Without flags it takes the base and the sample in `datasets/`, and ends with a test painting: the reference, the base's
//! text and the finetuned text. The flags have the names of the original's script.

mod arguments;
mod effective;
mod planning;
mod progress;
mod resume;
mod screen;
mod test_paintings;

use std::{borrow::Cow, ffi::OsString, path::PathBuf};

use anyhow::{bail, ensure};
pub(crate) use arguments::Arguments;
use arguments::Preset;
pub(crate) use effective::with_preset_defaults;
use gallery_gpt::{
    Finetune, FinetuneError, TrainingRecords,
    data::count_kinds,
    model::ModelFamily,
    prelude::*,
    train::{TrainError, TrainableParts},
};
use planning::show_plan;
use progress::Progress;
use resume::{in_flags, recorded_flags};
use test_paintings::{compare, examine, sample_test_set};

use crate::{
    args::sample::QUESTION,
    command_line::Line,
    terminal::{Stopped, interrupt},
};

/// Begins or resumes a training. `line` has the flags as they were given.
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
    let began = recorded_flags(&folder)?;
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

/// The flags that a run began with, overridden by those that are given now.
fn flags_over(began: &[String], given: &[String]) -> Vec<String> {
    // The one flag of several values, where new values would be added to the old ones; it is recorded last.
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
    let folder = run_folder(arguments);
    // Checked before the base is loaded.
    match &arguments.resume {
        Some(run) => drop(RunFolder::resume(run)?),
        None => RunFolder::ensure_free(&folder).map_err(in_flags)?,
    }
    let finetune = prepare(arguments)?.flags(flags);
    let test = sample_test_set(arguments)?;
    let shown = match &test {
        Some(test) if arguments.sample_images.is_empty() => &test.pictures[..3],
        _ => &arguments.sample_images,
    };
    let finetune = if shown.is_empty() {
        finetune
    } else {
        finetune.samples(shown, QUESTION)?
    };
    let (records, total_steps) = (finetune.training_records().len(), finetune.total_steps());
    let trained = match (&arguments.lora_path, finetune.config().parts) {
        (_, TrainableParts::PROJECTOR) => "the projector".to_owned(),
        (None, TrainableParts::LORA | TrainableParts::ADAPTERS) => {
            format!("adapter of rank {}", arguments.settings()?.1.rank)
        }
        (Some(path), TrainableParts::LORA | TrainableParts::ADAPTERS) => {
            format!("the adapter {} further", path.display())
        }
        _ => "projector and decoder".to_owned(),
    };
    interrupt::ignore_hangup()?;
    let cancel = interrupt::cancel_on_signal()?;
    let finetune = finetune.cancel(cancel.clone());
    let run = if arguments.resume.is_some() {
        finetune.resume(&folder)
    } else {
        finetune.begin(&folder)
    };
    let run = run.map_err(in_flags)?;
    let (path, is_done) = (run.folder().path().to_owned(), run.is_done());
    let path = path.display();
    say!("{records} records, {total_steps} steps, {trained}; run folder {path}");
    let before = match &test {
        Some(test) if !is_done => Some(examine(run.base(), test, &cancel)?),
        _ => None,
    };
    if cancel.is_cancelled() {
        bail!(Stopped(
            "stopped before the first step; nothing was trained".to_owned()
        ));
    }
    let mut progress = Progress::new(arguments.full_screen, &cancel)?;
    let finetuned = run.train(|event| progress.show(event));
    drop(progress);
    let finetuned = match finetuned {
        Err(FinetuneError::Train(TrainError::Interrupted { step, .. })) => bail!(Stopped(format!(
            "stopped after step {step}; resume with finetune --resume {path}"
        ))),
        finetuned => finetuned.map_err(in_flags)?,
    };
    let run = finetuned.folder();
    if run.bad_count() > 0 {
        let (count, list) = (run.bad_count(), run.bad_records());
        say!(
            "{count} records were skipped; they are listed in {}",
            list.display()
        );
    }
    if is_done {
        say!(
            "{path} is done after {total_steps} steps; --num_train_epochs or --max_steps trains longer"
        );
    }
    let (result, page) = (finetuned.result().display(), run.page());
    say!("result {result}, page {}", page.display());
    if let (Some(test), Some(before)) = (test, before) {
        let after = examine(finetuned.gallery(), &test, &cancel)?;
        if cancel.is_cancelled() {
            bail!(Stopped(
                "stopped; the training is done, its result was not compared with the base"
                    .to_owned()
            ));
        }
        compare(&test, &before, &after, run)?;
        finetuned.write_page()?;
    }
    Ok(())
}

/// Loads the base and checks the records.
fn prepare(arguments: &Arguments) -> anyhow::Result<Finetune> {
    let (mut training, lora) = arguments.settings()?;
    training.validate()?;
    let options = arguments.load_options(&training.script);
    ensure!(
        DeviceKind::allow_tf32(training.script.tf32),
        "--tf32 cannot be set any more: a GPU is in use already"
    );
    let device = arguments.device.first().device()?;
    let others = arguments.device.others().iter().map(|other| other.device());
    let others: Vec<Device> = others.collect::<Result<_, _>>()?;
    let mut base = GalleryGpt::load_with(&arguments.base, &device, &options)?;
    let template = arguments.template.template.unwrap_or(base.template());
    base = base.with_template(template);
    training.script.version = template.to_string();
    let family = base.model().config().family;
    training.parts = parts_of(training.parts, family);
    if family == ModelFamily::QwenVl && arguments.preset != Preset::QwenVlChat {
        note!(
            "note: the base is a {family}; its authors' settings are those of --preset qwen_vl_chat"
        );
    }
    if let Some(path) = &arguments.lora_path {
        base = base.with_adapter(path)?;
        for note in base.notes() {
            note!("note: {note}");
        }
        if base.adapter_file().is_none() {
            bail!("{} holds no LoRA adapter", path.display());
        }
    }
    let adapters = training.parts.saved_as_adapter() && arguments.lora_path.is_none();
    let finetune = base.finetune(adapters.then_some(lora), training);
    let records = checked_records(arguments, finetune.batcher(&arguments.images))?;
    let mut finetune = finetune.checked(records).map_err(in_flags)?.devices(others);
    if let Some(path) = &arguments.eval_data {
        finetune = finetune.validation(path)?;
    }
    Ok(finetune)
}

/// What is trained of a base: beside the adapters of LLaVA the projector, of Qwen-VL nothing, as in either original.
pub(crate) fn parts_of(parts: TrainableParts, family: ModelFamily) -> TrainableParts {
    match family {
        ModelFamily::QwenVl if parts == TrainableParts::LORA => TrainableParts::ADAPTERS,
        _ => parts,
    }
}

/// Reads and checks the training records, and prints what is unusual about them.
fn checked_records(arguments: &Arguments, batcher: Batcher) -> anyhow::Result<TrainingRecords> {
    let path = arguments.data.display();
    let set = PaintingForm::load(&arguments.data)?;
    let records = TrainingRecords::check(&arguments.data, set, batcher);
    let kinds = count_kinds(records.records());
    if kinds.keys().any(|kind| !kind.is_painting_form()) {
        let counts = kinds
            .iter()
            .map(|(kind, (count, _))| format!("{count} {kind}"));
        say!("records: {}", counts.collect::<Vec<_>>().join(", "));
    }
    let repeated = records.repeated_ids();
    if let Some(first) = repeated.first() {
        note!(
            "{path}: {} ids occur more than once; {first}",
            repeated.len()
        );
    }
    for bad in records.bad().iter().take(20) {
        note!("{path}: {bad}");
    }
    Ok(records)
}

/// The folder of the run: the one that is resumed, the one that is given, or the first free one.
fn run_folder(arguments: &Arguments) -> PathBuf {
    match arguments.resume.as_ref().or(arguments.output_dir.as_ref()) {
        Some(path) => path.clone(),
        None => (1..)
            .map(|number| PathBuf::from(format!("runs/finetune-{number}")))
            .find(|path| !path.exists())
            .expect("some number is free"),
    }
}
