//! A training loop of one's own: batches, steps and the saved adapter, without a run folder.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{
    checkpoint::Destination,
    data::{Order, Sampler},
    prelude::*,
    train::TrainState,
};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or("runs/own-loop".into());
    let base = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    let sample = "datasets/painting-form-mini";
    let set = PaintingForm::load(format!("{sample}/train_samples_tuning.json"))?;
    let batcher = base.batcher(sample, 2048);

    let lengths = set.records.iter().map(Record::length).collect();
    let sampler = Sampler::new(lengths, Order::GroupByLength, 16, 42);
    let steps = 4;
    let model = base.model().clone().apply_lora(&LoraConfig::new(16, 32.0));
    let mut state = TrainState::new(model, &TrainingConfig::lora(4e-3), steps)?;
    for rows in sampler.epoch(0).iter().take(steps) {
        let records: Vec<&Record> = rows.iter().map(|&row| &set.records[row]).collect();
        let report = state.step(&[batcher.batch(&records)?])?;
        println!(
            "step {}: loss {:.3}, gradient norm {:.2}, learning rate {:.1e}",
            report.step, report.loss, report.grad_norm, report.learning_rate
        );
    }
    let model = state.into_model();
    let adapter = Destination::new(&folder);
    save_adapter(&model, &base.origin(), adapter, AdapterLayout::Peft)?;
    println!("adapter {folder}");
    Ok(())
}
