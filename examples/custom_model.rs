//! A model of one's own size, from random weights: one training step of all its parts.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{
    data::Batch,
    prelude::*,
    text::IMAGE_TOKEN_INDEX,
    train::{TrainState, TrainableParts},
    vision::PixelValues,
};

fn main() -> anyhow::Result<()> {
    let mut config = GalleryModelConfig::tiny();
    config.llama.num_hidden_layers = 3;
    config.vision.hidden_size = 48;
    config.validate()?;
    let model = config.init(&Device::flex());
    println!("{} tokens per picture", config.tokens_per_picture());

    let size = config.vision.image_size;
    let batch = Batch {
        input_ids: vec![vec![1, IMAGE_TOKEN_INDEX, 7, 8, 9, 2]],
        labels: vec![vec![-100, -100, -100, 8, 9, 2]],
        pictures: vec![PixelValues::from_values(vec![0.5; 3 * size * size], size)],
        ..Batch::default()
    };
    let training = TrainingConfig {
        parts: TrainableParts::FULL,
        ..TrainingConfig::lora(1e-3)
    };
    let mut state = TrainState::new(model, &training, 3)?;
    println!("{} trainable parameters", state.groups().parameters);
    for _ in 0..3 {
        let report = state.step(std::slice::from_ref(&batch))?;
        println!("step {}: loss {:.3}", report.step, report.loss);
    }
    Ok(())
}
