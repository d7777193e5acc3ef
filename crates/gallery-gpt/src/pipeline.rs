//! A loaded model: from a checkpoint folder to texts about pictures.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    GalleryError, Picture, TextStream,
    checkpoint::{
        AdapterFile, AdapterOrigin, ChatSettings, Checkpoint, LoadOptions, LoadReport, TensorDtype,
        is_adapter_path, load_adapter, load_projector,
    },
    data::Batcher,
    model::{
        CancelToken, GalleryModel, Generation, GenerationConfig, GenerationError, Generator,
        ModelFamily, PictureCache, Prompt,
    },
    text::{
        AnswerRegions, Conversation, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, TemplateKind, Tokenizer,
        answer_regions,
    },
    vision::{ImageProcessor, PixelValues},
};
use burn::tensor::{Device, Tensor};

/// Models with at least this many parameters keep their stored dtype on a CPU: 7B in f32 would take
/// 28 GB.
const LARGE: u64 = 1_000_000_000;

/// A model with its tokenizer, image processor and template.
///
/// ```
/// use gallery_gpt::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
/// let gallery = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
/// let pictures = ["datasets/painting-form-mini/images/test_0.jpg"; 2];
/// let question = "Please write a paragraph of formal analysis for this painting.";
/// let texts = gallery.describe_many(pictures, question, &GenerationConfig::greedy(12))?;
/// assert_eq!(texts[0], gallery.describe(pictures[1], question, &GenerationConfig::greedy(12))?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct GalleryGpt {
    model: GalleryModel,
    tokenizer: Tokenizer,
    processor: ImageProcessor,
    template: TemplateKind,
    report: LoadReport,
    adapter: Option<AdapterFile>,
    adapter_path: Option<PathBuf>,
    pictures: Arc<PictureCache>,
    chat: Option<ChatSettings>,
}

