//! Asks a model about pictures: one is answered as it is written, many in batches.
//!
//! ```sh
//! cargo run --release --example caption
//! cargo run --release --example caption -- --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter --image painting.jpg
//! cargo run --release --example caption -- --image paintings 'more/*.png' --output captions.jsonl
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod flags;
mod rate;

use std::{
    io::{Cursor, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use flags::{GenerationFlags, ModelFlags};
use gallery_gpt::{checkpoint::write_file, eval::PredictionsFile, prelude::*, vision::PixelValues};
use gallery_gpt_scenes::QUESTIONS;
use image::ImageFormat;
use indicatif::{ProgressBar, ProgressStyle};
use rate::say_rate;

/// Asks a model about pictures.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// Pictures, folders of pictures, or patterns.
    #[arg(
        long,
        alias = "image_file",
        num_args = 1..,
        default_value = "datasets/painting-form-mini/images/test_0.jpg"
    )]
    image: Vec<String>,
    /// Ask about all pictures in one prompt, a mark for each where the question has none.
    #[arg(long, conflicts_with = "output")]
    together: bool,
    /// File of JSON lines for the answers; pictures that are in it already are not asked about again.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Pictures at a time, where there are many.
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// What to ask.
    #[arg(long, alias = "query", default_value = QUESTIONS[3])]
    question: String,
    /// File for a picture of where the decoder looked while it wrote the phrase; one picture alone.
    #[arg(long, requires = "phrase", conflicts_with_all = ["output", "together"])]
    attention: Option<PathBuf>,
    /// Words of the answer.
    #[arg(long, requires = "attention")]
    phrase: Option<String>,
    #[command(flatten)]
    generation: GenerationFlags,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    run(&arguments)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = arguments.generation.config(512)?;
    ensure!(arguments.batch_size > 0, "--batch_size must be at least 1");
    let pictures = pictures(&arguments.image)?;
    let gallery = arguments.model.load()?;
    if arguments.together {
        return answer_one(&gallery, &pictures, &arguments.question, &config);
    }
    if let (Some(file), Some(phrase)) = (&arguments.attention, &arguments.phrase) {
        let [picture] = &pictures[..] else {
            bail!(
                "--attention is of one picture, {} were given",
                pictures.len()
            );
        };
        return attend(
            &gallery,
            picture,
            &arguments.question,
            &config,
            phrase,
            file,
        );
    }
    match &pictures[..] {
        [_] if arguments.output.is_none() => {
            answer_one(&gallery, &pictures, &arguments.question, &config)
        }
        _ => answer_all(arguments, &gallery, &pictures, &config),
    }
}

/// Writes the answer to one prompt as it comes.
fn answer_one(
    gallery: &GalleryGpt,
    pictures: &[PathBuf],
    question: &str,
    config: &GenerationConfig,
) -> anyhow::Result<()> {
    let pictures = pictures
        .iter()
        .map(|path| gallery.processor().process_file(path));
    let prompt = gallery.prompt(question, pictures.collect::<Result<_, _>>()?)?;
    if config.num_beams > 1 {
        let written = gallery.generator(config).generate(&[prompt])?;
        println!("{}", gallery.answer(&written[0]));
        return Ok(());
    }
    let mut output = std::io::stdout().lock();
    let began = Instant::now();
    let mut stream = gallery.stream_prompt(prompt, config)?;
    for piece in &mut stream {
        let written = write!(output, "{}", piece?).and_then(|()| output.flush());
        match written {
            // Nobody reads on.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    writeln!(output)?;
    say_rate(stream, began);
    Ok(())
}

/// Answers, then shows where the decoder looked.
fn attend(
    gallery: &GalleryGpt,
    picture: &Path,
    question: &str,
    config: &GenerationConfig,
    phrase: &str,
    file: &Path,
) -> anyhow::Result<()> {
    let picture = gallery.processor().open(picture)?;
    let prompt = gallery.prompt(question, vec![gallery.processor().process(&picture)])?;
    let written = gallery
        .generator(config)
        .generate(std::slice::from_ref(&prompt))?;
    println!("{}", gallery.answer(&written[0]));
    for map in gallery.attention_maps(&prompt, &written[0].ids, phrase)? {
        let mut bytes = Cursor::new(Vec::new());
        map.overlay(gallery, &picture)
            .write_to(&mut bytes, ImageFormat::Png)?;
        write_file(file, bytes.get_ref()).with_context(|| file.display().to_string())?;
        eprintln!(
            "where it looked while it wrote {phrase:?}: {}",
            file.display()
        );
    }
    Ok(())
}

/// Answers in batches. A picture that cannot be read is named and does not end the run.
fn answer_all(
    arguments: &Arguments,
    gallery: &GalleryGpt,
    pictures: &[PathBuf],
    config: &GenerationConfig,
) -> anyhow::Result<()> {
    let mut file = arguments
        .output
        .as_ref()
        .map(PredictionsFile::resume)
        .transpose()?;
    let name = |path: &Path| path.display().to_string();
    let wanted: Vec<(u64, &PathBuf)> = (0..)
        .zip(pictures)
        .filter(|(_, path)| file.as_ref().is_none_or(|file| !file.has(&name(path))))
        .collect();
    if wanted.len() < pictures.len() {
        eprintln!(
            "{} of {} are done already",
            pictures.len() - wanted.len(),
            pictures.len()
        );
    }
    let progress = ProgressBar::new(wanted.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} pictures, {per_sec}, {elapsed} gone, {eta} left",
    )?);
    let mut bad = 0;
    for batch in wanted.chunks(arguments.batch_size) {
        let mut asked = Vec::with_capacity(batch.len());
        let mut prompts = Vec::with_capacity(batch.len());
        for (number, path) in batch {
            let read: Result<PixelValues, _> = gallery.processor().process_file(path);
            match read {
                Ok(picture) => {
                    let mut prompt = gallery.prompt(&arguments.question, vec![picture])?;
                    // Its own random numbers, whatever batch it is in.
                    prompt.stream = *number;
                    prompts.push(prompt);
                    asked.push(path);
                }
                Err(error) => {
                    bad += 1;
                    progress.suspend(|| eprintln!("{error}"));
                }
            }
        }
        if !prompts.is_empty() {
            let written = gallery.generator(config).generate(&prompts)?;
            for (path, written) in asked.into_iter().zip(written) {
                let text = gallery.answer(&written);
                match &mut file {
                    Some(file) => file.push(&name(path), &text)?,
                    None => progress.suspend(|| println!("{}\n  {text}", path.display())),
                }
            }
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    if bad > 0 {
        bail!(
            "{bad} of {} pictures could not be read; they are named above",
            pictures.len()
        );
    }
    Ok(())
}

/// The pictures that the arguments mean: files as they are, folders' pictures and what fits a pattern by name.
fn pictures(arguments: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tiff"];
    let mut pictures = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        let before = pictures.len();
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| argument.clone())?;
            let mut found: Vec<PathBuf> = entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| {
                    let ending = path
                        .extension()
                        .map(|end| end.to_string_lossy().to_lowercase());
                    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
                })
                .collect();
            found.sort();
            pictures.extend(found);
        } else if path.exists() || !argument.contains(['*', '?', '[']) {
            pictures.push(path.to_owned());
        } else {
            let found = glob::glob(argument).with_context(|| argument.clone())?;
            pictures.extend(found.filter_map(Result::ok).filter(|path| path.is_file()));
        }
        ensure!(pictures.len() > before, "no picture in {argument}");
    }
    Ok(pictures)
}
