//! The vision transformer.

use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig},
    tensor::{DType, Device, Tensor},
};

use crate::{
    EncoderBlock, FeatureSelect, SelectLayer, VisionConfig, VisionEmbeddings,
    layer_norm::layer_norm,
};

/// A vision transformer: CLIP's, or Qwen-VL's, which has no class token. The field names, also the
/// misspelt one, are those of CLIP's checkpoints.
#[derive(Module, Debug)]
pub struct VisionTower {
    /// Patch, class token and position embeddings.
    pub embeddings: VisionEmbeddings,
    /// Norm before the first block.
    pub pre_layrnorm: LayerNorm,
    /// The blocks.
    pub layers: Vec<EncoderBlock>,
    /// Norm of the pooled class token, in towers that have one. It is in every checkpoint of CLIP,
    /// but LLaVA does not use it.
    pub post_layernorm: Option<LayerNorm>,
}

impl VisionTower {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        let norm = || {
            LayerNormConfig::new(config.hidden_size)
                .with_epsilon(config.layer_norm_eps)
                .init(device)
        };
        Self {
            embeddings: VisionEmbeddings::new(config, device),
            pre_layrnorm: norm(),
            layers: (0..config.num_hidden_layers)
                .map(|_| EncoderBlock::new(config, device))
                .collect(),
            post_layernorm: config.class_token.then(norm),
        }
    }

    /// The selected features. Blocks after the selected layer are not run. Without a class token
    /// all tokens are patches, and all are selected.
    ///
    /// # Shapes
    /// - `pixel_values`: `[batch, channels, image, image]`
    /// - output: `[batch, patches, hidden]` (one more token with [`FeatureSelect::ClsPatch`])
    ///
    /// # Panics
    /// If the tower does not have the layer.
    #[must_use]
    pub fn forward(
        &self,
        pixel_values: Tensor<4>,
        select_layer: SelectLayer,
        select_feature: FeatureSelect,
    ) -> Tensor<3> {
        let blocks = select_layer
            .blocks(self.layers.len())
            .unwrap_or_else(|error| panic!("{error}"));
        let mut hidden_states = self.embed(pixel_values);
        for layer in &self.layers[..blocks] {
            hidden_states = layer.forward(hidden_states);
        }
        if self.embeddings.class_embedding.is_none() {
            return hidden_states;
        }
        select_feature.apply(hidden_states)
    }

    /// All hidden states: the input of the first block, then the output of each block.
    ///
    /// # Shapes
    /// - `pixel_values`: `[batch, channels, image, image]`
    /// - output: `num_hidden_layers + 1` of `[batch, tokens, hidden]`
    #[must_use]
    pub fn hidden_states(&self, pixel_values: Tensor<4>) -> Vec<Tensor<3>> {
        let mut states = vec![self.embed(pixel_values)];
        for layer in &self.layers {
            let last = states[states.len() - 1].clone();
            states.push(layer.forward(last));
        }
        states
    }

    /// CLIP's pooled output: the normed class token of the last hidden state. LLaVA does not use
    /// it.
    ///
    /// # Shapes
    /// - `last_hidden_state`: `[batch, 1 + patches, hidden]`
    /// - output: `[batch, hidden]`; `None` if the tower has no class token
    #[must_use]
    pub fn pooled(&self, last_hidden_state: Tensor<3>) -> Option<Tensor<2>> {
        let norm = self.post_layernorm.as_ref()?;
        let class = last_hidden_state.slice_dim(1, 0..1).squeeze_dim(1);
        Some(layer_norm(norm, class))
    }

    /// Dtype of the weights.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.embeddings.patch_embedding.val().dtype()
    }

    fn embed(&self, pixel_values: Tensor<4>) -> Tensor<3> {
        layer_norm(&self.pre_layrnorm, self.embeddings.forward(pixel_values))
    }
}

impl VisionConfig {
    /// A vision tower with random weights, initialised on first use.
    ///
    /// # Panics
    /// If [`VisionConfig::validate`] rejects the config.
    #[must_use]
    pub fn init(&self, device: &Device) -> VisionTower {
        VisionTower::new(self, device)
    }
}
