//! Tower, projector and decoder as one module.

use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use gallery_gpt_llama::{LlamaModel, LoraConfig};
use gallery_gpt_projector::Projector;
use gallery_gpt_vision::VisionTower;

use crate::{GalleryModelConfig, SplicePlan};

/// The model.
#[derive(Module, Debug)]
pub struct GalleryModel {
    /// The tower.
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

    /// What it is made of.
    #[must_use]
    pub fn config(&self) -> &GalleryModelConfig {
        &self.config
    }

    /// Where the weights are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.language_model.device()
    }

    /// The tower's features of some pictures, in the tower's number type.
    ///
    /// # Shapes
    /// - `pixel_values`: `[pictures, 3, image, image]`
    /// - output: `[pictures, patches, mm_hidden]`
    #[must_use]
    pub fn picture_features(&self, pixel_values: Tensor<4>) -> Tensor<3> {
        let dtype = self.vision_tower.embeddings.class_embedding.val().dtype();
        self.vision_tower.forward(
            pixel_values.cast(dtype),
            self.config.select_layer,
            self.config.select_feature,
        )
    }

    /// Features in the decoder's width and number type.
    ///
    /// # Shapes
    /// - `features`: `[pictures, patches, mm_hidden]`
    /// - output: `[pictures, patches, hidden]`
    #[must_use]
    pub fn project(&self, features: Tensor<3>) -> Tensor<3> {
        let dtype = match self.projector.layers.first() {
            Some(layer) => layer.weight.val().dtype(),
            None => features.dtype(),
        };
        self.projector
            .forward(features.cast(dtype))
            .cast(self.language_model.dtype())
    }

    /// Lays token embeddings and picture features out as planned.
    ///
    /// # Shapes
    /// - `projected`: `[pictures, patches, hidden]`, nothing where the plan has no picture
    /// - output: `[batch, seq, hidden]`
    ///
    /// # Panics
    /// If the plan needs more features than there are.
    #[must_use]
    pub fn splice(&self, plan: &SplicePlan, projected: Option<Tensor<3>>) -> Tensor<3> {
        let device = match &projected {
            Some(projected) => projected.device(),
            None => self.device(),
        };
        let hidden = self.config.llama.hidden_size;
        let count = plan.text_ids().len();
        let ints = |values: &[i64], device: &Device| {
            Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
        };
        let mut table = if count == 0 {
            Tensor::zeros([0, hidden], (&device, self.language_model.dtype()))
        } else {
            let ids = ints(plan.text_ids(), &self.device()).reshape([1, count]);
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
        let sources = ints(plan.sources(), &device);
        table
            .select(0, sources)
            .reshape([plan.batch(), plan.seq(), hidden])
    }

    /// Logits of a whole batch, in f32.
    ///
    /// # Shapes
    /// - `pixel_values`: `[pictures, 3, image, image]`
    /// - output: `[batch, seq, vocab]` of the plan; meaningless at padded positions
    #[must_use]
    pub fn forward(&self, plan: &SplicePlan, pixel_values: Option<Tensor<4>>) -> Tensor<3> {
        let projected = pixel_values.map(|pixels| self.project(self.picture_features(pixels)));
        let inputs_embeds = self.splice(plan, projected);
        let layout = plan.layout(&self.config.llama, &inputs_embeds.device());
        let hidden_states = self.language_model.forward_in(inputs_embeds, &layout);
        self.language_model.logits(hidden_states)
    }

    /// Gives the decoder's targeted linears new adapters.
    #[must_use]
    pub fn apply_lora(mut self, config: &LoraConfig) -> Self {
        self.language_model = self.language_model.apply_lora(config);
        self
    }

    /// Notes that an adapter went into weights of the base, which its folder does not hold: the names of the modules. Whoever saves
    /// adapters has to refuse such a model.
    #[must_use]
    pub fn with_changed_base(mut self, modules: impl IntoIterator<Item = String>) -> Self {
        self.changed_base = modules.into_iter().collect();
        self
    }

    /// Modules whose weights are no longer the base's, because an adapter went into them.
    #[must_use]
    pub fn changed_base(&self) -> &[String] {
        &self.changed_base
    }

    /// Keeps the weights of the decoder's blocks in 8 bits, for writing in less memory.
    #[must_use]
    pub fn quantize(mut self) -> Self {
        self.language_model = self.language_model.quantize();
        self
    }

    /// Adds the adapters to the weights and takes them off.
    ///
    /// # Panics
    /// If the weights are in 8 bits.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        self.language_model = self.language_model.merge_lora();
        self
    }

    /// Number type of the decoder.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.language_model.dtype()
    }
}
