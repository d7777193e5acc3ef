//! The language model: a LLaMA decoder (Touvron et al. 2023, <https://arxiv.org/abs/2307.09288>) or
//! Qwen's (Bai et al. 2023, <https://arxiv.org/abs/2309.16609>), with a key/value cache and low-rank
//! adapters.
//!
//! - [`LlamaConfig`] has the field names of Hugging Face's `config.json`; [`LlamaModel`] takes
//!   embeddings and not ids, because picture features are among them.
//! - [`causal_attention`] computes all attention; [`SequenceLayout`] describes padded and packed
//!   batches.
//! - [`KvCache`] is the cache of [`LlamaModel::prefill`] and [`LlamaModel::decode`].
//! - [`LoraConfig`] adapts the linear layers of every block: `y = xW + s (dropout(x) A) B`
//!   (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>). The dense sum `W + sAB` is formed only
//!   by [`LlamaModel::merge_lora`].
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gallery_gpt_llama::LlamaConfig;
//!
//! let device = Device::flex();
//! let model = LlamaConfig::tiny().init(&device);
//! let embeddings = Tensor::<3>::zeros([1, 5, model.hidden_size()], &device);
//! let hidden_states = model.forward(embeddings);
//! assert_eq!(hidden_states.dims(), [1, 5, model.hidden_size()]);
//! ```

mod attention;
#[cfg(feature = "flex")]
mod block_weight;
mod config;
mod decoder;
mod int_tensor;
mod kv_cache;
mod linear;
mod lora;
mod mlp;
mod rms_norm;
mod rope;
mod sequence_layout;
#[cfg(feature = "flex")]
mod stored_product;

pub use attention::{
    CPU_QUERY_BLOCK, FusedQkv, LlamaAttention, LlamaQkv, SeparateQkv, causal_attention,
    cpu_attention_scores,
};
#[cfg(feature = "flex")]
pub use block_weight::BlockFormat;
pub use config::{LlamaConfig, LlamaConfigError, LongContext};
pub use decoder::{DecoderBlock, LlamaModel};
pub use int_tensor::int_tensor;
pub use kv_cache::KvCache;
pub use lora::{
    AdapterDropout, LoraAdapter, LoraConfig, LoraConfigError, LoraLinear, LoraTarget, LoraTargets,
};
pub use mlp::LlamaMlp;
pub use rope::{Rotary, RowPositions};
pub use sequence_layout::SequenceLayout;
