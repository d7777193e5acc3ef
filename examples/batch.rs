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
    let answers = gallery.answer_all(&listing.pictures[..8], &config, |picture| {
        gallery.question_about(*picture, question)
    });
    for answered in answers.with_batch_size(4) {
        let answered = answered?;
        match answered.answer {
            Ok(answer) => println!("{}: {}", answered.question.display(), answer.text),
            Err(error) => println!("left out: {error}"),
        }
    }
    Ok(())
}
