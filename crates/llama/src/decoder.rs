//! The decoder: embedding, blocks, norm and output head.

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig},
    tensor::{DType, Device, Int, Tensor},
};

use crate::{
    AdapterDropout, KvCache, LlamaAttention, LlamaConfig, LlamaMlp, LlamaQkv, LoraAdapter,
    LoraConfig, LoraLinear, LoraTarget, Rotary, SequenceLayout, attention::is_cpu,
    kv_cache::LayerCache, linear::linear, rms_norm::rms_norm,
};

/// Pre-norm decoder block.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: LlamaAttention,
    /// Norm before the MLP.
    pub post_attention_layernorm: RmsNorm,
    /// MLP.
    pub mlp: LlamaMlp,
}

impl DecoderBlock {
    fn new(config: &LlamaConfig, device: &Device) -> Self {
        let norm = || {
            RmsNormConfig::new(config.hidden_size)
                .with_epsilon(config.rms_norm_eps)
                .init(device)
        };
        Self {
            input_layernorm: norm(),
            self_attn: LlamaAttention::new(config, device),
            post_attention_layernorm: norm(),
            mlp: LlamaMlp::new(config, device),
        }
    }

    /// The block without a cache, as in training.
    ///
    /// # Shapes
    /// - `hidden_states`: `[batch, seq, hidden]`
    /// - output: `[batch, seq, hidden]`
    #[must_use]
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        layout: &SequenceLayout,
        dropout: AdapterDropout,
    ) -> Tensor<3> {
        self.residuals(hidden_states, dropout.clone(), |normed| {
            self.self_attn.forward(normed, layout, dropout)
        })
    }

    /// The block on new tokens, attending to those in the cache too.
    ///
    /// # Shapes
    /// - `hidden_states`: `[batch, new, hidden]`
    /// - output: `[batch, new, hidden]`
    fn forward_cached(
        &self,
        hidden_states: Tensor<3>,
        layout: &SequenceLayout,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        self.residuals(hidden_states, AdapterDropout::Off, |normed| {
            self.self_attn.forward_cached(normed, layout, cache)
        })
    }

    /// Norm, attention, residual; norm, MLP, residual.
    fn residuals(
        &self,
        hidden_states: Tensor<3>,
        dropout: AdapterDropout,
        attention: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let normed = rms_norm(&self.input_layernorm, hidden_states.clone());
        let hidden_states = hidden_states + attention(normed);
        let normed = rms_norm(&self.post_attention_layernorm, hidden_states.clone());
        hidden_states + self.mlp.forward(normed, dropout)
    }

    /// Replaces its linear layers.
    fn map_linears(mut self, mut map: impl FnMut(LoraTarget, LoraLinear) -> LoraLinear) -> Self {
        use LoraTarget as T;
        self.self_attn.qkv = match self.self_attn.qkv {
            LlamaQkv::Separate(mut qkv) => {
                qkv.q_proj = map(T::QProj, qkv.q_proj);
                qkv.k_proj = map(T::KProj, qkv.k_proj);
                qkv.v_proj = map(T::VProj, qkv.v_proj);
                LlamaQkv::Separate(qkv)
            }
            LlamaQkv::Fused(mut qkv) => {
                qkv.c_attn = map(T::CAttn, qkv.c_attn);
                LlamaQkv::Fused(qkv)
            }
        };
        self.self_attn.o_proj = map(T::OProj, self.self_attn.o_proj);
        self.mlp.gate_proj = map(T::GateProj, self.mlp.gate_proj);
        self.mlp.up_proj = map(T::UpProj, self.mlp.up_proj);
        self.mlp.down_proj = map(T::DownProj, self.mlp.down_proj);
        self
    }

    /// The linear layer of a target, to change it; `None` if the block has another in its place.
    pub fn linear_mut(&mut self, target: LoraTarget) -> Option<&mut LoraLinear> {
        use LoraTarget as T;
        Some(match (target, &mut self.self_attn.qkv) {
            (T::QProj, LlamaQkv::Separate(qkv)) => &mut qkv.q_proj,
            (T::KProj, LlamaQkv::Separate(qkv)) => &mut qkv.k_proj,
            (T::VProj, LlamaQkv::Separate(qkv)) => &mut qkv.v_proj,
            (T::CAttn, LlamaQkv::Fused(qkv)) => &mut qkv.c_attn,
            (T::QProj | T::KProj | T::VProj | T::CAttn, _) => return None,
            (T::OProj, _) => &mut self.self_attn.o_proj,
            (T::GateProj, _) => &mut self.mlp.gate_proj,
            (T::UpProj, _) => &mut self.mlp.up_proj,
            (T::DownProj, _) => &mut self.mlp.down_proj,
        })
    }

    /// The linear layer of a target; `None` if the block has another in its place.
    #[must_use]
    pub fn linear(&self, target: LoraTarget) -> Option<&LoraLinear> {
        use LoraTarget as T;
        Some(match (target, &self.self_attn.qkv) {
            (T::QProj, LlamaQkv::Separate(qkv)) => &qkv.q_proj,
            (T::KProj, LlamaQkv::Separate(qkv)) => &qkv.k_proj,
            (T::VProj, LlamaQkv::Separate(qkv)) => &qkv.v_proj,
            (T::CAttn, LlamaQkv::Fused(qkv)) => &qkv.c_attn,
            (T::QProj | T::KProj | T::VProj | T::CAttn, _) => return None,
            (T::OProj, _) => &self.self_attn.o_proj,
            (T::GateProj, _) => &self.mlp.gate_proj,
            (T::UpProj, _) => &self.mlp.up_proj,
            (T::DownProj, _) => &self.mlp.down_proj,
        })
    }

    /// Its linear layers, in the order of the forward pass.
    pub fn linears(&self) -> impl Iterator<Item = (LoraTarget, &LoraLinear)> {
        let targets = LoraTarget::ALL.into_iter();
        targets.filter_map(|target| Some((target, self.linear(target)?)))
    }
}

