//! The sample's test paintings: what the model writes about them before and after the training, and how much of it is true.

use std::path::{Path, PathBuf};

use anyhow::Context;
use gallery_gpt::{
    checkpoint::write_file,
    data::Batch,
    model::{CancelToken, GalleryModel},
    prelude::*,
    train::evaluate_loss,
};
use gallery_gpt_scenes::{Claims, Scene, TEST_SEED};
use serde_json::json;

use super::arguments::Arguments;
use crate::args::sample::{PICTURES, QUESTION, SAMPLE, TEST_RECORDS, TRAINING_RECORDS};

/// The sample's test paintings, with the scenes they were drawn from.
pub(crate) struct Test {
    scenes: Vec<Scene>,
    references: Vec<Vec<String>>,
    pub(crate) pictures: Vec<PathBuf>,
}

/// A model's texts about the test paintings, and figures of them.
pub(crate) struct Figures {
    texts: Vec<String>,
    loss: f64,
    claims: Claims,
}

/// Tokens of a text at most. The sample's analyses are shorter; a base that does not stop would be slow to compare.
const MAX_NEW_TOKENS: usize = 160;

pub(crate) fn sample_test_set(arguments: &Arguments) -> anyhow::Result<Option<Test>> {
    let is = |path: &Path, sample: &str| {
        let sample = Path::new(sample).canonicalize();
        sample.is_ok_and(|sample| path.canonicalize().is_ok_and(|path| path == sample))
    };
    // They say nothing about a training on other records.
    if !is(&arguments.images, SAMPLE) || !is(&arguments.data, TRAINING_RECORDS) {
        return Ok(None);
    }
    let files = TEST_RECORDS.map(PathBuf::from);
    let mut test = Test {
        scenes: Vec::new(),
        references: Vec::new(),
        pictures: Vec::new(),
    };
    for painting in TestSet::load(&files)?.paintings {
        let image = painting.image.context("a test record names its picture")?;
        test.scenes
            .push(Scene::sample(TEST_SEED, painting.index as u64));
        test.pictures.push(Path::new(PICTURES).join(image));
        test.references.push(painting.references);
    }
    Ok(Some(test))
}

/// Describes the paintings with a model, and measures how much is true.
pub(crate) fn examine(
    gallery: &GalleryGpt,
    test: &Test,
    cancel: &CancelToken,
) -> anyhow::Result<Figures> {
    let mut batch = Batch::default();
    let mut prompts = Vec::new();
    for (path, references) in test.pictures.iter().zip(&test.references) {
        let picture = gallery.processor().process_file(path)?;
        prompts.push(gallery.prompt(QUESTION, vec![picture.clone()])?);
        for reference in references {
            let row = gallery_gpt::text::encode_conversation(
                gallery.tokenizer(),
                &gallery.template().template(),
                &asked(gallery, reference),
            )?;
            batch.input_ids.push(row.input_ids);
            batch.labels.push(row.labels);
            batch.pictures.push(picture.clone());
            batch.ids.push(path.display().to_string());
        }
    }
    let model: &GalleryModel = gallery.model();
    let written = Generator::new(model, GenerationConfig::greedy(MAX_NEW_TOKENS))
        .with_cancel(cancel.clone())
        .generate(&prompts)?;
    let texts = written
        .iter()
        .map(|row| gallery.answer_with_regions(row).text);
    let texts: Vec<String> = texts.collect();
    let mut claims = Claims::default();
    for (text, scene) in texts.iter().zip(&test.scenes) {
        claims += Claims::of(text, scene);
    }
    Ok(Figures {
        texts,
        loss: evaluate_loss(model, &[batch])?,
        claims,
    })
}

/// The question about a painting, with an answer.
fn asked(gallery: &GalleryGpt, answer: &str) -> Conversation {
    let talk = Conversation::question(format!("{QUESTION}\n<image>")).answer(answer);
    let template = gallery.template().template();
    template.arrange_pictures(&talk).into_owned()
}

/// A fraction in percent, rounded to one decimal place.
fn percent(share: f64) -> f64 {
    (1000.0 * share).round() / 10.0
}

pub(crate) fn compare(
    test: &Test,
    before: &Figures,
    after: &Figures,
    run: &RunFolder,
) -> anyhow::Result<()> {
    let shown = 0;
    say!("\n{} {}", test.pictures[shown].display(), QUESTION);
    for (name, text) in [
        ("reference", &test.references[shown][0]),
        ("base", &before.texts[shown]),
        ("finetuned", &after.texts[shown]),
    ] {
        say!("\n{name:>10}  {text}");
    }
    say!(
        "\n{} test paintings   loss   colour and place words that are true   facts named",
        test.scenes.len()
    );
    let mut rows = Vec::new();
    for (name, figures) in [("base", before), ("finetuned", after)] {
        let precision = figures.claims.precision().unwrap_or(0.0);
        let recall = figures.claims.recall();
        say!(
            "{name:>17} {:>6.3} {:>37.1} % {:>11.1} %",
            figures.loss,
            100.0 * precision,
            100.0 * recall
        );
        rows.push(json!({
            "model": name, "loss": figures.loss, "true_claims_percent": percent(precision),
            "facts_named_percent": percent(recall), "true_claims": figures.claims.right,
            "false_claims": figures.claims.wrong, "facts_named": figures.claims.facts_named,
            "facts": figures.claims.facts, "texts": figures.texts,
        }));
    }
    let summary = format!("{:#}\n", json!(rows));
    write_file(&run.path().join("test.json"), summary.as_bytes())?;
    Ok(())
}
