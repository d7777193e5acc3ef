//! Answers a file of questions about pictures, as LLaVA's batch evaluation does: JSON lines in, JSON lines out, in chunks.
//!
//! A question is `{"question_id", "image", "text"}`; an answer `{"question_id", "image", "prompt", "text", "answer_id", "model_id",
//! "metadata", "finish", "written_by"}`, with "regions" if it points at something. A question without `image` is asked without a
//! picture. Answers that are in the file already are kept; a file that was begun with another model, adapter, question or setting is refused.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use gallery_gpt::{
    Answer, GalleryError,
    checkpoint::Destination,
    data::{PictureFolder, RecordError},
    model::FinishReason,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    args::{BatchSize, GenerationFlags, ModelFlags},
    files::AnswerOutput,
    terminal::{Stopped, interrupt},
};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt answer-questions --questions questions.jsonl --images paintings --output answers.jsonl
  gallery-gpt answer-questions --questions q.jsonl --output 0.jsonl --num_chunks 4 --chunk_idx 0";

/// Answers a file of questions.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES, mut_arg("max_new_tokens", |most| {
    most.default_value("1024")
        .help("Maximum number of tokens of an answer; the default is that of LLaVA's model_vqa.py, which this command stands in for")
}))]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// Questions, one JSON object per line.
    #[arg(long, visible_alias = "question_file")]
    questions: PathBuf,
    /// Folder of the questions' pictures.
    #[arg(long, visible_alias = "image_folder", default_value = ".")]
    images: PathBuf,
    /// File for the answers, `-` for standard output; questions that it has answers for are skipped.
    #[arg(long, visible_alias = "answers_file")]
    output: PathBuf,
    /// Number of chunks that the questions are divided into.
    #[arg(long, default_value_t = 1)]
    num_chunks: usize,
    /// The chunk to answer, from 0.
    #[arg(long, default_value_t = 0)]
    chunk_idx: usize,
    #[command(flatten)]
    batches: BatchSize,
    #[command(flatten)]
    generation: GenerationFlags,
}

struct Question {
    /// Position in the whole file, the stream of its random numbers.
    number: u64,
    id: Value,
    image: Option<String>,
    text: String,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let batch_size = arguments.batches.checked()?;
    ensure!(
        arguments.chunk_idx < arguments.num_chunks,
        "--chunk_idx is {}, expected below --num_chunks ({})",
        arguments.chunk_idx,
        arguments.num_chunks
    );
    arguments.generation.check()?;
    let questions = questions(&arguments.questions)?;
    Destination::new(&arguments.output)
        .apart_from([&arguments.questions])
        .check_file()?;
    let size = questions.len().div_ceil(arguments.num_chunks).max(1);
    let chunk = questions
        .chunks(size)
        .nth(arguments.chunk_idx)
        .unwrap_or_default();
    let gallery = arguments.model.load()?;
    let config = arguments.generation.config(&gallery)?;
    let model = arguments.model.name()?;
    let written_by = gallery.written_by(&config)?;
    let mut output = AnswerOutput::open(&arguments.output, "question_id", written_by)?;
    for question in chunk {
        for (field, now) in [
            ("prompt", json!(question.text)),
            ("image", json!(question.image)),
        ] {
            output.answers().ensure_same(&question.id, field, &now)?;
        }
    }
    let left: Vec<&Question> = chunk
        .iter()
        .filter(|question| !output.has(&question.id))
        .collect();
    let before = chunk.len() - left.len();
    let cancel = interrupt::cancel_on_signal()?;
    let progress = ProgressBar::new(left.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} questions, {per_sec}, {elapsed} elapsed, {eta} left",
    )?);
    let folder = PictureFolder::new(&arguments.images);
    let (mut bad, mut count) = (0, 0);
    let prompt = |question: &&Question| {
        let image = question.image.as_ref();
        let picture = image
            .map(|image| {
                let path = folder.find(image)?;
                Ok::<_, RecordError>(gallery.processor().process_file(path)?)
            })
            .transpose()?;
        let mut prompt = gallery.prompt(&question.text, picture.into_iter().collect())?;
        prompt.stream = question.number;
        Ok(prompt)
    };
    let answers = gallery
        .answer_all(left, &config, prompt)
        .with_batch_size(batch_size)
        .with_cancel(cancel.clone());
    for answered in answers {
        let answered = match answered {
            Err(GalleryError::Cancelled) => break,
            answered => answered?,
        };
        let question = answered.question;
        progress.inc(1);
        match answered.answer {
            Ok(written) => {
                if !output.push(answer(question, &written, &model))? {
                    break;
                }
                count += 1;
            }
            Err(error) => {
                bad += 1;
                progress.suspend(|| note!("question {}: {error}", question.id));
            }
        }
    }
    progress.finish_and_clear();
    let summary = format!(
        "{} of {} questions are answered in {}, {before} of them from before",
        before + count,
        chunk.len(),
        output.name()
    );
    if cancel.is_cancelled() {
        bail!(Stopped(format!(
            "stopped: {summary}; the same command resumes it"
        )));
    }
    note!("{summary}");
    if bad > 0 {
        bail!("{bad} questions have pictures that could not be read; they are listed above");
    }
    Ok(())
}

/// A line of the answers: LLaVA's fields, the picture, why the answer ended, and what it points at.
fn answer(question: &Question, written: &Answer, model: &str) -> Map<String, Value> {
    let text = &written.text;
    let is_stop = written.finish == FinishReason::Stop;
    let finish = if is_stop { "stop" } else { "length" };
    let regions = (!written.regions.is_empty()).then(|| ("regions", json!(written.regions)));
    let id = Sha256::digest(format!("{model}\n{}\n{text}", question.id));
    let id: String = id
        .iter()
        .take(11)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    [
        ("question_id", question.id.clone()),
        ("image", json!(question.image)),
        ("prompt", json!(question.text)),
        ("text", json!(text)),
        ("answer_id", json!(id)),
        ("model_id", json!(model)),
        ("metadata", json!({})),
        ("finish", json!(finish)),
    ]
    .into_iter()
    .chain(regions)
    .map(|(field, value)| (field.to_owned(), value))
    .collect()
}

fn lines(path: &Path) -> anyhow::Result<Vec<(usize, Value)>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.trim_start_matches('\u{feff}');
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

fn questions(path: &Path) -> anyhow::Result<Vec<Question>> {
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
                Value::String(image) if image.trim().is_empty() => None,
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
