//! Captions of the same sample paintings in the course of a training.

use burn::module::Module;
use gallery_gpt_model::{GalleryModel, GenerationConfig, Generator, Prompt};
use gallery_gpt_text::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A painting that is captioned in the course of a training.
#[derive(Clone, Debug)]
pub struct SamplePainting {
    /// Its name on the page.
    pub name: String,
    /// URL of its picture; a `data:` URI keeps the page self-contained.
    pub picture: String,
    /// The prompt.
    pub prompt: Prompt,
}

/// Paintings to caption, and how.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The paintings.
    pub paintings: Vec<SamplePainting>,
    /// Decodes the generated ids.
    pub tokenizer: Tokenizer,
    /// Settings of the generation; greedy, so that captions differ only by the model.
    pub generation: GenerationConfig,
}

/// The captions at some step of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleLine {
    /// Steps done by then.
    pub step: usize,
    /// A caption for each painting.
    pub texts: Vec<String>,
}

impl Samples {
    /// Captions the paintings with a model.
    pub(crate) fn write(
        &self,
        model: &GalleryModel,
        step: usize,
    ) -> Result<SampleLine, TrainError> {
        let model = model.valid();
        let generator = Generator::new(&model, self.generation.clone());
        let prompts: Vec<Prompt> = self
            .paintings
            .iter()
            .map(|painting| painting.prompt.clone())
            .collect();
        let written = generator.generate(&prompts)?;
        let texts = written.iter().map(|row| row.text(&self.tokenizer));
        Ok(SampleLine {
            step,
            texts: texts.collect(),
        })
    }
}
