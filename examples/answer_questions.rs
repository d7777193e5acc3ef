//! Answers a file of questions about pictures, as LLaVA's batch evaluation does: JSON lines in, JSON lines out, in chunks.
//!
//! ```sh
//! cargo run --release --example answer_questions -- --question_file questions.jsonl --image_folder paintings \
//!     --answers_file answers.jsonl --num_chunks 4 --chunk_idx 0
//! ```
//!
//! A question is `{"question_id", "image", "text"}`; an answer `{"question_id", "prompt", "text", "answer_id", "model_id",
//! "metadata"}`. A question without `image` is asked without one. Answers that are in the file already are not asked for again.

#![allow(clippy::print_stderr, reason = "a program talks on the terminal")]

mod flags;

use std::{collections::HashSet, path::PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use flags::{GenerationFlags, ModelFlags};
use gallery_gpt::eval::JsonLinesFile;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Answers a file of questions.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// Questions, a JSON object a line.
    #[arg(long)]
    question_file: PathBuf,
    /// Folder that the questions' pictures are in.
    #[arg(long, default_value = ".")]
    image_folder: PathBuf,
    /// File for the answers; one that is there is gone on with.
    #[arg(long)]
    answers_file: PathBuf,
    /// Parts that the questions are divided into.
    #[arg(long, default_value_t = 1)]
    num_chunks: usize,
    /// Which of them, from 0.
    #[arg(long, default_value_t = 0)]
    chunk_idx: usize,
    /// Questions at a time.
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    #[command(flatten)]
    generation: GenerationFlags,
}

struct Question {
    /// Place in the whole file, which gives it its random numbers.
    number: u64,
    id: Value,
    image: Option<String>,
    text: String,
}

fn main() -> anyhow::Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.batch_size > 0, "--batch_size must be at least 1");
    ensure!(
        arguments.chunk_idx < arguments.num_chunks,
        "--chunk_idx is {}, expected below --num_chunks ({})",
        arguments.chunk_idx,
        arguments.num_chunks
    );
    let config = arguments.generation.config(1024)?;
    let questions = questions(&arguments.question_file)?;
    let size = questions.len().div_ceil(arguments.num_chunks).max(1);
    let chunk = questions
        .chunks(size)
        .nth(arguments.chunk_idx)
        .unwrap_or_default();
    let mut answers = JsonLinesFile::resume(&arguments.answers_file)?;
    let done = answered(&answers)?;
    let left: Vec<&Question> = chunk
        .iter()
        .filter(|question| !done.contains(&question.id.to_string()))
        .collect();
    if left.len() < chunk.len() {
        eprintln!(
            "{} of {} are answered already",
            chunk.len() - left.len(),
            chunk.len()
        );
    }

    let gallery = arguments.model.load()?;
    let model = arguments.model.name();
    let progress = ProgressBar::new(left.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} questions, {per_sec}, {elapsed} gone, {eta} left",
    )?);
    let mut bad = 0;
    for batch in left.chunks(arguments.batch_size) {
        let mut asked = Vec::with_capacity(batch.len());
        let mut prompts = Vec::with_capacity(batch.len());
        for question in batch {
            let image = question.image.as_ref();
            let picture = image
                .map(|image| {
                    gallery
                        .processor()
                        .process_file(arguments.image_folder.join(image))
                })
                .transpose();
            match picture {
                Ok(picture) => {
                    let pictures = picture.into_iter().collect();
                    let mut prompt = gallery.prompt(&question.text, pictures)?;
                    prompt.stream = question.number;
                    prompts.push(prompt);
                    asked.push(question);
                }
                Err(error) => {
                    bad += 1;
                    progress.suspend(|| eprintln!("question {}: {error}", question.id));
                }
            }
        }
        if !prompts.is_empty() {
            let written = gallery.generator(&config).generate(&prompts)?;
            for (question, written) in asked.into_iter().zip(written) {
                let text = gallery.answer(&written);
                let id = Sha256::digest(format!("{model}\n{}\n{text}", question.id));
                let id: String = id
                    .iter()
                    .take(11)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                answers.push(&json!({
                    "question_id": question.id,
                    "prompt": question.text,
                    "text": text,
                    "answer_id": id,
                    "model_id": model,
                    "metadata": {},
                }))?;
            }
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    if bad > 0 {
        bail!("{bad} questions have pictures that could not be read; they are named above");
    }
    Ok(())
}

fn lines(path: &std::path::Path) -> anyhow::Result<Vec<(usize, Value)>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let value = serde_json::from_str(line).with_context(|| {
                format!(
                    "{}, line {}: expected a JSON object",
                    path.display(),
                    number + 1
                )
            })?;
            Ok((number + 1, value))
        })
        .collect()
}

fn questions(path: &std::path::Path) -> anyhow::Result<Vec<Question>> {
    let mut seen = HashSet::new();
    let lines = lines(path)?;
    (0..)
        .zip(lines)
        .map(|(number, (line, value))| {
            let at = || format!("{}, line {line}", path.display());
            let id = value["question_id"].clone();
            ensure!(
                id.is_string() || id.is_number(),
                "{}: expected a question_id, found {id}",
                at()
            );
            ensure!(
                seen.insert(id.to_string()),
                "{}: a second question {id}",
                at()
            );
            let text = value["text"].as_str();
            let text = text.with_context(|| format!("{}: question {id} has no text", at()))?;
            let image = match &value["image"] {
                Value::Null => None,
                Value::String(image) => Some(image.clone()),
                other => bail!(
                    "{}: question {id} has the image {other}, expected a name",
                    at()
                ),
            };
            Ok(Question {
                number,
                id,
                image,
                text: text.to_owned(),
            })
        })
        .collect()
}

/// Ids of the questions that have their answer.
fn answered(answers: &JsonLinesFile) -> anyhow::Result<HashSet<String>> {
    let lines = lines(answers.path())?.into_iter();
    Ok(lines
        .map(|(_, answer)| answer["question_id"].to_string())
        .collect())
}
