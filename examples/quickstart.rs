//! The README's program: finetunes in two sittings, then asks the result about a painting.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::prelude::*;

fn finetune(steps: usize) -> Result<Finetune, Box<dyn std::error::Error>> {
    let training = TrainingConfig {
        max_steps: Some(steps),
        num_train_epochs: 8.0,
        ..TrainingConfig::lora(4e-3)
    };
    let base = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    let sample = "datasets/painting-form-mini";
    let records = format!("{sample}/train_samples_tuning.json");
    Ok(base
        .finetune(LoraConfig::new(16, 32.0), training)
        .records(records, sample)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or("runs/quickstart".into());
    let show = |event: &TrainEvent| {
        if let TrainEvent::Step { report, .. } = event {
            println!("step {}: loss {:.3}", report.step, report.loss);
        }
    };
    finetune(20)?.run(&folder, show)?;
    // Any time later: from the run's newest checkpoint on to step 40.
    let finetuned = finetune(40)?.resume(&folder)?.train(show)?;

    let question = "Please write a paragraph of formal analysis for this painting.";
    let picture = "datasets/painting-form-mini/images/test_0.jpg";
    let config = GenerationConfig::greedy(160);
    let analysis = finetuned.gallery().describe(picture, question, &config)?;
    println!("{analysis}");
    Ok(())
}