/// A LLaMA or Qwen decoder. Its forward pass takes embeddings and not ids, because picture features are
/// among them.
#[derive(Module, Debug)]
pub struct LlamaModel {
    /// One row per id, `[vocab, hidden]`.
    pub embed_tokens: Embedding,
    /// The blocks.
    pub layers: Vec<DecoderBlock>,
    /// Norm after the last block.
    pub norm: RmsNorm,
    /// Output head, `[hidden, vocab]`; not tied to the embedding.
    pub lm_head: Linear,
    #[module(skip)]
    config: LlamaConfig,
}

impl LlamaModel {
    pub(crate) fn new(config: &LlamaConfig, device: &Device) -> Self {
        Self {
            embed_tokens: EmbeddingConfig::new(config.vocab_size, config.hidden_size)
                .with_initializer(burn::nn::Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device),
            layers: (0..config.num_hidden_layers)
                .map(|_| DecoderBlock::new(config, device))
                .collect(),
            norm: RmsNormConfig::new(config.hidden_size)
                .with_epsilon(config.rms_norm_eps)
                .init(device),
            lm_head: LinearConfig::new(config.hidden_size, config.vocab_size)
                .with_bias(false)
                .init(device),
            config: config.clone(),
        }
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Width of the hidden states.
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// Dtype of the weights.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.embed_tokens.weight.val().dtype()
    }

