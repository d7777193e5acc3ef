//! Finetunes the tiny base with LoRA on the sample, and asks the result about a painting it was not trained on.
//!
//! ```sh
//! cargo run --release --example finetune                 # 200 steps, into runs/example
//! cargo run --release --example finetune -- --output_dir FOLDER --max_steps 20
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use std::path::PathBuf;

use clap::Parser;
use gallery_gpt::{data::Order, prelude::*};

#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[arg(long, default_value = "runs/example")]
    output_dir: PathBuf,
    #[arg(long, default_value_t = 200)]
    max_steps: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let sample = "datasets/painting-form-mini";

    let training = TrainingConfig {
        max_steps: Some(arguments.max_steps),
        num_train_epochs: 8.0,
        order: Order::GroupByLength,
        ..TrainingConfig::lora(4e-3)
    };
    let finetuned = GalleryGpt::load("datasets/tiny-base", &Device::flex())?
        .finetune(LoraConfig::new(16, 32.0), training)
        .records(format!("{sample}/train_samples_tuning.json"), sample)?
        .run(&arguments.output_dir, |event| {
            if let TrainEvent::Step { report, .. } = event {
                println!("step {}: loss {:.3}", report.step, report.loss);
            }
        })?;

    let question = "Please write a paragraph of formal analysis for this painting.";
    let picture = format!("{sample}/images/test_0.jpg");
    let config = GenerationConfig::greedy(160);
    println!(
        "{}",
        finetuned.gallery().describe(&picture, question, &config)?
    );
    println!("adapter {}", finetuned.result().display());
    Ok(())
}
