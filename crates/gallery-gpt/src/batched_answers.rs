//! Answers to many questions, batch by batch.

use std::collections::VecDeque;

use crate::{
    GalleryError, GalleryGpt,
    model::{CancelToken, FinishReason, GenerationConfig, GenerationError, Prompt},
    text::{AnswerRegions, Region},
};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The text: up to its stop string, without special tokens, trimmed.
    pub text: String,
    /// What it points at in the picture, as answers of Qwen-VL-Chat may; their tags are not in the text.
    pub regions: Vec<Region>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// A question with its answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered<Q> {
    /// The question, as it was given.
    pub question: Q,
    /// Its answer, or why its picture cannot be used.
    pub answer: Result<Answer, GalleryError>,
}

/// The answers of [`GalleryGpt::answer_all`]: an iterator. Each batch is generated when it is asked for.
#[derive(Debug)]
pub struct BatchedAnswers<'a, I: Iterator, F> {
    gallery: &'a GalleryGpt,
    config: GenerationConfig,
    batch_size: usize,
    cancel: CancelToken,
    questions: I,
    prompt: F,
    /// The prompts of the next batch.
    asked: Vec<(I::Item, Prompt)>,
    /// What was answered and not yet returned.
    answered: VecDeque<Answered<I::Item>>,
    is_over: bool,
}

impl GalleryGpt {
    /// The answers to any number of questions, in batches of eight. `prompt` makes a question's prompt, for example with
    /// [`GalleryGpt::question_about`]; only the pictures of one batch are in memory.
    ///
    /// A question whose picture cannot be used has that error instead of an answer, before the answers of its batch; any
    /// other error ends the iterator. A prompt's answer does not depend on its batch; to sample independently, give each prompt
    /// a [`stream`](Prompt::stream) of its own.
    ///
    /// ```
    /// use gallery_gpt::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
    /// let gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    /// let pictures = ["datasets/painting-form-mini/images/test_0.jpg", "missing.jpg"];
    /// let answers = gallery.answer_all(pictures, &GenerationConfig::greedy(12), |picture| {
    ///     gallery.question_about(*picture, "Describe the painting.")
    /// });
    /// for answered in answers {
    ///     let answered = answered?;
    ///     match answered.answer {
    ///         Ok(answer) => println!("{}: {}", answered.question, answer.text),
    ///         Err(error) => println!("skipped: {error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn answer_all<I, F>(
        &self,
        questions: I,
        config: &GenerationConfig,
        prompt: F,
    ) -> BatchedAnswers<'_, I::IntoIter, F>
    where
        I: IntoIterator,
        F: FnMut(&I::Item) -> Result<Prompt, GalleryError>,
    {
        BatchedAnswers {
            gallery: self,
            config: config.clone(),
            batch_size: 8,
            cancel: CancelToken::new(),
            questions: questions.into_iter(),
            prompt,
            asked: Vec::new(),
            answered: VecDeque::new(),
            is_over: false,
        }
    }
}

impl<I, F> BatchedAnswers<'_, I, F>
where
    I: Iterator,
    F: FnMut(&I::Item) -> Result<Prompt, GalleryError>,
{
    /// Sets the number of questions per batch; at least one.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// Sets the token that cancels it. Unfinished answers are dropped, and [`GalleryError::Cancelled`] is the last item.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Makes the prompts of the next batch.
    fn fill(&mut self) -> Result<(), GalleryError> {
        for question in self.questions.by_ref().take(self.batch_size) {
            match (self.prompt)(&question) {
                Ok(prompt) => self.asked.push((question, prompt)),
                Err(error) if is_about_picture(&error) => self.answered.push_back(Answered {
                    question,
                    answer: Err(error),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers the prompts.
    fn generate(&mut self) -> Result<(), GalleryError> {
        let (questions, prompts): (Vec<I::Item>, Vec<Prompt>) = self.asked.drain(..).unzip();
        let generator = self.gallery.generator(&self.config);
        let generator = generator.with_cancel(self.cancel.clone());
        let written = match generator.generate(&prompts) {
            Err(GenerationError::Cancelled) => return Err(GalleryError::Cancelled),
            written => written?,
        };
        for (question, written) in questions.into_iter().zip(written) {
            if written.finish != FinishReason::Cancelled {
                let AnswerRegions { text, regions } = self.gallery.answer_with_regions(&written);
                let answer = Answer {
                    text,
                    regions,
                    finish: written.finish,
                };
                self.answered.push_back(Answered {
                    question,
                    answer: Ok(answer),
                });
            }
        }
        Ok(())
    }

    /// The next answer; `None` after the last.
    fn advance(&mut self) -> Result<Option<Answered<I::Item>>, GalleryError> {
        loop {
            if let Some(answered) = self.answered.pop_front() {
                return Ok(Some(answered));
            }
            if !self.asked.is_empty() {
                self.generate()?;
                continue;
            }
            if self.cancel.is_cancelled() {
                return Err(GalleryError::Cancelled);
            }
            self.fill()?;
            if self.asked.is_empty() && self.answered.is_empty() {
                return Ok(None);
            }
        }
    }
}

/// Whether an error is of a question's picture, and says nothing of other questions.
fn is_about_picture(error: &GalleryError) -> bool {
    matches!(
        error,
        GalleryError::Image(_) | GalleryError::PictureName(_) | GalleryError::NoPicture { .. }
    )
}

impl<I, F> Iterator for BatchedAnswers<'_, I, F>
where
    I: Iterator,
    F: FnMut(&I::Item) -> Result<Prompt, GalleryError>,
{
    type Item = Result<Answered<I::Item>, GalleryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.advance().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}
