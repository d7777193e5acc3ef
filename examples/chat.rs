//! Talks about a picture in two turns: each prompt has the whole conversation.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{prelude::*, text::image_question};

fn main() -> anyhow::Result<()> {
    let gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    let picture = "datasets/painting-form-mini/images/test_0.jpg";
    let pixels = gallery.processor().process_file(picture)?;
    let config = GenerationConfig::greedy(40);

    let questions = [
        "Please write a paragraph of formal analysis for this painting.",
        "Write a logically connected paragraph of formal analysis, limited to the visual features of this painting.",
    ];
    // One placeholder for the one picture, in the first turn.
    let mut talk = Conversation::question(image_question(questions[0], 1));
    for (turn, question) in questions.iter().enumerate() {
        if turn > 0 {
            talk = talk.ask(*question);
        }
        let prompt = gallery.continuation(&talk, vec![pixels.clone()])?;
        let answer = gallery.generator(&config).generate(&[prompt])?.remove(0);
        let text = gallery.answer(&answer);
        println!("{question}\n{text}\n({:?})\n", answer.finish);
        talk = talk.answer(text);
    }
    Ok(())
}
