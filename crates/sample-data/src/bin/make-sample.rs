//! Draws the sample data set `datasets/painting-form-mini`: pictures in the manner of paintings, each with a formal analysis
//! that is true of it, in PaintingForm's own schemas. The same seed gives the same files.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use gallery_gpt::checkpoint::{AtomicFolder, Destination, write_file};
use gallery_gpt_scenes::{
    QUESTIONS, Scene, TEST_SEED, TRAIN_SEED, analysis, colour_answer, light_answer, paint,
    place_answer,
};
use image::codecs::jpeg::JpegEncoder;
use serde_json::{Value, json};

/// Draws the sample data set.
#[derive(Parser)]
#[command(rename_all = "snake_case", args_override_self = true)]
struct Arguments {
    /// Folder to write.
    #[arg(long, default_value = "datasets/painting-form-mini")]
    output_dir: PathBuf,
    /// Replaces the folder as a whole, whatever it holds.
    #[arg(long)]
    overwrite: bool,
    /// Records to train on.
    #[arg(long, default_value_t = 400)]
    train: usize,
    /// Paintings to test on, two references each.
    #[arg(long, default_value_t = 60)]
    test: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.train > 0 && arguments.test > 0,
        "`train` and `test` have to be at least 1"
    );
    run(&arguments)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = Destination::new(&arguments.output_dir).overwriting(arguments.overwrite);
    let folder = AtomicFolder::new(folder)?;
    let pictures = folder.folder("images")?;
    let mut records = Vec::new();
    for number in 0..arguments.train {
        let scene = Scene::sample(TRAIN_SEED, number as u64);
        let name = format!("{number}.jpg");
        draw(&scene, &pictures.join(&name))?;
        records.push(json!({
            "id": format!("identity_{number}"),
            "image": format!("images/{name}"),
            "conversations": conversation(&scene, number),
        }));
    }
    let mut references = [Vec::new(), Vec::new()];
    for number in 0..arguments.test {
        let scene = Scene::sample(TEST_SEED, number as u64);
        let name = format!("test_{number}.jpg");
        draw(&scene, &pictures.join(&name))?;
        for (voice, references) in references.iter_mut().enumerate() {
            let text = analysis(&scene, voice as u64 + 10);
            references.push(json!({ "image": name, "formal_analysis": text }));
        }
    }
    let [gpt, gemini] = references;
    for (name, list) in [
        ("train_samples_tuning.json", records),
        ("formalanalysis_test_gpt.json", gpt),
        ("formalanalysis_test_gemini.json", gemini),
    ] {
        let text = format!("{:#}\n", Value::Array(list));
        write_file(&folder.file(name), text.as_bytes())?;
    }
    Ok(folder.commit()?)
}

fn draw(scene: &Scene, path: &Path) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 84)
        .encode_image(&paint(scene))
        .with_context(|| format!("cannot encode {}", path.display()))?;
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// One to four questions; the picture's placeholder at the end of the first, as in PaintingForm.
fn conversation(scene: &Scene, number: usize) -> Vec<Value> {
    let turn = |from: &str, value: String| json!({ "from": from, "value": value });
    let question = QUESTIONS[number % QUESTIONS.len()];
    let mut turns = vec![
        turn("human", format!("{question}\n<image>")),
        turn("gpt", analysis(scene, 0)),
    ];
    let more = [
        ("Analyze the use of color.", colour_answer(scene)),
        ("Where are the main masses?", place_answer(scene)),
        ("Describe the light.", light_answer(scene)),
    ];
    for (question, answer) in more.into_iter().take(number % 4) {
        turns.push(turn("human", question.to_owned()));
        turns.push(turn("gpt", answer));
    }
    turns
}
