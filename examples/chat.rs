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

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Parser;
use gallery_gpt::{
    checkpoint::write_file,
    prelude::*,
    text::{Turn, image_question},
    vision::PixelValues,
};
use serde_json::{Value, json};

/// Talks about a picture.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder of the base model, in any layout, with its tokenizer.
    #[arg(long, alias = "model_base", default_value = "datasets/tiny-base")]
    base: PathBuf,
    /// Folder of an adapter, PEFT's or the original's.
    #[arg(long, alias = "model_path")]
    adapter: Option<PathBuf>,
    /// The picture.
    #[arg(
        long,
        alias = "image_file",
        default_value = "datasets/painting-form-mini/images/test_0.jpg"
    )]
    image: PathBuf,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// Conversation template.
    #[arg(long, default_value = "vicuna_v1")]
    conv_mode: TemplateKind,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.2)]
    temperature: f32,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 512)]
    max_new_tokens: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = GenerationConfig {
        temperature: arguments.temperature,
        top_k: 50,
        seed: arguments.seed,
        ..GenerationConfig::greedy(arguments.max_new_tokens)
    };
    config.validate()?;
    let mut gallery = GalleryGpt::load(&arguments.base, &arguments.device.device())?
        .template(arguments.conv_mode);
    if let Some(adapter) = &arguments.adapter {
        gallery = gallery.adapter(adapter)?;
    }
    for note in gallery.notes() {
        eprintln!("note: {note}");
    }
    let mut chat = Chat::about(&gallery, &arguments.image)?;
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        println!(
            "{}; /image FILE, /clear, /save FILE, /quit",
            arguments.image.display()
        );
    }
    loop {
        if is_terminal {
            print!("> ");
            std::io::stdout().flush()?;
        }
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
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
        let mut answer = String::new();
        for piece in gallery.stream_prompt(prompt, config)? {
            let piece = piece?;
            print!("{piece}");
            std::io::stdout().flush()?;
            answer.push_str(&piece);
        }
        println!();
        self.conversation = asked.answer(answer.trim());
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
