//! Asks a model about a picture and prints the answer as it is written.
//!
//! ```sh
//! cargo run --release --example caption
//! cargo run --release --example caption -- --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter --image painting.jpg
//! ```

#![allow(clippy::print_stderr, reason = "a program talks on the terminal")]

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
};

use clap::Parser;
use gallery_gpt::prelude::*;
use gallery_gpt_scenes::QUESTIONS;

/// Asks a model about a picture.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder of the base model, in any layout, with its tokenizer.
    #[arg(long, alias = "model_base", default_value = "datasets/tiny-base")]
    base: PathBuf,
    /// Folder of an adapter, PEFT's or the original's, or an `mm_projector.bin`.
    #[arg(long, alias = "model_path")]
    adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
    /// The picture.
    #[arg(
        long,
        alias = "image_file",
        default_value = "datasets/painting-form-mini/images/test_0.jpg"
    )]
    image: PathBuf,
    /// What to ask.
    #[arg(long, alias = "query", default_value = QUESTIONS[3])]
    question: String,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the stored one for large ones.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// Conversation template. The original falls back to `llava_v0` for adapters whose name lacks "v1"; training uses v1.
    #[arg(long, default_value = "vicuna_v1")]
    conv_mode: TemplateKind,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.2)]
    temperature: f32,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Sample from so many of the likeliest tokens; 0 is all.
    #[arg(long, default_value_t = 50)]
    top_k: usize,
    /// Most tokens to write.
    #[arg(long, default_value_t = 512)]
    max_new_tokens: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    run(&arguments)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = GenerationConfig {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: arguments.top_k,
        seed: arguments.seed,
        ..GenerationConfig::greedy(arguments.max_new_tokens)
    };
    config.validate()?;
    let gallery = load(arguments)?.template(arguments.conv_mode);
    for note in gallery.notes() {
        eprintln!("note: {note}");
    }
    let picture = gallery.processor().open(&arguments.image)?;
    let mut output = std::io::stdout().lock();
    for piece in gallery.stream(&picture, &arguments.question, &config)? {
        let written = write!(output, "{}", piece?).and_then(|()| output.flush());
        match written {
            // Nobody reads on.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    writeln!(output)?;
    Ok(())
}

fn load(arguments: &Arguments) -> anyhow::Result<GalleryGpt> {
    let options = LoadOptions {
        dtype: arguments.dtype,
        vision_tower: arguments.vision_tower.clone(),
        ..LoadOptions::default()
    };
    let gallery = GalleryGpt::load_with(&arguments.base, &arguments.device.device(), &options)?;
    Ok(match &arguments.adapter {
        Some(adapter) => gallery.adapter(adapter)?,
        None => gallery,
    })
}
