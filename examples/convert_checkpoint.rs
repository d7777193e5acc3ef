//! Writes a checkpoint in another layout and dtype: from llava-hf's names to the original's, in f16.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{
    checkpoint::{Layout, SaveOptions, save_model},
    prelude::*,
};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or("runs/converted".into());
    let base = "datasets/tiny-base";
    let (model, report) = load_model(base, &Device::flex(), &LoadOptions::default())?;
    println!("{report}");
    let options = SaveOptions {
        layout: Layout::Llava,
        dtype: Some(TensorDtype::F16),
        companions: Some(base.into()),
        ..SaveOptions::default()
    };
    save_model(&model, &folder, &options)?;
    let converted = GalleryGpt::load(&folder, &Device::flex())?;
    println!("{}", converted.report());
    Ok(())
}