impl GalleryGpt {
    /// Loads a model folder of any layout, with its tokenizer and the vision tower that its config
    /// names.
    ///
    /// # Errors
    /// A file is missing or damaged, or the parts do not fit.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self, GalleryError> {
        Self::load_with(folder, device, &LoadOptions::default())
    }

    /// As [`GalleryGpt::load`], with options. Without a dtype in the options, a GPU gets bf16; a
    /// CPU gets f32 for models of fewer than a billion parameters, which is exact and faster there,
    /// and the stored dtype for larger ones.
    ///
    /// # Errors
    /// As [`GalleryGpt::load`].
    pub fn load_with(
        folder: impl AsRef<Path>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<Self, GalleryError> {
        let folder = folder.as_ref();
        let span = tracing::info_span!("load", folder = %folder.display());
        let _entered = span.enter();
        let checkpoint = Checkpoint::open(folder, options)?;
        let tokenizer = Tokenizer::from_folder(folder)?;
        let dtype = match options.dtype {
            Some(dtype) => Some(dtype),
            None if !is_cpu(device) => Some(TensorDtype::BF16),
            None => (checkpoint.parameters() < LARGE).then_some(TensorDtype::F32),
        };
        let processor = checkpoint.image_processor().init();
        let chat = checkpoint.chat_settings().cloned();
        tokenizer.check_rows(checkpoint.config().llama.vocab_size)?;
        let (model, report) = checkpoint.with_dtype(dtype).load(device)?;
        let template = default_template(model.config().family);
        Ok(Self {
            model,
            tokenizer,
            processor,
            template,
            report,
            adapter: None,
            adapter_path: None,
            pictures: Arc::default(),
            chat,
        })
    }

    /// Loads an adapter, replacing an earlier one: a folder of PEFT or of the original, a file in
    /// it, the run folder that wrote it, or a projector that was trained alone (`mm_projector.bin`,
    /// or a folder with nothing else).
    ///
    /// # Errors
    /// The folder cannot be read or does not match the model.
    pub fn with_adapter(mut self, path: impl AsRef<Path>) -> Result<Self, GalleryError> {
        let path = path.as_ref();
        let options = LoadOptions::default();
        if is_adapter_path(path) {
            let (model, adapter) = load_adapter(self.model, path, &options)?;
            self.model = model;
            self.adapter = Some(adapter);
        } else {
            self.model = load_projector(self.model, path, &options)?;
        }
        self.adapter_path = Some(path.to_owned());
        Ok(self.without_kept_pictures())
    }

    /// The loaded adapter, if there is one.
    #[must_use]
    pub fn adapter_file(&self) -> Option<&AdapterFile> {
        self.adapter.as_ref()
    }

    /// The path of the adapter, or of the projector that was trained alone.
    #[must_use]
    pub fn adapter_path(&self) -> Option<&Path> {
        self.adapter_path.as_deref()
    }

    /// The report of loading the base model, tensor by tensor.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The origin to record with an adapter that is trained on this model.
    #[must_use]
    pub fn origin(&self) -> AdapterOrigin {
        AdapterOrigin {
            base_model: self.report.folder.display().to_string(),
            base_fingerprint: self.report.fingerprint.clone(),
            vision_tower: self.report.tower.named.clone(),
            template: Some(self.template.to_string()),
            image_aspect_ratio: Some(self.model.config().aspect_ratio.to_string()),
            image_size: Some(self.model.config().vision.image_size),
        }
    }

    /// Notes for the user, one sentence each: settings that the base's configs lack or that are not
    /// followed, and an adapter that was trained on another base, with another template or with
    /// other picture settings.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.report.notes.clone();
        notes.extend_from_slice(self.tokenizer.notes());
        let adapter = self.adapter.as_ref();
        if let Some(origin) = adapter.and_then(|adapter| adapter.origin.as_ref()) {
            notes.extend(origin.differences(&self.origin()));
        }
        notes
    }

    /// How the model answers unless told otherwise: as its own files say, which those of Qwen-VL-Chat do, or as LLaVA's `run_llava.py`.
    #[must_use]
    pub fn default_generation(&self) -> GenerationConfig {
        let of_files = self.chat.as_ref().map(|chat| chat.generation.clone());
        of_files.unwrap_or_else(GenerationConfig::run_llava)
    }

    /// Tokens of a conversation's prompt before its last question, above which the oldest turns are left out.
    fn window(&self) -> Option<usize> {
        self.chat.as_ref().map(|chat| chat.max_window_size)
    }

    /// Sets the conversation template. By default it is that of the model's family, as in its training: `vicuna_v1`, or `chatml` for
    /// Qwen-VL-Chat.
    #[must_use]
    pub fn with_template(mut self, template: TemplateKind) -> Self {
        self.template = template;
        self
    }

    /// The conversation template.
    #[must_use]
    pub fn template(&self) -> TemplateKind {
        self.template
    }

    /// The template's stop string, if answers do not end with the end-of-text token alone. The
    /// original's chat stops there; `run_llava.py` does not.
    #[must_use]
    pub fn stop_text(&self) -> Option<&'static str> {
        self.template.template().stop_text()
    }

    /// Replaces the model, for instance by one that was trained further.
    #[must_use]
    pub fn with_model(mut self, model: GalleryModel) -> Self {
        self.model = model;
        self.without_kept_pictures()
    }

    /// Forgets the features of pictures, which are those of another tower or projector.
    fn without_kept_pictures(mut self) -> Self {
        self.pictures = Arc::default();
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

    /// Sets whether the EXIF orientation of pictures is applied. Off by default, because the models
    /// were trained on pixels as they are stored.
    #[must_use]
    pub fn with_apply_orientation(mut self, apply: bool) -> Self {
        self.processor = self.processor.with_apply_orientation(apply);
        self
    }

    /// A batcher of records for training this model, with its tokenizer, template and image
    /// processor and the pictures under `image_folder`. Records of more than `model_max_length`
    /// tokens, or more than the model's context, are bad records.
    #[must_use]
    pub fn batcher(&self, image_folder: impl Into<PathBuf>, model_max_length: usize) -> Batcher {
        Batcher::new(
            self.tokenizer.clone(),
            self.template.template(),
            self.processor.clone(),
            image_folder,
            self.model.config().tokens_per_picture(),
            model_max_length,
        )
        .within_context(self.model.config().llama.max_position_embeddings)
    }

    /// The prompt of a question about pictures, for a [`Generator`].
    ///
    /// # Errors
    /// The tokenizer rejects the question.
    pub fn prompt(
        &self,
        question: &str,
        pictures: Vec<PixelValues>,
    ) -> Result<Prompt, GalleryError> {
        let template = self.template.template();
        let question = template.image_question(&Conversation::default(), question, pictures.len());
        self.continuation(&Conversation::question(question), pictures)
    }

    /// The prompt for the next answer of a conversation, whose turns contain an `<image>`
    /// placeholder for each picture. Qwen-VL-Chat's pictures are numbered, and the oldest turns of a
    /// conversation that does not fit its window are left out with their pictures
    /// ([`Template::encode`](crate::text::Template::encode)).
    ///
    /// # Errors
    /// The tokenizer rejects a turn, or the template does not belong to it.
    pub fn continuation(
        &self,
        conversation: &Conversation,
        pictures: Vec<PixelValues>,
    ) -> Result<Prompt, GalleryError> {
        let template = self.template.template();
        let conversation = template.number_pictures(conversation);
        let ids = template.encode(&self.tokenizer, &conversation, self.window())?;
        let turns = conversation.turns.iter();
        let placeholders: usize = turns
            .map(|turn| turn.text.matches(IMAGE_TOKEN).count())
            .sum();
        let kept = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
        let mut pictures = pictures;
        if placeholders == pictures.len() {
            // Those of turns that were left out.
            pictures.drain(..placeholders.saturating_sub(kept));
        }
        Ok(Prompt::with_pictures(ids, pictures))
    }

    /// The logits at every position of a prompt.
    ///
    /// # Shapes
    /// - output: `[1, seq, vocab]`, with pictures expanded
    ///
    /// # Errors
    /// The prompt's placeholders and pictures do not match, or an id is outside the vocabulary.
    pub fn logits(&self, prompt: &Prompt) -> Result<Tensor<3>, GalleryError> {
        let rows = std::slice::from_ref(&prompt.input_ids);
        let plan = self
            .model
            .plan(rows, &prompt.pictures)
            .map_err(GenerationError::from)?;
        let pixel_values = self.model.pixel_values(&prompt.pictures);
        Ok(self.model.forward(&plan, pixel_values))
    }

    /// The model's answer to a question about a picture: a file, its bytes, or pixels. Tags of regions, which Qwen-VL-Chat may write, are
    /// taken out ([`GalleryGpt::answer_with_regions`] keeps what they say).
    ///
    /// # Errors
    /// The picture cannot be read, or the prompt does not fit the context.
    pub fn describe<'a>(
        &self,
        picture: impl Into<Picture<'a>>,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<String, GalleryError> {
        let span = tracing::debug_span!("describe");
        let _entered = span.enter();
        let prompt = self.question_about(picture, question)?;
        let written = self.generator(config).generate(&[prompt])?;
        Ok(self.answer_with_regions(&written[0]).text)
    }

    /// The model's answers to a question about several pictures, generated as one batch: the same
    /// texts as one by one, but faster. All pictures are in memory at once, so pass some tens at
    /// most; [`GalleryGpt::answer_all`] takes any number.
    ///
    /// # Errors
    /// A picture cannot be read, or a prompt does not fit the context.
    pub fn describe_many<'a, P: Into<Picture<'a>>>(
        &self,
        pictures: impl IntoIterator<Item = P>,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<Vec<String>, GalleryError> {
        let span = tracing::debug_span!("describe");
        let _entered = span.enter();
        let pictures = pictures.into_iter();
        let prompts: Vec<Prompt> = pictures
            .map(|picture| self.question_about(picture, question))
            .collect::<Result<_, _>>()?;
        let written = self.generator(config).generate(&prompts)?;
        let texts = written.iter().map(|row| self.answer_with_regions(row).text);
        Ok(texts.collect())
    }

    /// The prompt of a question about a picture: a file, its bytes, or pixels.
    ///
    /// # Errors
    /// The picture cannot be read, or the tokenizer rejects the question.
    pub fn question_about<'a>(
        &self,
        picture: impl Into<Picture<'a>>,
        question: &str,
    ) -> Result<Prompt, GalleryError> {
        let picture = picture.into().process(&self.processor)?;
        self.prompt(question, vec![picture])
    }

    /// As [`GalleryGpt::describe`], calling `on_piece` with each piece of text as it is generated;
    /// `Break` ends the answer. Returns the text so far. Tags of regions, which a piece may end in the
    /// middle of, stay in it.
    ///
    /// # Errors
    /// The picture cannot be read, or the prompt does not fit the context.
    pub fn describe_with<'a>(
        &self,
        picture: impl Into<Picture<'a>>,
        question: &str,
        config: &GenerationConfig,
        mut on_piece: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, GalleryError> {
        let mut stream = self.stream(picture, question, config)?;
        for piece in &mut stream {
            if on_piece(&piece?).is_break() {
                break;
            }
        }
        Ok(stream.text().trim().to_owned())
    }

    /// A generator with this model, its tokenizer for stop strings, and the features of the pictures asked about last.
    #[must_use]
    pub fn generator(&self, config: &GenerationConfig) -> Generator<'_> {
        Generator::new(&self.model, config.clone())
            .with_tokenizer(&self.tokenizer)
            .with_picture_cache(&self.pictures)
    }

    /// As [`GalleryGpt::describe_with`], as a stream of pieces of text.
    ///
    /// # Errors
    /// The picture cannot be read, or the prompt does not fit the context.
    pub fn stream<'a>(
        &self,
        picture: impl Into<Picture<'a>>,
        question: &str,
        config: &GenerationConfig,
    ) -> Result<TextStream<'_>, GalleryError> {
        let prompt = self.question_about(picture, question)?;
        self.stream_prompt(prompt, config)
    }

    /// The model's answer to a prompt, as a stream of pieces of text.
    ///
    /// # Errors
    /// The prompt does not fit the context.
    pub fn stream_prompt(
        &self,
        prompt: Prompt,
        config: &GenerationConfig,
    ) -> Result<TextStream<'_>, GalleryError> {
        self.stream_until(prompt, config, CancelToken::new())
    }

    /// As [`GalleryGpt::stream_prompt`], with a token that cancels it from another thread. (On its
    /// own thread a stream is cancelled by dropping it.)
    ///
    /// # Errors
    /// The prompt does not fit the context, or the stream was cancelled during its prefill.
    pub fn stream_until(
        &self,
        prompt: Prompt,
        config: &GenerationConfig,
        cancel: CancelToken,
    ) -> Result<TextStream<'_>, GalleryError> {
        let generator = self.generator(config).with_cancel(cancel);
        let decoding = generator.start(&[prompt])?;
        Ok(TextStream::new(decoding, &self.tokenizer))
    }

    /// The text of an answer: up to its stop string, trimmed. Special tokens are left out, but for the tags of regions in answers of
    /// Qwen-VL-Chat ([`answer_regions`](crate::text::answer_regions) takes them out).
    #[must_use]
    pub fn answer(&self, generation: &Generation) -> String {
        generation.text(&self.tokenizer)
    }

    /// The answer's text, and what it points at in the picture. Answers of LLaVA are not read for tags of regions.
    #[must_use]
    pub fn answer_with_regions(&self, generation: &Generation) -> AnswerRegions {
        let text = self.answer(generation);
        match self.model.config().family {
            ModelFamily::QwenVl => answer_regions(&text),
            _ => AnswerRegions {
                text,
                regions: Vec::new(),
            },
        }
    }

    /// The text of generated ids, as [`GalleryGpt::answer`] has it.
    #[must_use]
    pub fn text_of(&self, ids: &[u32]) -> String {
        self.tokenizer.decode_answer(ids).trim().to_owned()
    }
}

/// The template that the models of a family were trained with.
#[must_use]
pub fn default_template(family: ModelFamily) -> TemplateKind {
    match family {
        ModelFamily::QwenVl => TemplateKind::ChatMl,
        _ => TemplateKind::default(),
    }
}

pub(crate) fn is_cpu(device: &Device) -> bool {
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
