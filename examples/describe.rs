//! Describes a picture in memory: the bytes of a file, or pixels of the `image` crate.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{image::RgbImage, prelude::*};

fn main() -> anyhow::Result<()> {
    let gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    for note in gallery.notes() {
        println!("note: {note}");
    }
    let question = "Please write a paragraph of formal analysis for this painting.";
    let config = GenerationConfig::greedy(40);

    let bytes = std::fs::read("datasets/painting-form-mini/images/test_0.jpg")?;
    println!("{}", gallery.describe(&bytes[..], question, &config)?);

    let grey = RgbImage::from_pixel(64, 48, [128, 128, 128].into());
    println!("{}", gallery.describe(&grey, question, &config)?);
    Ok(())
}
