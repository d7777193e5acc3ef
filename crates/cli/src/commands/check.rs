//! Checks a whole training set before a training: every record is encoded and every picture decoded, as the training would.
//!
//! The kinds of records (with one picture, with several, texts, and their format) are counted, with an example of each. `--show` prints
//! the tokens of single records: supervised ones are bold on a terminal, and in brackets elsewhere.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use gallery_gpt::{
    checkpoint::{Destination, write_file},
    data::{
        BadRecord, Record, RecordError, RecordFormat, RecordKind, RecordPicture, RecordSize,
        count_kinds,
    },
    prelude::*,
    text::{IMAGE_TOKEN_INDEX, Role, printable},
};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::args::{
    BaseFlag, TrainingTemplate,
    sample::{SAMPLE, TRAINING_RECORDS},
};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt check
  gallery-gpt check --data train_samples_tuning.json --images art_images_data --show 0 7";

/// Checks a training set: encodes every record and decodes every picture.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    base: BaseFlag,
    /// Training records (`train_samples_tuning.json`): a JSON array, or one JSON object per line.
    #[arg(
        long,
        visible_alias = "data_path",
        default_value = TRAINING_RECORDS
    )]
    data: PathBuf,
    /// Folder that the records' picture paths are relative to.
    #[arg(long, visible_alias = "image_folder", default_value = SAMPLE)]
    images: PathBuf,
    #[command(flatten)]
    template: TrainingTemplate,
    /// Maximum length of a record in tokens, those of its pictures included.
    #[arg(long, default_value_t = 2048)]
    model_max_length: usize,
    /// Positions of records to print, with their tokens and label masks.
    #[arg(long, num_args = 1..)]
    show: Vec<usize>,
    /// File of JSON lines for the records that cannot be used.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(output) = &arguments.output {
        ensure_own(output, &arguments.data)?;
    }
    let base = GalleryGpt::load(arguments.base.folder()?, &Device::flex())?;
    let config = base.model().config();
    let template = arguments.template.template.unwrap_or(base.template());
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        template.template(),
        base.processor().clone(),
        &arguments.images,
        config.tokens_per_picture(),
        arguments.model_max_length,
    )
    .within_context(config.llama.max_position_embeddings);
    let set = PaintingForm::load(&arguments.data)?;
    for &index in &arguments.show {
        let record = set.records.iter().find(|record| record.index == index);
        let record = record.with_context(|| {
            format!(
                "--show {index}: {} has no usable record there",
                arguments.data.display()
            )
        })?;
        show(base.tokenizer(), &batcher, record)?;
    }

    print_kinds(&set, batcher.picture_folder());

    let style = ProgressStyle::with_template(
        "{bar:30} {pos}/{len} records, {per_sec}, {elapsed} elapsed, {eta} left",
    )?;
    let progress = ProgressBar::new(set.records.len() as u64).with_style(style);
    let checked: Vec<Result<RecordSize, BadRecord>> = set
        .records
        .par_iter()
        .progress_with(progress)
        .map(|record| check(&batcher, record))
        .collect();
    let mut bad = set.bad;
    let mut counts = Vec::with_capacity(checked.len());
    for result in checked {
        match result {
            Ok(count) => counts.push(count),
            Err(record) => bad.push(record),
        }
    }
    bad.sort_by_key(|record| record.index);
    report(arguments, &counts, &bad)
}

/// Refuses to write the list over the training set, or over any other file than such a list.
fn ensure_own(output: &Path, data: &Path) -> anyhow::Result<()> {
    Destination::new(output).apart_from([data]).check_file()?;
    let text = std::fs::read(output).unwrap_or_default();
    let mut lines = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    let is_line = |line: &[u8]| {
        serde_json::from_slice(line).is_ok_and(|line: Value| line.get("cause").is_some())
    };
    ensure!(
        lines.all(is_line),
        "{} holds something other than bad records; choose another file",
        output.display()
    );
    Ok(())
}