    /// Device of the weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embed_tokens.weight.lazy_device()
    }

    /// # Shapes
    /// - `input_ids`: `[batch, seq]`
    /// - output: `[batch, seq, hidden]`
    #[must_use]
    pub fn embed(&self, input_ids: Tensor<2, Int>) -> Tensor<3> {
        self.embed_tokens.forward(input_ids)
    }

    /// All blocks and the final norm, on right-padded rows.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[batch, seq, hidden]`
    /// - output: `[batch, seq, hidden]`; meaningless at padded positions
    #[must_use]
    pub fn forward(&self, inputs_embeds: Tensor<3>) -> Tensor<3> {
        let layout = self.padded(&inputs_embeds);
        self.forward_with_layout(inputs_embeds, &layout)
    }

    /// As [`LlamaModel::forward`], on a batch of any layout.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[batch, seq, hidden]`; packed, the batch is 1
    /// - output: `[batch, seq, hidden]`
    #[must_use]
    pub fn forward_with_layout(
        &self,
        inputs_embeds: Tensor<3>,
        layout: &SequenceLayout,
    ) -> Tensor<3> {
        let mut x = inputs_embeds;
        for layer in &self.layers {
            x = layer.forward(x, layout, AdapterDropout::Off);
        }
        self.last_norm(x)
    }

    /// All hidden states, as the list that `transformers` returns: the embeddings, the output of
    /// each block but the last, and the normed output of the last.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[batch, seq, hidden]`
    /// - output: `num_hidden_layers + 1` of `[batch, seq, hidden]`
    #[must_use]
    pub fn hidden_states(&self, inputs_embeds: Tensor<3>) -> Vec<Tensor<3>> {
        let layout = self.padded(&inputs_embeds);
        let mut states = vec![inputs_embeds];
        for layer in &self.layers {
            let last = states[states.len() - 1].clone();
            states.push(layer.forward(last, &layout, AdapterDropout::Off));
        }
        if let Some(last) = states.pop() {
            states.push(self.last_norm(last));
        }
        states
    }

    /// The attention probabilities of the queries at some positions, averaged over all heads of all
    /// blocks: for inspecting a model, apart from training and generation.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[1, seq, hidden]`
    /// - output: `[positions, seq]` in f32; each row sums to 1
    ///
    /// # Panics
    /// If there is more than one row, or a position is out of range.
    #[must_use]
    pub fn mean_attention(&self, inputs_embeds: Tensor<3>, positions: &[usize]) -> Tensor<2> {
        let layout = self.padded(&inputs_embeds);
        let seq = inputs_embeds.dims()[1];
        let shape = [positions.len(), seq];
        let mut total = Tensor::<2>::zeros(shape, (&inputs_embeds.device(), DType::F32));
        let mut x = inputs_embeds;
        for layer in &self.layers {
            let normed = rms_norm(&layer.input_layernorm, x.clone());
            let of_heads = layer
                .self_attn
                .probabilities(normed, layout.rotary(), positions);
            total = total + of_heads.mean_dim(0).squeeze_dim(0);
            x = layer.forward(x, &layout, AdapterDropout::Off);
        }
        total / self.layers.len() as f64
    }

    fn padded(&self, inputs_embeds: &Tensor<3>) -> SequenceLayout {
        let seq = inputs_embeds.dims()[1];
        SequenceLayout::padded(&self.config, seq, &inputs_embeds.device())
    }

    /// A cache for prompts of the given lengths, in tokens, and up to `max_new_tokens` after them,
    /// on the device of the weights and in their dtype; on a CPU, whose attention computes in f32, in f32.
    #[must_use]
    pub fn new_cache(&self, prompt_lengths: &[usize], max_new_tokens: usize) -> KvCache {
        let device = self.device();
        let dtype = if is_cpu(&device) {
            DType::F32
        } else {
            self.dtype()
        };
        KvCache::new(&self.config, prompt_lengths, max_new_tokens, dtype, &device)
    }

    /// Runs the next tokens of the prompts, all of them or a chunk, and writes them to the cache.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[batch, chunk, hidden]`, rows right-padded to the longest prompt
    /// - output: `[batch, chunk, hidden]`; meaningless at padded positions
    ///
    /// # Panics
    /// If there are more tokens than the cache was made for, or it has decoded already.
    pub fn prefill(&self, inputs_embeds: Tensor<3>, cache: &mut KvCache) -> Tensor<3> {
        let chunk = inputs_embeds.dims()[1];
        let rows = cache.prefill_positions(chunk);
        let rotary = Rotary::rows(&self.config, &rows, chunk, &inputs_embeds.device());
        self.forward_cached(
            inputs_embeds,
            &SequenceLayout::of_positions(rotary, None),
            cache,
        )
    }

    /// Runs one more token of each row, after the prefill of the whole prompts.
    ///
    /// # Shapes
    /// - `inputs_embeds`: `[batch, 1, hidden]`
    /// - output: `[batch, 1, hidden]`
    ///
    /// # Panics
    /// If the prefill is not complete, or the cache is full.
    pub fn decode(&self, inputs_embeds: Tensor<3>, cache: &mut KvCache) -> Tensor<3> {
        let device = inputs_embeds.device();
        let rotary = Rotary::rows(&self.config, &cache.decode_positions(), 1, &device);
        let layout = SequenceLayout::of_positions(rotary, cache.decode_mask(&device));
        self.forward_cached(inputs_embeds, &layout, cache)
    }

    fn forward_cached(
        &self,
        inputs_embeds: Tensor<3>,
        layout: &SequenceLayout,
        cache: &mut KvCache,
    ) -> Tensor<3> {
        let mut x = inputs_embeds;
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward_cached(x, layout, cache);
        }
        self.last_norm(x)
    }

    /// The norm between the last block and the head.
    ///
    /// # Shapes
    /// - `hidden_states`: `[..., hidden]`
    /// - output: `[..., hidden]`
    #[must_use]
    pub fn last_norm<const D: usize>(&self, hidden_states: Tensor<D>) -> Tensor<D> {
        rms_norm(&self.norm, hidden_states)
    }

    /// Logits in f32.
    ///
    /// # Shapes
    /// - `hidden_states`: `[..., hidden]`, normed
    /// - output: `[..., vocab]`
    #[must_use]
    pub fn logits<const D: usize>(&self, hidden_states: Tensor<D>) -> Tensor<D> {
        linear(&self.lm_head, hidden_states).cast(DType::F32)
    }

    /// Adds a new adapter to every targeted linear layer. New adapters change nothing, because B is
    /// zero.
    #[must_use]
    pub fn apply_lora(self, config: &LoraConfig) -> Self {
        let config = LoraConfig {
            targets: config.targets.among(self.config.linears()),
            ..config.clone()
        };
        let mut stream = 0;
        self.map_linears(|target, linear| {
            stream += 1;
            if config.targets.contains(target) {
                linear.adapt(&config, stream)
            } else {
                linear
            }
        })
    }

    /// Adds a new adapter to each linear layer with the settings returned for its block and target,
    /// replacing an older one; layers without settings lose theirs. The targets in the settings are
    /// ignored.
    #[must_use]
    pub fn apply_lora_by_linear(
        self,
        mut config: impl FnMut(usize, LoraTarget) -> Option<LoraConfig>,
    ) -> Self {
        let linears = self.config.linears().count();
        let mut stream = 0;
        self.map_linears(|target, linear| {
            let block = stream as usize / linears;
            stream += 1;
            match config(block, target) {
                Some(config) => linear.adapt(&config, stream),
                None => linear.without_adapter(),
            }
        })
    }

    /// Block, target and adapter of every linear layer that has one.
    pub fn adapters(&self) -> impl Iterator<Item = (usize, LoraTarget, &LoraAdapter)> {
        self.layers.iter().enumerate().flat_map(|(block, layer)| {
            let linears = layer.linears();
            linears.filter_map(move |(target, linear)| Some((block, target, linear.lora.as_ref()?)))
        })
    }

    /// Whether a linear layer has a bias that its architecture has not. Only adapters add one.
    #[must_use]
    pub fn has_added_bias(&self) -> bool {
        let of_block = |layer: &DecoderBlock| {
            let added = |(target, linear): (LoraTarget, &LoraLinear)| {
                target != LoraTarget::CAttn && linear.base.bias.is_some()
            };
            layer.linears().any(added)
        };
        self.layers.iter().any(of_block) || self.lm_head.bias.is_some()
    }

    /// Quantizes the linear layers of all blocks to 8 bits ([`LoraLinear::quantize`]); embedding,
    /// norms and head stay as they are.
    #[must_use]
    pub fn quantize(self) -> Self {
        self.map_linears(|_, linear| linear.quantize())
    }

    /// Quantizes the linear layers of all blocks to a block format
    /// ([`LoraLinear::quantize_blocks`]); embedding, norms and head stay as they are.
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn quantize_blocks(self, format: crate::BlockFormat) -> Self {
        self.map_linears(|_, linear| linear.quantize_blocks(format))
    }

    /// Whether any linear layer is quantized.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        let of_block =
            |layer: &DecoderBlock| layer.linears().any(|(_, linear)| linear.is_quantized());
        self.layers.iter().any(of_block)
    }

    /// Merges every adapter into its weight and removes the adapters.
    ///
    /// # Panics
    /// If the weights are quantized.
    #[must_use]
    pub fn merge_lora(self) -> Self {
        self.map_linears(|_, linear| linear.merge().0)
    }

    /// Whether any linear layer has an adapter.
    #[must_use]
    pub fn has_lora(&self) -> bool {
        self.adapters().next().is_some()
    }

    fn map_linears(mut self, mut map: impl FnMut(LoraTarget, LoraLinear) -> LoraLinear) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| layer.map_linears(&mut map))
            .collect();
        self
    }
}

impl LlamaConfig {
    /// A decoder with random weights, initialised on first use.
    ///
    /// # Panics
    /// If [`LlamaConfig::validate`] rejects the config.
    #[must_use]
    pub fn init(&self, device: &Device) -> LlamaModel {
        LlamaModel::new(self, device)
    }
}
