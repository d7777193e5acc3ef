//! From a checkpoint folder to texts about pictures.

use std::path::Path;

use burn::tensor::Device;
use image::RgbImage;

use crate::{
    GalleryError,
    checkpoint::{LoadOptions, TensorDtype, load_adapter, load_model},
    model::{Decoding, GalleryModel, GenerationConfig, Generator, Prompt},
    text::{Conversation, TemplateKind, Tokenizer, encode_prompt, image_question},
    vision::{ImageProcessor, ImageProcessorConfig, PixelValues},
};

/// A model with its tokenizer, image processor and template.
#[derive(Debug)]
pub struct GalleryGpt {
    model: GalleryModel,
    tokenizer: Tokenizer,
    processor: ImageProcessor,
    template: TemplateKind,
}

impl GalleryGpt {
    /// Loads a llava-hf folder with its tokenizer: weights in f32 on a CPU, as stored elsewhere.
    ///
    /// # Errors
    /// A file is missing or damaged, or the parts do not fit.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self, GalleryError> {
        let options = LoadOptions {
            dtype: is_cpu(device).then_some(TensorDtype::F32),
            ..LoadOptions::default()
        };
        Self::load_with(folder, device, &options)
    }

    /// As [`GalleryGpt::load`], with options.
    ///
    /// # Errors
    /// As [`GalleryGpt::load`].
    pub fn load_with(
        folder: impl AsRef<Path>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<Self, GalleryError> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_folder(folder)?;
        let (model, _) = load_model(folder, device, options)?;
        let expected = model.config().vision.image_size;
        let path = folder.join("preprocessor_config.json");
        let config = if path.is_file() {
            ImageProcessorConfig::from_file(&path)?
        } else {
            ImageProcessorConfig::new(expected)
        };
        if config.image_size != expected {
            return Err(GalleryError::ImageSize {
                path,
                found: config.image_size,
                expected,
            });
        }
        let processor = config.with_aspect_ratio(model.config().aspect_ratio).init();
        Ok(Self {
            model,
            tokenizer,
            processor,
            template: TemplateKind::default(),
        })
    }

    /// Puts the adapter of a PEFT folder on the model, in place of an earlier one.
    ///
    /// # Errors
    /// The folder cannot be read or does not match the model.
    pub fn adapter(mut self, folder: impl AsRef<Path>) -> Result<Self, GalleryError> {
        let (model, _) = load_adapter(self.model, folder, &LoadOptions::default())?;
        self.model = model;
        Ok(self)
    }

    /// Sets the conversation template; `vicuna_v1` by default, which training uses too.
    #[must_use]
    pub fn template(mut self, template: TemplateKind) -> Self {
        self.template = template;
        self
    }

    /// Puts another model in place, one that was trained further for instance.
    #[must_use]
    pub fn with_model(mut self, model: GalleryModel) -> Self {
        self.model = model;
        self
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &GalleryModel {
        &self.model
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The image processor.
    #[must_use]
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// The prompt of a question about some pictures, ready for a [`Generator`].
    ///
    /// # Errors
    /// The tokenizer refuses the question.
    pub fn prompt(
        &self,
        question: &str,
        pictures: Vec<PixelValues>,
    ) -> Result<Prompt, GalleryError> {
        let question = image_question(question, pictures.len());
        let text = self
            .template
            .template()
            .prompt(&Conversation::question(question));
        Ok(Prompt::with_pictures(
            encode_prompt(&self.tokenizer, &text)?,
            pictures,
        ))
    }

    /// What the model says about a picture file.
    ///
    /// # Errors
    /// The picture cannot be read, or the prompt does not fit the context.
    pub fn describe(
        &self,
        picture: impl AsRef<Path>,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<String, GalleryError> {
        let picture = self.processor.open(picture)?;
        self.describe_image(&picture, question, config)
    }

    /// As [`GalleryGpt::describe`], of a picture in memory.
    ///
    /// # Errors
    /// The prompt does not fit the context.
    pub fn describe_image(
        &self,
        picture: &RgbImage,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<String, GalleryError> {
        let prompt = self.prompt(question, vec![self.processor.process(picture)])?;
        let written = Generator::new(&self.model, config.clone()).generate(&[prompt])?;
        Ok(self.text_of(&written[0].ids))
    }

    /// What the model says about a picture, piece by piece as it is written.
    ///
    /// # Errors
    /// The prompt does not fit the context.
    pub fn stream(
        &self,
        picture: &RgbImage,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<TextStream<'_>, GalleryError> {
        let prompt = self.prompt(question, vec![self.processor.process(picture)])?;
        let decoding = Generator::new(&self.model, config.clone()).start(&[prompt])?;
        Ok(TextStream {
            tokenizer: &self.tokenizer,
            decoding,
            ids: Vec::new(),
            shown: String::new(),
            done: false,
        })
    }

    /// The text of written ids, as an answer: special tokens skipped, blanks at the ends removed.
    #[must_use]
    pub fn text_of(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).trim().to_owned()
    }
}

fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    {
        device.clone().inner() == Device::flex()
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Pieces of an answer. A piece never ends inside a character; together the pieces are the whole answer.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    decoding: Decoding<'a>,
    ids: Vec<u32>,
    shown: String,
    done: bool,
}

impl TextStream<'_> {
    /// What is new in the text of all ids, once its last character is whole.
    fn news(&mut self, last: bool) -> Option<String> {
        let text = self.tokenizer.decode(&self.ids, true);
        if !last && text.ends_with(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let news = text.strip_prefix(&self.shown)?.to_owned();
        self.shown = text;
        (!news.is_empty()).then_some(news)
    }
}

impl Iterator for TextStream<'_> {
    type Item = Result<String, GalleryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.decoding.step() {
                Err(error) => {
                    self.done = true;
                    return Some(Err(error.into()));
                }
                Ok(None) => {
                    self.done = true;
                    return self.news(true).map(Ok);
                }
                Ok(Some(written)) => {
                    let Some(id) = written.first().copied().flatten() else {
                        continue;
                    };
                    self.ids.push(id);
                    if let Some(news) = self.news(false) {
                        return Some(Ok(news));
                    }
                }
            }
        }
        None
    }
}
