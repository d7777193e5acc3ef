//! Grouped-query attention (Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>).

use burn::{
    module::Module,
    tensor::{
        Bool, DType, Device, Tensor, TensorData, activation::softmax, module::attention,
        ops::AttentionModuleOptions,
    },
};

use crate::{
    AdapterDropout, LlamaConfig, LoraLinear, Rotary, SequenceLayout, int_tensor,
    kv_cache::LayerCache,
};

/// Causal attention of the decoder; dispatches to Burn's fused attention.
///
/// Queries are aligned with the end of the keys, so a single query attends to all of them. On the
/// CPU there are two exceptions: single-token f32 decoding uses two matmuls over views of the
/// cache, and long sequences are split into blocks of queries.
///
/// Training and prefill need no mask: rows are right-padded, and causal attention keeps real tokens
/// from attending to padding. Without a mask the call stays on the fused path. Only decoding rows
/// of different lengths needs one.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, head_dim]`
/// - `key`, `value`: `[batch, kv_heads, keys, head_dim]`, where `kv_heads` divides `heads`
/// - `mask`: `[batch, 1, 1, keys]`, `true` = masked
/// - output: `[batch, heads, queries, head_dim]`
#[must_use]
pub fn causal_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, queries, _] = query.dims();
    let keys = key.dims()[2];
    let causal = |queries| AttentionModuleOptions {
        is_causal: queries > 1,
        ..Default::default()
    };
    let on_cpu = is_cpu(&query.device());
    if on_cpu && queries == 1 && query.dtype() == DType::F32 {
        return decode_attention(query, key, value, mask);
    }
    if on_cpu && queries > CPU_QUERY_BLOCK && mask.is_none() {
        let blocks = (0..queries).step_by(CPU_QUERY_BLOCK).map(|start| {
            let end = queries.min(start + CPU_QUERY_BLOCK);
            let attended = 0..keys - queries + end;
            attention(
                query.clone().slice_dim(2, start..end),
                key.clone().slice_dim(2, attended.clone()),
                value.clone().slice_dim(2, attended),
                None,
                None,
                causal(end - start),
            )
        });
        return Tensor::cat(blocks.collect(), 2);
    }
    let mask = mask.map(|mask| mask.expand([batch, heads, queries, keys]));
    attention(query, key, value, mask, None, causal(queries))
}

/// Whether a device is the CPU, where memory is not the device's own.
pub(crate) fn is_cpu(device: &Device) -> bool {
    device.memory_capacity().is_none()
}

/// Queries per block of [`causal_attention`] on the CPU. Burn's CPU attention computes all scores,
/// also those of the future, and keeps them under autodiff; blocks leave out most of the future.
pub const CPU_QUERY_BLOCK: usize = 128;

/// Attention scores per head that the CPU computes, and keeps under autodiff, for a row of `seq`
/// tokens. The memory plan of a training counts them.
#[must_use]
pub fn cpu_attention_scores(seq: usize) -> usize {
    (0..seq)
        .step_by(CPU_QUERY_BLOCK)
        .map(|start| {
            let end = seq.min(start + CPU_QUERY_BLOCK);
            (end - start) * end
        })
        .sum()
}

/// Attention of one query per row on the CPU. Burn's would first copy all keys and values out of
/// the cache; matmuls read them in place.
///
/// # Shapes
/// As [`causal_attention`], with one query.
fn decode_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, _, dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    // The query heads that share a key head are the rows of one product.
    let rows = [batch, kv_heads, heads / kv_heads, dim];
    let query = query.reshape(rows) / (dim as f64).sqrt();
    let mut scores = query.matmul(key.swap_dims(2, 3));
    if let Some(mask) = mask {
        let mask = mask.expand([batch, kv_heads, rows[2], keys]);
        scores = scores.mask_fill(mask, f32::NEG_INFINITY);
    }
    softmax(scores, 3)
        .matmul(value)
        .reshape([batch, heads, 1, dim])
}

/// The projections of queries, keys and values.
#[allow(
    clippy::large_enum_variant,
    reason = "a block has one, and its weights are far larger"
)]
#[derive(Module, Debug)]
pub enum LlamaQkv {
    /// A linear layer each, without bias (LLaMA).
    Separate(SeparateQkv),
    /// One linear layer with a bias (Qwen).
    Fused(FusedQkv),
}

/// A linear layer each for queries, keys and values.
#[derive(Module, Debug)]
pub struct SeparateQkv {
    /// Query projection.
    pub q_proj: LoraLinear,
    /// Key projection.
    pub k_proj: LoraLinear,
    /// Value projection.
    pub v_proj: LoraLinear,
}

/// One linear layer for queries, keys and values, whose outputs are all queries, then all keys, then
/// all values.
#[derive(Module, Debug)]
pub struct FusedQkv {
    /// `[hidden, 3 * hidden]`.
    pub c_attn: LoraLinear,
}

