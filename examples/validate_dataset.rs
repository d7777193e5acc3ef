//! Checks a whole training set before anything is spent on it: every record is encoded and every picture decoded, as the training
//! would do it.
//!
//! ```sh
//! cargo run --release --example validate_dataset
//! cargo run --release --example validate_dataset -- --data train_samples_tuning.json --images art_images_data --show 0 7
//! ```
//!
//! `--show` prints the tokens of records by position: what the loss looks at is bold on a terminal and in brackets elsewhere.

#[macro_use]
mod terminal;
mod spelling;

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use gallery_gpt::{
    checkpoint::{Destination, write_file},
    data::{BadRecord, Record, RecordError, RecordShape},
    prelude::*,
    text::IMAGE_TOKEN_INDEX,
};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Checks a training set.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder of the base model that would be trained: its tokenizer, picture size and context count.
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
    #[arg(
        long,
        alias = "image_folder",
        default_value = "datasets/painting-form-mini"
    )]
    images: PathBuf,
    /// Conversation template.
    #[arg(long, default_value = "v1")]
    version: TemplateKind,
    /// Longest record in tokens, pictures expanded.
    #[arg(long, default_value_t = 2048)]
    model_max_length: usize,
    /// Positions of records whose tokens are printed with their mask.
    #[arg(long, num_args = 1..)]
    show: Vec<usize>,
    /// File of JSON lines for the records that cannot be used.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    terminal::main(|| run(&Arguments::parse_from(spelling::arguments())))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(output) = &arguments.output {
        ensure_own(output, &arguments.data)?;
    }
    let base = GalleryGpt::load(&arguments.base, &Device::flex())?;
    let config = base.model().config();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        arguments.version.template(),
        base.processor().clone(),
        &arguments.images,
        config.tokens_per_picture(),
        arguments
            .model_max_length
            .min(config.llama.max_position_embeddings),
    );
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

    let style = ProgressStyle::with_template(
        "{bar:30} {pos}/{len} records, {per_sec}, {elapsed} gone, {eta} left",
    )?;
    let progress = ProgressBar::new(set.records.len() as u64).with_style(style);
    let checked: Vec<Result<RecordShape, BadRecord>> = set
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

/// Refuses to write the list over the training set, or over anything that is no such list.
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
        "{} holds something else than bad records; choose another file",
        output.display()
    );
    Ok(())
}

/// Encodes a record and decodes its picture, as the training would.
fn check(batcher: &Batcher, record: &Record) -> Result<RecordShape, BadRecord> {
    let whole = batcher.encode(record).and_then(|_| batcher.shape(record));
    whole.map_err(|cause| BadRecord {
        index: record.index,
        id: record.id.clone(),
        cause,
    })
}

/// The tokens of a record and which of them are answers.
fn show(tokenizer: &Tokenizer, batcher: &Batcher, record: &Record) -> anyhow::Result<()> {
    let (ids, labels) = batcher.encode_text(record)?;
    let (on, off) = if std::io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("[", "]")
    };
    say!(
        "record {} (id {}), {}",
        record.index,
        record.id,
        record.image
    );
    let mut inside = false;
    for (&id, &label) in ids.iter().zip(&labels) {
        let supervised = label >= 0;
        if supervised != inside {
            terminal::output(format_args!("{}", if supervised { on } else { off }));
            inside = supervised;
        }
        let token = u32::try_from(id).ok().and_then(|id| tokenizer.token(id));
        match token {
            Some(token) => terminal::output(format_args!("{}", token.replace('▁', " "))),
            None if id == IMAGE_TOKEN_INDEX => terminal::output(format_args!("<image>")),
            None => terminal::output(format_args!("<{id}>")),
        }
    }
    say!("{}\n", if inside { off } else { "" });
    Ok(())
}

fn report(arguments: &Arguments, counts: &[RecordShape], bad: &[BadRecord]) -> anyhow::Result<()> {
    let mut lengths: Vec<usize> = counts.iter().map(|count| count.tokens).collect();
    lengths.sort_unstable();
    let tokens: usize = lengths.iter().sum();
    let supervised: usize = counts.iter().map(|count| count.supervised).sum();
    say!("{} records can be used, {} cannot", counts.len(), bad.len());
    if let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) {
        say!(
            "{tokens} tokens, {:.1} % of them supervised; a record has {shortest} to {longest}, half of them at most {}",
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
        RecordError::Marks { .. } => "marks and pictures do not fit",
        RecordError::Conversation(_) => "no label mask",
        RecordError::Image(_) => "the picture cannot be read",
        RecordError::Path { .. } => "the picture's path leads out of its folder",
        RecordError::TooLong { .. } => "too long",
        _ => "another cause",
    }
}
