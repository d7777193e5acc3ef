//! Asks a model about pictures: the answer to one is printed as it is generated, many are answered in batches.
//!
//! Answers that are in `--output` already are kept, so the same command resumes a run that was stopped. A file that was begun with
//! another model, adapter, question or setting is refused.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use gallery_gpt::{
    checkpoint::{Destination, write_file},
    draw_regions,
    model::{CancelToken, FinishReason, GenerationError, ModelFamily},
    prelude::*,
    text::AnswerRegions,
};
use image::ImageFormat;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    args::{
        BatchSize, GenerationFlags, ModelFlags,
        sample::{QUESTION, TEST_PAINTING},
    },
    files::{
        AnswerOutput,
        pictures::{self, note_orientation},
    },
    terminal::{self, Stopped, interrupt, rate::print_rate, wrapping::Wrapping},
};

/// Marks the end of an answer that was cut.
const CUT: &str = "…";

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt caption
  gallery-gpt caption painting.jpg --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter
  gallery-gpt caption paintings 'more/*.png' --output captions.jsonl";

/// Asks a model about pictures.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Pictures, folders of pictures, or patterns [default: a test painting of the sample].
    #[arg(value_name = "PICTURE")]
    pictures: Vec<String>,
    #[command(flatten)]
    model: ModelFlags,
    /// More pictures, folders or patterns.
    #[arg(long, visible_alias = "image_file", value_name = "PICTURE", num_args = 1..)]
    image: Vec<String>,
    /// Ask about all pictures in one prompt, with a placeholder for each if the question has none.
    #[arg(long, conflicts_with = "output")]
    together: bool,
    /// File of JSON lines for the answers, `-` for standard output; pictures that it has answers for are skipped.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Rotate pictures as their EXIF says; the model was trained on pictures as they are stored.
    #[arg(long)]
    apply_orientation: bool,
    #[command(flatten)]
    batches: BatchSize,
    /// The question.
    #[arg(long, visible_aliases = ["query", "prompt"], default_value = QUESTION)]
    question: String,
    /// File for an attention map of the phrase, PNG or JPEG by its extension; for one picture.
    #[arg(long, requires = "phrase", conflicts_with_all = ["output", "together"])]
    attention: Option<PathBuf>,
    /// File for the picture with what the answer points at drawn on it, PNG or JPEG by its extension; for one picture. Of the models
    /// here, Qwen-VL-Chat points.
    #[arg(long, conflicts_with_all = ["output", "together", "attention"])]
    boxes: Option<PathBuf>,
    /// Words of the answer whose attention is drawn.
    #[arg(long, requires = "attention")]
    phrase: Option<String>,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.generation.check()?;
    arguments.batches.checked()?;
    let mut named = [&arguments.pictures[..], &arguments.image].concat();
    if named.is_empty() {
        named.push(TEST_PAINTING.to_owned());
    }
    let pictures = pictures::named(&named)?;
    if let Some(file) = &arguments.attention {
        picture_format("--attention", file)?;
    }
    if let Some(file) = &arguments.boxes {
        picture_format("--boxes", file)?;
    }
    ensure!(
        pictures.len() == 1 || (arguments.attention.is_none() && arguments.boxes.is_none()),
        "--attention and --boxes take one picture, {} were given",
        pictures.len()
    );
    let drawn = arguments.attention.iter().chain(&arguments.boxes);
    for file in drawn.chain(&arguments.output) {
        Destination::new(file).apart_from(&pictures).check_file()?;
    }
    let gallery = arguments.model.load()?;
    let family = gallery.model().config().family;
    ensure!(
        arguments.boxes.is_none() || family == ModelFamily::QwenVl,
        "--boxes draws what a Qwen-VL-Chat points at, and the model is a {family}"
    );
    let config = arguments.generation.config(&gallery)?;
    let gallery = gallery.with_apply_orientation(arguments.apply_orientation);
    let cancel = interrupt::cancel_on_signal()?;
    let question = &arguments.question;
    if let (Some(file), Some(phrase)) = (&arguments.attention, &arguments.phrase) {
        return attend(&gallery, &pictures[0], question, &config, phrase, file);
    }
    if let Some(file) = &arguments.boxes {
        return point(&gallery, &pictures[0], question, &config, file, cancel);
    }
    if arguments.together || (pictures.len() == 1 && arguments.output.is_none()) {
        return answer_one(&gallery, &pictures, question, &config, cancel);
    }
    answer_all(arguments, &gallery, &pictures, &config, &cancel)
}

