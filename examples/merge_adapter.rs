//! Merges a LoRA adapter into its base, and saves a model that needs no adapter.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{
    checkpoint::{SaveOptions, save_model},
    prelude::*,
};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let adapter = arguments.next().unwrap_or("runs/finetune-1/adapter".into());
    let folder = arguments.next().unwrap_or("runs/merged".into());
    let base = "datasets/tiny-base";
    let gallery = GalleryGpt::load(base, &Device::flex())?.with_adapter(adapter)?;
    for note in gallery.notes() {
        println!("note: {note}");
    }
    let options = SaveOptions {
        // Tokenizer and configs come along.
        companions: Some(base.into()),
        ..SaveOptions::default()
    };
    save_model(&gallery.model().clone().merge_lora(), &folder, &options)?;

    let question = "Please write a paragraph of formal analysis for this painting.";
    let picture = "datasets/painting-form-mini/images/test_0.jpg";
    let merged = GalleryGpt::load(&folder, &Device::flex())?;
    println!(
        "{}",
        merged.describe(picture, question, &GenerationConfig::greedy(40))?
    );
    Ok(())
}
