//! Describes a folder of pictures in batches, and goes on after pictures that cannot be read.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{prelude::*, vision::list_pictures};

fn main() -> anyhow::Result<()> {
    let gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    let question = "Please write a paragraph of formal analysis for this painting.";
    let config = GenerationConfig::greedy(40);

    let listing = list_pictures("datasets/painting-form-mini/images")?;
    for left_out in &listing.left_out {
        println!("left out: {left_out}");
    }
    for pictures in listing.pictures[..8].chunks(4) {
        let mut prompts = Vec::new();
        let mut names = Vec::new();
        for picture in pictures {
            match gallery.processor().process_file(picture) {
                Ok(pixels) => {
                    prompts.push(gallery.prompt(question, vec![pixels])?);
                    names.push(picture);
                }
                Err(error) => println!("left out: {error}"),
            }
        }
        let answers = gallery.generator(&config).generate(&prompts)?;
        for (name, answer) in names.iter().zip(&answers) {
            println!("{}: {}", name.display(), gallery.answer(answer));
        }
    }
    Ok(())
}