/// Attention of a decoder block.
#[derive(Module, Debug)]
pub struct LlamaAttention {
    /// Projections of queries, keys and values.
    pub qkv: LlamaQkv,
    /// Output projection.
    pub o_proj: LoraLinear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl LlamaAttention {
    pub(crate) fn new(config: &LlamaConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let kv = config.num_key_value_heads * config.head_dim();
        let qkv = if config.fused_qkv {
            LlamaQkv::Fused(FusedQkv {
                c_attn: LoraLinear::with_bias(width, 3 * width, device),
            })
        } else {
            LlamaQkv::Separate(SeparateQkv {
                q_proj: LoraLinear::new(width, width, device),
                k_proj: LoraLinear::new(width, kv, device),
                v_proj: LoraLinear::new(width, kv, device),
            })
        };
        Self {
            qkv,
            o_proj: LoraLinear::new(width, width, device),
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
        }
    }

    /// Queries, keys and values of tokens.
    ///
    /// # Shapes
    /// - `hidden_states`: `[batch, seq, hidden]`
    /// - output: `[batch, seq, heads * head_dim]`, and twice `[batch, seq, kv_heads * head_dim]`
    fn project(&self, hidden_states: Tensor<3>, dropout: &AdapterDropout) -> [Tensor<3>; 3] {
        match &self.qkv {
            LlamaQkv::Separate(qkv) => {
                let q = qkv.q_proj.forward(hidden_states.clone(), dropout.stream(0));
                let k = qkv.k_proj.forward(hidden_states.clone(), dropout.stream(1));
                [q, k, qkv.v_proj.forward(hidden_states, dropout.stream(2))]
            }
            LlamaQkv::Fused(qkv) => {
                let all = qkv.c_attn.forward(hidden_states, dropout.stream(0));
                let width = self.heads * self.head_dim;
                [0, 1, 2].map(|nth| all.clone().slice_dim(2, nth * width..(nth + 1) * width))
            }
        }
    }

    /// Attention without a cache, as in training.
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
        self.attend(hidden_states, layout, None, dropout)
    }

    /// Attention to the tokens in a cache and the new ones, which are appended to it.
    ///
    /// # Shapes
    /// - `hidden_states`: `[batch, new, hidden]`
    /// - output: `[batch, new, hidden]`
    pub(crate) fn forward_cached(
        &self,
        hidden_states: Tensor<3>,
        layout: &SequenceLayout,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        self.attend(hidden_states, layout, Some(cache), AdapterDropout::Off)
    }

    fn attend(
        &self,
        hidden_states: Tensor<3>,
        layout: &SequenceLayout,
        cache: Option<&mut LayerCache>,
        dropout: AdapterDropout,
    ) -> Tensor<3> {
        let split_heads = |x: Tensor<3>, heads| {
            let x = layout.unpack(x);
            let [rows, seq, _] = x.dims();
            x.reshape([rows, seq, heads, self.head_dim]).swap_dims(1, 2)
        };
        let rotary = layout.rotary();
        let [q, k, v] = self.project(hidden_states, &dropout);
        let q = rotary.apply_to_queries(split_heads(q, self.heads));
        let k = rotary.apply(split_heads(k, self.kv_heads));
        let v = split_heads(v, self.kv_heads);
        let dtype = q.dtype();
        let (q, k, v) = match cache {
            Some(cache) => {
                let (k, v) = cache.append(k, v);
                (q.cast(k.dtype()), k, v)
            }
            None => (q, k, v),
        };
        let output = causal_attention(q, k, v, layout.mask()).cast(dtype);
        let output = output.swap_dims(1, 2);
        let [rows, seq, heads, head_dim] = output.dims();
        let output = layout.pack(output.reshape([rows, seq, heads * head_dim]));
        self.o_proj.forward(output, dropout.stream(3))
    }