/// Prints the answer to one prompt as it is generated.
fn answer_one(
    gallery: &GalleryGpt,
    pictures: &[PathBuf],
    question: &str,
    config: &GenerationConfig,
    cancel: CancelToken,
) -> anyhow::Result<()> {
    let pixels = pictures
        .iter()
        .map(|path| gallery.processor().process_file(path));
    let prompt = gallery.prompt(question, pixels.collect::<Result<_, _>>()?)?;
    for path in pictures {
        note_orientation(gallery.processor(), path);
    }
    let mut output = Wrapping::new();
    if config.num_beams > 1 {
        let generator = gallery.generator(config).with_cancel(cancel);
        let written = match generator.generate(&[prompt]) {
            Err(GenerationError::Cancelled) => bail!(Stopped("stopped".to_owned())),
            written => written?.swap_remove(0),
        };
        output.push(&gallery.answer(&written));
        end(output, written.finish, config);
        return Ok(());
    }
    let began = Instant::now();
    let mut stream = match gallery.stream_until(prompt, config, cancel) {
        Err(GalleryError::Generation(GenerationError::Cancelled)) => {
            bail!(Stopped("stopped".to_owned()))
        }
        stream => stream?,
    };
    for piece in &mut stream {
        output.push(&piece?);
        if terminal::is_closed() {
            return Ok(());
        }
    }
    let written = stream.finish();
    end(output, written.finish, config);
    if written.finish == FinishReason::Cancelled {
        bail!(Stopped("stopped".to_owned()));
    }
    print_rate(&written, began);
    Ok(())
}

/// Ends an answer, and marks one that was cut.
fn end(mut output: Wrapping, finish: FinishReason, config: &GenerationConfig) {
    if finish != FinishReason::Stop {
        output.push(CUT);
    }
    output.finish();
    if finish == FinishReason::Length {
        note!(
            "cut: the answer reached --max_new_tokens ({}) or the end of the context",
            config.max_new_tokens
        );
    }
}

/// The format of a picture that is written, by the name of its file.
fn picture_format(flag: &str, file: &Path) -> anyhow::Result<ImageFormat> {
    let format = ImageFormat::from_path(file).ok();
    format
        .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg))
        .with_context(|| {
            format!(
                "{flag} {}: expected a name that ends in .png, .jpg or .jpeg",
                file.display()
            )
        })
}

/// Prints the answer, then writes an attention map of a phrase in it.
fn attend(
    gallery: &GalleryGpt,
    picture: &Path,
    question: &str,
    config: &GenerationConfig,
    phrase: &str,
    file: &Path,
) -> anyhow::Result<()> {
    let format = picture_format("--attention", file)?;
    note_orientation(gallery.processor(), picture);
    let picture = gallery.processor().open(picture)?;
    let prompt = gallery.prompt(question, vec![gallery.processor().process(&picture)])?;
    let written = gallery
        .generator(config)
        .generate(std::slice::from_ref(&prompt))?;
    let mut output = Wrapping::new();
    output.push(&gallery.answer(&written[0]));
    end(output, written[0].finish, config);
    for map in gallery.attention_maps(&prompt, &written[0].ids, phrase)? {
        let mut bytes = std::io::Cursor::new(Vec::new());
        map.figure(gallery, &picture).write_to(&mut bytes, format)?;
        write_file(file, bytes.get_ref())?;
        note!("attention map of {phrase:?}: {}", file.display());
    }
    Ok(())
}

