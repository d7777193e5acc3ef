//! Asks a model about a picture and prints the answer as it is written.
//!
//! ```sh
//! cargo run --release --example caption
//! cargo run --release --example caption -- --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter --image painting.jpg
//! ```

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Parser;
use gallery_gpt::prelude::*;
use gallery_gpt_scenes::QUESTIONS;

/// Asks a model about a picture.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder of the base model (llava-hf layout, with its tokenizer).
    #[arg(long, alias = "model_base", default_value = "datasets/tiny-base")]
    base: PathBuf,
    /// Folder of a PEFT adapter.
    #[arg(long, alias = "model_path")]
    adapter: Option<PathBuf>,
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
    let gallery = load(
        &arguments.base,
        arguments.adapter.as_deref(),
        arguments.device,
    )?
    .template(arguments.conv_mode);
    let picture = gallery.processor().open(&arguments.image)?;
    let mut output = std::io::stdout().lock();
    for piece in gallery.stream(&picture, &arguments.question, &config)? {
        write!(output, "{}", piece?)?;
        output.flush()?;
    }
    writeln!(output)?;
    Ok(())
}

fn load(base: &Path, adapter: Option<&Path>, device: DeviceKind) -> anyhow::Result<GalleryGpt> {
    let options = LoadOptions {
        dtype: Some(device.dtype()),
        ..LoadOptions::default()
    };
    let gallery = GalleryGpt::load_with(base, &device.device(), &options)?;
    Ok(match adapter {
        Some(adapter) => gallery.adapter(adapter)?,
        None => gallery,
    })
}
