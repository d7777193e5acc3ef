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

    let base = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    let set = PaintingForm::load("datasets/painting-form-mini/train_samples_tuning.json")?;
    for bad in &set.bad {
        println!("left out: {bad}");
    }
    let batcher = base.batcher("datasets/painting-form-mini", 2048);
    let config = TrainingConfig {
        max_steps: Some(arguments.max_steps),
        num_train_epochs: 8.0,
        per_device_train_batch_size: 16,
        order: Order::GroupByLength,
        ..TrainingConfig::lora(4e-3)
    };
    let mut run = RunFolder::create(&arguments.output_dir)?;
    let model = Trainer::new(config)?.with_origin(base.origin()).train(
        base.model().clone().apply_lora(&LoraConfig::new(16, 32.0)),
        &set.records,
        &batcher,
        &mut run,
        |event| {
            if let TrainEvent::Step { report, .. } = event {
                println!("step {}: loss {:.3}", report.step, report.loss);
            }
        },
    )?;

    let tuned = base.with_model(model);
    let question = "Please write a paragraph of formal analysis for this painting.";
    let picture = "datasets/painting-form-mini/images/test_0.jpg";
    println!(
        "{}",
        tuned.describe(picture, question, &GenerationConfig::greedy(160))?
    );
    println!("adapter {}", run.adapter().display());
    Ok(())
}