/// Prints the answer, then draws what it points at on the picture.
fn point(
    gallery: &GalleryGpt,
    picture: &Path,
    question: &str,
    config: &GenerationConfig,
    file: &Path,
    cancel: CancelToken,
) -> anyhow::Result<()> {
    let format = picture_format("--boxes", file)?;
    note_orientation(gallery.processor(), picture);
    let picture = gallery.processor().open(picture)?;
    let prompt = gallery.question_about(&picture, question)?;
    let generator = gallery.generator(config).with_cancel(cancel);
    let written = match generator.generate(&[prompt]) {
        Err(GenerationError::Cancelled) => bail!(Stopped("stopped".to_owned())),
        written => written?.swap_remove(0),
    };
    let AnswerRegions { text, regions } = gallery.answer_with_regions(&written);
    let mut output = Wrapping::new();
    output.push(&text);
    end(output, written.finish, config);
    if regions.is_empty() {
        bail!(
            "the answer points at nothing, so {} is not written; Qwen-VL-Chat writes boxes if the question asks for them",
            file.display()
        );
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    draw_regions(&picture, &regions).write_to(&mut bytes, format)?;
    write_file(file, bytes.get_ref())?;
    for (number, region) in (1..).zip(&regions) {
        let name = region.name.as_deref().unwrap_or("without a name");
        note!("{number}: {name}");
    }
    note!("{} regions: {}", regions.len(), file.display());
    Ok(())
}

/// Answers in batches. A picture that cannot be read is reported, and the others are answered.
fn answer_all(
    arguments: &Arguments,
    gallery: &GalleryGpt,
    pictures: &[PathBuf],
    config: &GenerationConfig,
    cancel: &CancelToken,
) -> anyhow::Result<()> {
    let written_by = gallery
        .written_by(config)?
        .with_question(&arguments.question);
    let output = arguments.output.as_deref();
    let mut output = output
        .map(|path| AnswerOutput::open(path, "image", written_by))
        .transpose()?;
    let name = |path: &Path| Value::from(path.display().to_string());
    let wanted: Vec<(u64, &PathBuf)> = (0..)
        .zip(pictures)
        .filter(|(_, path)| {
            output
                .as_ref()
                .is_none_or(|output| !output.has(&name(path)))
        })
        .collect();
    let before = pictures.len() - wanted.len();
    let progress = ProgressBar::new(wanted.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} pictures, {per_sec}, {elapsed} elapsed, {eta} left",
    )?);
    let (mut bad, mut count) = (0, 0);
    let prompt = |(number, path): &(u64, &PathBuf)| {
        let mut prompt = gallery.question_about(*path, &arguments.question)?;
        note_orientation(gallery.processor(), path);
        // Random numbers of its own, independent of the batch.
        prompt.stream = *number;
        Ok(prompt)
    };
    let answers = gallery
        .answer_all(wanted, config, prompt)
        .with_batch_size(arguments.batches.checked()?)
        .with_cancel(cancel.clone());
    for answered in answers {
        let answered = match answered {
            Err(GalleryError::Cancelled) => break,
            answered => answered?,
        };
        let (_, path) = answered.question;
        progress.inc(1);
        let answer = match answered.answer {
            Ok(answer) => answer,
            Err(error) => {
                bad += 1;
                progress.suspend(|| note!("{error}"));
                continue;
            }
        };
        let is_cut = answer.finish != FinishReason::Stop;
        match &mut output {
            Some(output) => {
                let fields = [
                    ("image", name(path)),
                    ("text", answer.text.into()),
                    ("finish", json!(if is_cut { "length" } else { "stop" })),
                ];
                let fields = fields.map(|(field, value)| (field.to_owned(), value));
                let regions = (!answer.regions.is_empty())
                    .then(|| ("regions".to_owned(), json!(answer.regions)));
                if !output.push(fields.into_iter().chain(regions).collect())? {
                    break;
                }
            }
            None => {
                let cut = if is_cut { CUT } else { "" };
                progress.suspend(|| say!("{}\n  {}{cut}", path.display(), answer.text));
                if terminal::is_closed() {
                    break;
                }
            }
        }
        count += 1;
    }
    progress.finish_and_clear();
    let summary = output.map(|output| {
        format!(
            "{} answers in {}, {before} of them from before",
            before + count,
            output.name()
        )
    });
    match (cancel.is_cancelled(), summary) {
        (true, Some(summary)) => bail!(Stopped(format!(
            "stopped: {summary}; the same command resumes it"
        ))),
        (true, None) => bail!(Stopped(format!("stopped after {count} answers"))),
        (false, Some(summary)) => note!("{summary}"),
        (false, None) => {}
    }
    if bad > 0 {
        bail!(
            "{bad} of {} pictures could not be read; they are listed above",
            pictures.len()
        );
    }
    Ok(())
}
