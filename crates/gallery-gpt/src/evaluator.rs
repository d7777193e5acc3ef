//! Generates a model's texts about a test set.

use std::path::PathBuf;

use crate::{
    GalleryError, GalleryGpt,
    data::{PictureFolder, TestPainting},
    eval::{Predictions, PredictionsFile, painting_name},
    model::{CancelToken, GenerationConfig},
};

/// Asks a model the same question about every painting of a test set.
///
/// Each text is appended to a [`PredictionsFile`], so that an interrupted run can resume;
/// [`crate::eval::SystemScores`] scores them.
///
/// ```
/// use gallery_gpt::{Evaluator, eval::{OnUnscorable, PredictionsFile, Score, Scorer, SystemScores}, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let datasets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
/// # std::env::set_current_dir(datasets)?;
/// # let runs = tempfile::tempdir()?;
/// let gallery = GalleryGpt::load("tiny-base", &Device::flex())?;
/// let test = TestSet::load(&["painting-form-mini/formalanalysis_test_gpt.json".into()])?;
/// let paintings = &test.paintings[..2];
///
/// let mut file = PredictionsFile::resume(runs.path().join("base.jsonl"))?;
/// let predictions = Evaluator::new(&gallery, "painting-form-mini/images")
///     .with_question("Describe the painting.")
///     .with_generation(GenerationConfig::greedy(20))
///     .predict(paintings, &mut file, |done, total| println!("{done} of {total}"))?;
///
/// let scorer = Scorer::paper(None);
/// let scores = SystemScores::new("base", &predictions, paintings, &scorer, OnUnscorable::Fail)?;
/// let bleu = scores.interval(Score::Bleu, &scorer, 100, 42);
/// assert!(bleu.low <= bleu.score && bleu.score <= bleu.high);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Evaluator<'a> {
    gallery: &'a GalleryGpt,
    images: PictureFolder,
    question: String,
    generation: GenerationConfig,
    batch_size: usize,
    cancel: CancelToken,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of the pictures in a folder, with PaintingForm's plainest question, greedy
    /// decoding of up to 512 tokens, and batches of eight paintings.
    #[must_use]
    pub fn new(gallery: &'a GalleryGpt, images: impl Into<PathBuf>) -> Self {
        Self {
            gallery,
            images: PictureFolder::new(images),
            question: "Please write a paragraph of formal analysis for this painting.".to_owned(),
            generation: GenerationConfig::greedy(512),
            batch_size: 8,
            cancel: CancelToken::new(),
        }
    }

    /// Sets the question.
    #[must_use]
    pub fn with_question(mut self, question: impl Into<String>) -> Self {
        self.question = question.into();
        self
    }

    /// Sets the settings of generation.
    #[must_use]
    pub fn with_generation(mut self, generation: GenerationConfig) -> Self {
        self.generation = generation;
        self
    }

    /// Sets the number of paintings per batch; at least one.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// Sets the token that cancels it; unfinished answers are dropped.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Asks about every painting that has no text in `file` yet, and returns all its texts. After
    /// every batch `observe` is called with the number of paintings done and their total.
    ///
    /// # Errors
    /// A painting names no picture, a picture cannot be read, the file cannot be written, or it was
    /// cancelled.
    pub fn predict(
        &self,
        paintings: &[TestPainting],
        file: &mut PredictionsFile,
        mut observe: impl FnMut(usize, usize),
    ) -> Result<Predictions, GalleryError> {
        let missing: Vec<&TestPainting> = paintings
            .iter()
            .filter(|painting| !file.has(&painting_name(painting)))
            .collect();
        let prompt = |painting: &&TestPainting| {
            let index = painting.index;
            let image = painting.image.as_ref();
            let image = image.ok_or(GalleryError::NoPicture { index })?;
            let picture = self.images.find(image)?;
            let mut prompt = self.gallery.question_about(&picture, &self.question)?;
            // Random numbers of its own, independent of the batch.
            prompt.stream = index as u64;
            Ok(prompt)
        };
        let total = missing.len();
        let answers = self
            .gallery
            .answer_all(missing, &self.generation, prompt)
            .with_batch_size(self.batch_size)
            .with_cancel(self.cancel.clone());
        for (answered, done) in answers.zip(1..) {
            let answered = answered?;
            file.push(&painting_name(answered.question), &answered.answer?.text)?;
            if done == total || done % self.batch_size == 0 {
                observe(done, total);
            }
        }
        Ok(file.done().clone())
    }
}
