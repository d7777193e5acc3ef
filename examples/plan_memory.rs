//! What a finetuning of the 7B model needs on a GPU, from configs alone: no weight is read.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{
    data::RecordSize,
    prelude::*,
    train::{AttentionMemory, PlannedModel},
};

fn main() -> anyhow::Result<()> {
    let config = GalleryModelConfig::gallery_gpt_7b();
    let lora = LoraConfig::gallery_gpt();
    // The original's 16 records of a step, four at a time.
    let training = TrainingConfig {
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 4,
        ..TrainingConfig::gallery_gpt()
    };
    let trainer = Trainer::new(training.on_gpu())?;
    let model = PlannedModel {
        config: &config,
        lora: Some(&lora),
        bytes: 2,
        attention: AttentionMemory::Fused,
        threads: 1,
    };
    // `Batcher::check` has the sizes of real records.
    let record = RecordSize {
        tokens: config.tokens_per_picture() + 320,
        supervised: 250,
        pictures: 1,
        words: 200,
    };
    let records = vec![record; 1000];
    println!("{}", trainer.plan(&model, &records));
    match trainer.least_recompute(&model, &records, 24_000_000_000) {
        Some(blocks) => println!("24 GB are enough if {blocks} blocks are recomputed"),
        None => println!("24 GB are not enough, even if all blocks are recomputed"),
    }
    Ok(())
}
