//! Texts that show how a training goes: the same paintings, asked about again and again.

use burn::module::Module;
use gallery_gpt_model::{GalleryModel, GenerationConfig, Generator, Prompt};
use gallery_gpt_text::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A painting that is asked about as the training goes on.
#[derive(Clone, Debug)]
pub struct SamplePainting {
    /// What it is called on the page.
    pub name: String,
    /// Address of its picture, a `data:` URI for a page that stands alone.
    pub picture: String,
    /// What the model is asked.
    pub prompt: Prompt,
}

/// Paintings to ask about, and how.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The paintings.
    pub paintings: Vec<SamplePainting>,
    /// Turns ids into words.
    pub tokenizer: Tokenizer,
    /// How texts are written; greedily, so that they show the model and not the dice.
    pub generation: GenerationConfig,
}

/// What was written at some point of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleLine {
    /// Steps done by then.
    pub step: usize,
    /// A text for each painting.
    pub texts: Vec<String>,
}

impl Samples {
    /// What a model writes now.
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
