//! Describes a painting, as the text is written.
//!
//! ```sh
//! cargo run --release --example caption
//! cargo run --release --example caption -- --image painting.jpg --adapter runs/example/adapter
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use std::{io::Write, path::PathBuf};

use clap::Parser;
use gallery_gpt::prelude::*;

#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[arg(long, default_value = "datasets/tiny-base")]
    base: PathBuf,
    #[arg(long)]
    adapter: Option<PathBuf>,
    #[arg(long, default_value = "datasets/painting-form-mini/images/test_0.jpg")]
    image: PathBuf,
    #[arg(
        long,
        default_value = "Please write a paragraph of formal analysis for this painting."
    )]
    question: String,
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    #[arg(long, default_value_t = 160)]
    max_new_tokens: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut gallery = GalleryGpt::load(&arguments.base, &Device::flex())?;
    if let Some(adapter) = &arguments.adapter {
        gallery = gallery.with_adapter(adapter)?;
    }
    let config = GenerationConfig {
        temperature: arguments.temperature,
        ..GenerationConfig::greedy(arguments.max_new_tokens)
    };
    let image = arguments.image.as_path();
    for piece in gallery.stream(image, &arguments.question, &config)? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
