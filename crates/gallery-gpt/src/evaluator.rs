//! Generates a model's texts about a test set.

use std::path::PathBuf;

use crate::{
    GalleryError, GalleryGpt,
    data::{PictureFolder, TestPainting},
    eval::{Predictions, PredictionsFile, painting_name},
    model::{CancelToken, FinishReason, GenerationConfig, GenerationError},
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
        let mut done = 0;
        for batch in missing.chunks(self.batch_size) {
            let mut prompts = Vec::with_capacity(batch.len());
            for painting in batch {
                let image = painting.image.as_ref().ok_or(GalleryError::NoPicture {
                    index: painting.index,
                })?;
                let picture = self
                    .gallery
                    .processor()
                    .process_file(self.images.find(image)?)?;
                let mut prompt = self.gallery.prompt(&self.question, vec![picture])?;
                // Random numbers of its own, independent of the batch.
                prompt.stream = painting.index as u64;
                prompts.push(prompt);
            }
            let generator = self.gallery.generator(&self.generation);
            let generator = generator.with_cancel(self.cancel.clone());
            let written = match generator.generate(&prompts) {
                Err(GenerationError::Cancelled) => return Err(GalleryError::Cancelled),
                written => written?,
            };
            for (painting, written) in batch.iter().zip(written) {
                if written.finish == FinishReason::Cancelled {
                    continue;
                }
                let text = self.gallery.answer(&written);
                file.push(&painting_name(painting), &text)?;
            }
            if self.cancel.is_cancelled() {
                return Err(GalleryError::Cancelled);
            }
            done += batch.len();
            observe(done, missing.len());
        }
        Ok(file.done().clone())
    }
}