    /// The attention probabilities of the queries at some positions, for inspecting a model:
    /// [`LlamaAttention::forward`] never materialises this softmax. Queries and keys are computed
    /// again, and the scores in f32. The one row starts at position 0.
    ///
    /// # Shapes
    /// - `hidden_states`: `[1, seq, hidden]`
    /// - output: `[heads, positions, seq]`; each row sums to 1 and is 0 after its position
    ///
    /// # Panics
    /// If there is more than one row, or a position is out of range.
    #[must_use]
    pub fn probabilities(
        &self,
        hidden_states: Tensor<3>,
        rotary: &Rotary,
        positions: &[usize],
    ) -> Tensor<3> {
        let [batch, seq, _] = hidden_states.dims();
        assert_eq!(batch, 1, "probabilities are of one row");
        let device = hidden_states.device();
        let split_heads =
            |x: Tensor<3>, heads| x.reshape([1, seq, heads, self.head_dim]).swap_dims(1, 2);
        let [q, k, _] = self.project(hidden_states, &AdapterDropout::Off);
        let q = rotary.apply_to_queries(split_heads(q, self.heads));
        let q = q.cast(DType::F32);
        let k = rotary.apply(split_heads(k, self.kv_heads)).cast(DType::F32);
        let indices: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
        let q = q.select(2, int_tensor(&indices, &device));
        // Repeats each key head for its group of query heads.
        let groups = self.heads / self.kv_heads;
        let k = k
            .reshape([self.kv_heads, 1, seq, self.head_dim])
            .repeat_dim(1, groups)
            .reshape([1, self.heads, seq, self.head_dim]);
        let scores = q.matmul(k.swap_dims(2, 3)) / (self.head_dim as f64).sqrt();
        let future: Vec<bool> = positions
            .iter()
            .flat_map(|&position| (0..seq).map(move |key| key > position))
            .collect();
        let future = TensorData::new(future, [1, 1, positions.len(), seq]);
        let future = Tensor::<4, Bool>::from_data(future, &device);
        let scores = scores.mask_fill(
            future.expand([1, self.heads, positions.len(), seq]),
            f32::NEG_INFINITY,
        );
        softmax(scores, 3).squeeze_dim(0)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn probabilities_are_those_of_the_fused_attention() {
        let device = Device::flex();
        let config = LlamaConfig {
            hidden_size: 32,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            ..LlamaConfig::tiny()
        };
        let attention = LlamaAttention::new(&config, &device);
        let seq = 9;
        let x = Tensor::<3>::random([1, seq, 32], Distribution::Default, &device);
        let rotary = Rotary::range(&config, 0, seq, &device);
        let positions: Vec<usize> = (0..seq).collect();
        let found = attention.probabilities(x.clone(), &rotary, &positions);
        let [_, _, values] = attention.project(x.clone(), &AdapterDropout::Off);
        let values = values
            .reshape([seq, 2, 8])
            .swap_dims(0, 1)
            .reshape([2, 1, seq, 8])
            .repeat_dim(1, 2)
            .reshape([4, seq, 8]);
        let mixed = found.matmul(values).swap_dims(0, 1).reshape([1, seq, 32]);
        let expected = attention.o_proj.forward(mixed, AdapterDropout::Off);
        let layout = SequenceLayout::of_positions(rotary, None);
        let output = attention.forward(x, &layout, AdapterDropout::Off);
        let difference = (output - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn decode_attention_equals_the_fused_attention() {
        let device = Device::flex();
        let random =
            |shape: [usize; 4]| Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (q, whole_k, whole_v) = (
            random([2, 4, 1, 8]),
            random([2, 2, 50, 8]),
            random([2, 2, 50, 8]),
        );
        // As the cache returns them: a view of the slots written.
        let (k, v) = (whole_k.slice_dim(2, 0..33), whole_v.slice_dim(2, 0..33));
        let mask = (0..66).map(|at| at / 33 == 1 && (10..20).contains(&(at % 33)));
        let mask = TensorData::new(mask.collect::<Vec<bool>>(), [2, 1, 1, 33]);
        for mask in [None, Some(Tensor::<4, Bool>::from_data(mask, &device))] {
            let found = causal_attention(q.clone(), k.clone(), v.clone(), mask.clone());
            let mask = mask.map(|mask| mask.expand([2, 4, 1, 33]));
            let options = AttentionModuleOptions::default();
            let expected = attention(q.clone(), k.clone(), v.clone(), mask, None, options);
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{difference}");
        }
    }

    #[test]
    fn blocks_of_queries_change_neither_output_nor_gradients() {
        let device = Device::flex().autodiff();
        let (queries, keys) = (2 * CPU_QUERY_BLOCK + 1, 2 * CPU_QUERY_BLOCK + 40);
        let random = |heads, length| {
            Tensor::<4>::random(
                [2, heads, length, 8],
                Distribution::Normal(0.0, 1.0),
                &device,
            )
            .require_grad()
        };
        let inputs = [random(4, queries), random(2, keys), random(2, keys)];
        let weights = Tensor::random([2, 4, queries, 8], Distribution::Normal(0.0, 1.0), &device);
        let run = |blocks: bool| {
            let [q, k, v] = inputs.clone();
            let output = if blocks {
                causal_attention(q, k, v, None)
            } else {
                let options = AttentionModuleOptions {
                    is_causal: true,
                    ..Default::default()
                };
                attention(q, k, v, None, None, options)
            };
            let grads = (output.clone() * weights.clone()).sum().backward();
            let mut found: Vec<Tensor<4>> = inputs.iter().filter_map(|x| x.grad(&grads)).collect();
            found.push(output.inner());
            found
        };
        let (blocks, whole) = (run(true), run(false));
        assert_eq!((blocks.len(), whole.len()), (4, 4));
        for (blocks, whole) in blocks.into_iter().zip(whole) {
            let size = whole.clone().abs().max().into_scalar::<f32>();
            let difference = (blocks - whole).abs().max().into_scalar::<f32>();
            assert!(difference < 5e-6 * size, "{difference} of {size}");
        }
    }
}
