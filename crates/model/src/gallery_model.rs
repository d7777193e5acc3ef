//! The model: vision tower, projector and decoder.

use std::borrow::Borrow;

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor},
};
use gallery_gpt_llama::{LlamaModel, LoraConfig, int_tensor};
use gallery_gpt_projector::Projector;
use gallery_gpt_vision::{PixelValues, VisionTower};

use crate::{GalleryModelConfig, SpliceError, SplicePlan};

/// A multimodal model: a vision tower, a projector and a decoder, each as its config tells.
#[derive(Module, Debug)]
pub struct GalleryModel {
    /// The vision tower.
    pub vision_tower: VisionTower,
    /// The projector.
    pub projector: Projector,
    /// The decoder.
    pub language_model: LlamaModel,
    #[module(skip)]
    config: GalleryModelConfig,
    #[module(skip)]
    changed_base: Vec<String>,
}

impl GalleryModel {
    pub(crate) fn new(config: &GalleryModelConfig, device: &Device) -> Self {
        Self {
            vision_tower: config.vision.init(device),
            projector: config.projector_config().init(device),
            language_model: config.llama.init(device),
            config: config.clone(),
            changed_base: Vec::new(),
        }
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> &GalleryModelConfig {
        &self.config
    }

    /// Device of the weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.language_model.device()
    }

    /// Plans where the tokens and pictures of a batch go: one row per list of ids, pictures in the
    /// order of their placeholders. [`GalleryModel::embed`] carries the plan out.
    ///
    /// # Errors
    /// The number of image placeholders differs from the number of pictures, a picture has not the
    /// size that the vision tower takes, an id is outside the vocabulary, or a row is empty.
    pub fn plan<P: Borrow<PixelValues>>(
        &self,
        rows: &[Vec<i64>],
        pictures: &[P],
    ) -> Result<SplicePlan, SpliceError> {
        let expected = self.config.vision.image_size;
        let mut sizes = pictures.iter().map(|pixels| pixels.borrow().shape()[1]);
        if let Some((picture, found)) = (0..).zip(&mut sizes).find(|&(_, size)| size != expected) {
            return Err(SpliceError::PictureSize {
                picture,
                found,
                expected,
            });
        }
        SplicePlan::new(
            rows,
            self.config.tokens_per_picture(),
            pictures.len(),
            self.config.llama.vocab_size,
        )
    }

    /// The pictures of a batch on the model's device, `[pictures, 3, image, image]`; `None` if
    /// there are none.
    ///
    /// # Panics
    /// If two pictures differ in size.
    #[must_use]
    pub fn pixel_values<P: Borrow<PixelValues>>(&self, pictures: &[P]) -> Option<Tensor<4>> {
        let pictures: Vec<&PixelValues> = pictures.iter().map(Borrow::borrow).collect();
        (!pictures.is_empty()).then(|| PixelValues::stack(&pictures, &self.device()))
    }

    /// The embeddings of a batch: text tokens embedded, pictures through the tower and the
    /// projector, spliced as planned.
    ///
    /// # Shapes
    /// - `pixel_values`: `[pictures, 3, image, image]`, `None` where the plan has no picture
    /// - output: `[batch, seq, hidden]`
    ///
    /// # Panics
    /// If the plan was made for more pictures.
    #[must_use]
    pub fn embed(&self, plan: &SplicePlan, pixel_values: Option<Tensor<4>>) -> Tensor<3> {
        let projected = pixel_values.map(|pixels| self.project(self.picture_features(pixels)));
        self.splice(plan, projected)
    }

    /// Features of pictures from the vision tower, in the tower's dtype.
    ///
    /// # Shapes
    /// - `pixel_values`: `[pictures, 3, image, image]`
    /// - output: `[pictures, patches, mm_hidden]`
    #[must_use]
    pub fn picture_features(&self, pixel_values: Tensor<4>) -> Tensor<3> {
        self.vision_tower.forward(
            pixel_values.cast(self.vision_tower.dtype()),
            self.config.select_layer,
            self.config.select_feature,
        )
    }

