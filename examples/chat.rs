//! Talks about a picture in several turns.
//!
//! ```sh
//! cargo run --release --example chat -- --image datasets/painting-form-mini/images/test_0.jpg
//! ```
//!
//! `/image FILE` takes another picture and begins anew, `/clear` begins anew with the same, `/save FILE` writes the conversation as JSON,
//! `/quit` ends. A line that is piped in is a turn.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod flags;
mod interrupt;
mod rate;

use std::{
    io::{IsTerminal, Stdin, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::Parser;
use flags::{GenerationFlags, ModelFlags};
use gallery_gpt::{
    checkpoint::write_file,
    prelude::*,
    text::{Turn, image_question},
    vision::PixelValues,
};
use rate::say_rate;
use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::{Value, json};

/// Talks about a picture.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// The picture.
    #[arg(
        long,
        alias = "image_file",
        default_value = "datasets/painting-form-mini/images/test_0.jpg"
    )]
    image: PathBuf,
    #[command(flatten)]
    generation: GenerationFlags,
}

fn main() -> anyhow::Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = arguments.generation.config(512)?;
    let gallery = arguments.model.load()?;
    let stop_text = gallery.stop_text().map(str::to_owned);
    config.stop_strings.extend(stop_text);
    let mut chat = Chat::about(&gallery, &arguments.image)?;
    let mut input = Input::open()?;
    if let Input::Terminal(_) = input {
        println!(
            "{}; /image FILE, /clear, /save FILE, /quit",
            arguments.image.display()
        );
    }
    while let Some(line) = input.line()? {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        // A turn that fails says why; the conversation goes on as it was before.
        let done = match (command, rest.trim()) {
            ("/quit", _) => return Ok(()),
            ("/clear", _) => {
                chat.conversation = Conversation::default();
                Ok(())
            }
            ("/image", path) => Chat::about(&gallery, Path::new(path)).map(|new| chat = new),
            ("/save", path) => chat.save(Path::new(path)),
            (command, _) if command.starts_with('/') => Err(anyhow::anyhow!(
                "{command}: expected /image, /clear, /save or /quit"
            )),
            _ => chat.turn(&gallery, line, &config),
        };
        if let Err(error) = done {
            eprintln!("{error:#}");
        }
    }
    Ok(())
}

/// Where the lines come from.
enum Input {
    /// With editing and a history.
    Terminal(Box<DefaultEditor>),
    Pipe(Stdin),
}

impl Input {
    fn open() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        Ok(if stdin.is_terminal() {
            Self::Terminal(Box::new(DefaultEditor::new()?))
        } else {
            Self::Pipe(stdin)
        })
    }

    /// The next line, nothing at the end.
    fn line(&mut self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Pipe(stdin) => {
                let mut line = String::new();
                Ok((stdin.read_line(&mut line)? > 0).then_some(line))
            }
        }
    }
}

/// A picture and what was said about it.
struct Chat {
    image: PathBuf,
    picture: PixelValues,
    conversation: Conversation,
}

impl Chat {
    fn about(gallery: &GalleryGpt, image: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            image: image.to_owned(),
            picture: gallery.processor().process_file(image)?,
            conversation: Conversation::default(),
        })
    }

    fn turn(
        &mut self,
        gallery: &GalleryGpt,
        line: &str,
        config: &GenerationConfig,
    ) -> anyhow::Result<()> {
        // The picture belongs to the first turn.
        let pictures = usize::from(self.conversation.turns.is_empty());
        let asked = self
            .conversation
            .clone()
            .ask(image_question(line, pictures));
        let prompt = gallery.continuation(&asked, vec![self.picture.clone()])?;
        let began = Instant::now();
        let mut stream = gallery.stream_prompt(prompt, config)?;
        for piece in &mut stream {
            print!("{}", piece?);
            std::io::stdout().flush()?;
        }
        println!();
        self.conversation = asked.answer(stream.text().trim());
        say_rate(stream, began);
        Ok(())
    }

    /// Writes the conversation in the form of PaintingForm's records.
    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let turns = self.conversation.turns.iter();
        let turns: Vec<Value> = turns
            .map(|Turn { role, text }| json!({ "from": role.record_name(), "value": text }))
            .collect();
        let record = json!({ "image": self.image, "conversations": turns });
        write_file(path, format!("{record:#}\n").as_bytes())
            .with_context(|| format!("not saved: {}", path.display()))?;
        println!("saved: {}", path.display());
        Ok(())
    }
}
