//! Describes a painting, as the text is written.
//!
//! ```sh
//! cargo run --release --example caption
//! cargo run --release --example caption -- painting.jpg runs/example/adapter
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use std::io::Write;

use gallery_gpt::prelude::*;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sample = "datasets/painting-form-mini/images/test_0.jpg".to_owned();
    let picture = arguments.next().unwrap_or(sample);

    let mut gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    if let Some(adapter) = arguments.next() {
        gallery = gallery.adapter(adapter)?;
    }
    let question = "Please write a paragraph of formal analysis for this painting.";
    let config = GenerationConfig::greedy(160);
    for piece in gallery.stream(picture.as_str(), question, &config)? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