    /// Features projected to the decoder's width and dtype.
    ///
    /// # Shapes
    /// - `features`: `[pictures, patches, mm_hidden]`
    /// - output: `[pictures, tokens, hidden]`
    #[must_use]
    pub fn project(&self, features: Tensor<3>) -> Tensor<3> {
        let dtype = self.projector.dtype().unwrap_or(features.dtype());
        self.projector
            .forward(features.cast(dtype))
            .cast(self.language_model.dtype())
    }

    /// Splices projected picture features into the token embeddings, as planned.
    ///
    /// # Shapes
    /// - `projected`: `[pictures, tokens, hidden]`, `None` where the plan has no picture
    /// - output: `[batch, seq, hidden]`
    ///
    /// # Panics
    /// If the plan needs more features.
    #[must_use]
    pub fn splice(&self, plan: &SplicePlan, projected: Option<Tensor<3>>) -> Tensor<3> {
        let device = match &projected {
            Some(projected) => projected.device(),
            None => self.device(),
        };
        let hidden = self.config.llama.hidden_size;
        let text_ids = plan.text_ids();
        let count = text_ids.len();
        let mut table = if count == 0 {
            Tensor::zeros([0, hidden], (&device, self.language_model.dtype()))
        } else {
            let ids = int_tensor(&text_ids, &self.device()).reshape([1, count]);
            self.language_model.embed(ids).reshape([count, hidden])
        };
        if let Some(projected) = projected {
            let [pictures, patches, _] = projected.dims();
            let features = projected.reshape([pictures * patches, hidden]);
            table = if count == 0 {
                features
            } else {
                Tensor::cat(vec![table, features], 0)
            };
        }
        table
            .select(0, int_tensor(&plan.sources(), &device))
            .reshape([plan.batch(), plan.seq(), hidden])
    }

    /// Logits of a whole batch, in f32.
    ///
    /// # Shapes
    /// - `pixel_values`: `[pictures, 3, image, image]`, `None` where the plan has no picture
    /// - output: `[batch, seq, vocab]` of the plan; meaningless at padded positions
    #[must_use]
    pub fn forward(&self, plan: &SplicePlan, pixel_values: Option<Tensor<4>>) -> Tensor<3> {
        let inputs_embeds = self.embed(plan, pixel_values);
        let layout = plan.layout(&self.config.llama, &inputs_embeds.device());
        let hidden_states = self
            .language_model
            .forward_with_layout(inputs_embeds, &layout);
        self.language_model.logits(hidden_states)
    }

    /// Adds new adapters to the decoder's targeted linear layers.
    #[must_use]
    pub fn apply_lora(mut self, config: &LoraConfig) -> Self {
        self.language_model = self.language_model.apply_lora(config);
        self
    }

    /// Records the modules whose base weights an adapter has changed. Saving an adapter of such a
    /// model must be refused, because its folder would not hold them.
    #[must_use]
    pub fn with_changed_base(mut self, modules: impl IntoIterator<Item = String>) -> Self {
        self.changed_base = modules.into_iter().collect();
        self
    }

    /// Modules whose base weights an adapter has changed.
    #[must_use]
    pub fn changed_base(&self) -> &[String] {
        &self.changed_base
    }

    /// Quantizes the decoder's blocks to 8 bits, for generation in less memory.
    #[must_use]
    pub fn quantize(mut self) -> Self {
        self.language_model = self.language_model.quantize();
        self
    }

    /// Quantizes the decoder's blocks to a block format, for generation on the CPU
    /// ([`LoraLinear::quantize_blocks`](gallery_gpt_llama::LoraLinear::quantize_blocks)).
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn quantize_blocks(mut self, format: gallery_gpt_llama::BlockFormat) -> Self {
        self.language_model = self.language_model.quantize_blocks(format);
        self
    }

    /// Merges the adapters into the weights and removes them.
    ///
    /// # Panics
    /// If the weights are quantized.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        self.language_model = self.language_model.merge_lora();
        self
    }

    /// Dtype of the decoder.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.language_model.dtype()
    }
}

impl GalleryModelConfig {
    /// A model with random weights, initialised on first use.
    ///
    /// # Panics
    /// If [`GalleryModelConfig::validate`] rejects the config.
    #[must_use]
    pub fn init(&self, device: &Device) -> GalleryModel {
        GalleryModel::new(self, device)
    }
}