/// Prints the kinds of records with an example of each, and what is no error but worth knowing.
fn print_kinds(set: &PaintingForm, pictures: &PictureFolder) {
    for (kind, (count, first)) in count_kinds(&set.records) {
        let record = &set.records[first];
        let said = |role| {
            let mut turns = record.conversation.turns.iter();
            let turn = turns.find(|turn| turn.role == role);
            let text = turn.map_or("", |turn| &turn.text).trim();
            let short: String = text.chars().take(60).collect();
            let cut = if short.len() < text.len() { "…" } else { "" };
            format!("{}{cut}", printable(&short))
        };
        say!("{count:>7} {kind}");
        if kind == RecordKind::Format(RecordFormat::Llava) {
            continue;
        }
        let system = match (&record.conversation.system, kind) {
            (Some(text), RecordKind::SystemPrompt) => format!("({}) ", printable(text)),
            _ => String::new(),
        };
        say!(
            "        record {} (id {}): {system}{} → {}",
            record.index,
            printable(&record.id),
            said(Role::User),
            said(Role::Assistant)
        );
    }
    let names = set.records.iter().flat_map(|record| &record.pictures);
    let respelled = names.filter(|picture| match picture {
        RecordPicture::File(name) => pictures
            .find(name)
            .is_ok_and(|path| path != pictures.path().join(name)),
        _ => false,
    });
    let respelled: Vec<&RecordPicture> = respelled.collect();
    if let Some(first) = respelled.first() {
        say!(
            "{:>7} pictures found under another spelling of their path, the first: {}",
            respelled.len(),
            printable(&first.name())
        );
    }
    let repeated = set.repeated_ids();
    if let Some(first) = repeated.first() {
        say!("{:>7} ids occur more than once: {first}", repeated.len());
    }
}

/// Encodes a record and decodes its pictures, as the training would.
fn check(batcher: &Batcher, record: &Record) -> Result<RecordSize, BadRecord> {
    let whole = batcher.encode(record).and_then(|_| batcher.size(record));
    whole.map_err(|cause| BadRecord::of(record, cause))
}

/// Prints the tokens of a record, and which of them are supervised.
fn show(tokenizer: &Tokenizer, batcher: &Batcher, record: &Record) -> anyhow::Result<()> {
    let (ids, labels) = batcher.encode_text(record)?;
    let (on, off) = if std::io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("[", "]")
    };
    let pictures = record.pictures.iter().map(|picture| picture.name());
    let pictures: Vec<String> = pictures.map(|name| printable(&name).into_owned()).collect();
    let mut text = format!(
        "record {} (id {}), {}\n",
        record.index,
        printable(&record.id),
        if pictures.is_empty() {
            "no picture".to_owned()
        } else {
            pictures.join(", ")
        }
    );
    let mut inside = false;
    for (&id, &label) in ids.iter().zip(&labels) {
        let supervised = label >= 0;
        if supervised != inside {
            text += if supervised { on } else { off };
            inside = supervised;
        }
        let token = u32::try_from(id).ok().and_then(|id| tokenizer.token(id));
        match token {
            Some(token) => text += &printable(&token.replace('▁', " ")),
            None if id == IMAGE_TOKEN_INDEX => text += "<image>",
            None => text += &format!("<{id}>"),
        }
    }
    say!("{text}{}\n", if inside { off } else { "" });
    Ok(())
}

fn report(arguments: &Arguments, counts: &[RecordSize], bad: &[BadRecord]) -> anyhow::Result<()> {
    let mut lengths: Vec<usize> = counts.iter().map(|count| count.tokens).collect();
    lengths.sort_unstable();
    let tokens: usize = lengths.iter().sum();
    let supervised: usize = counts.iter().map(|count| count.supervised).sum();
    say!("{} records can be used, {} cannot", counts.len(), bad.len());
    if let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) {
        say!(
            "{tokens} tokens, {:.1} % of them supervised; a record has {shortest} to {longest}, the median is {}",
            100.0 * supervised as f64 / tokens as f64,
            lengths[lengths.len() / 2]
        );
    }
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    for record in bad {
        *causes.entry(cause(&record.cause)).or_default() += 1;
    }
    for (cause, count) in causes {
        say!("{count:>7} {cause}");
    }
    for record in bad.iter().take(20) {
        note!("{}: {record}", arguments.data.display());
    }
    if let Some(path) = &arguments.output {
        let lines = bad.iter().map(|record| {
            let line = json!({
                "file": arguments.data, "index": record.index, "id": record.id, "cause": record.cause.to_string(),
            });
            format!("{line}\n")
        });
        write_file(path, lines.collect::<String>().as_bytes())?;
    }
    if !bad.is_empty() {
        bail!(
            "{} records cannot be used; finetune leaves them out with --on_bad_record skip",
            bad.len()
        );
    }
    Ok(())
}

fn cause(error: &RecordError) -> &'static str {
    match error {
        RecordError::Schema { .. } => "not a record",
        RecordError::Placeholders { .. } => "the placeholders do not match the pictures",
        RecordError::Conversation(_) => "no label mask",
        RecordError::Image(_) => "the picture cannot be read",
        RecordError::Path { .. } => "the picture's path leads out of the folder",
        RecordError::Url { .. } => "the picture is a URL, not a file",
        RecordError::TooLong { .. } | RecordError::BeyondContext { .. } => "too long",
        _ => "another cause",
    }
}
