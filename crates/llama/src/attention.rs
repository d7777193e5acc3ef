//! Grouped-query attention (Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>).

use burn::{
    module::Module,
    tensor::{
        Bool, DType, Device, Int, Tensor, TensorData, activation::softmax, module::attention,
        ops::AttentionModuleOptions,
    },
};

use crate::{AdapterDropout, LayerCache, LlamaConfig, LoraLinear, Rotary, SequenceLayout};

/// The one attention function: Burn's fused one, and on the CPU, for one query a row in f32, two products that need no copy of
/// the cache. Causal, aligned at the end of the keys, so a single query sees them all.
///
/// Training and prefill give no mask: rows are padded on the right, where no real token looks, and that keeps the call on
/// the fused path. Only decoding rows of different lengths needs one.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, head_dim]`
/// - `key`, `value`: `[batch, kv_heads, keys, head_dim]`, with `kv_heads` a divisor of `heads`
/// - `hidden`: `[batch, 1, 1, keys]`, `true` where nothing may look
/// - output: `[batch, heads, queries, head_dim]`
#[must_use]
pub fn causal_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, queries, _] = query.dims();
    let keys = key.dims()[2];
    let causal = |queries| AttentionModuleOptions {
        is_causal: queries > 1,
        ..Default::default()
    };
    let on_host = query.device().memory_capacity().is_none();
    if on_host && queries == 1 && query.dtype() == DType::F32 {
        return look_once(query, key, value, hidden);
    }
    if on_host && queries > QUERY_BLOCK && hidden.is_none() {
        let blocks = (0..queries).step_by(QUERY_BLOCK).map(|from| {
            let to = queries.min(from + QUERY_BLOCK);
            let seen = 0..keys - queries + to;
            attention(
                query.clone().slice_dim(2, from..to),
                key.clone().slice_dim(2, seen.clone()),
                value.clone().slice_dim(2, seen),
                None,
                None,
                causal(to - from),
            )
        });
        return Tensor::cat(blocks.collect(), 2);
    }
    let hidden = hidden.map(|mask| mask.expand([batch, heads, queries, keys]));
    attention(query, key, value, hidden, None, causal(queries))
}

/// Queries that look at once on the CPU. Burn's CPU attention works out every score, also of the future, and under autodiff it
/// keeps them; blocks leave out most of the future.
const QUERY_BLOCK: usize = 128;

/// Scores of a head that the CPU works out, and under autodiff keeps, for a row of `seq` tokens.
#[must_use]
pub fn keys_seen_on_the_host(seq: usize) -> usize {
    let blocks = (0..seq).step_by(QUERY_BLOCK);
    blocks
        .map(|from| {
            let to = seq.min(from + QUERY_BLOCK);
            (to - from) * to
        })
        .sum()
}

/// Attention of one query a row on the CPU, where Burn's would first copy all keys and values out of the cache: products read
/// them where they lie.
fn look_once(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, _, dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    // The query heads of a key head are the rows of one product.
    let rows = [batch, kv_heads, heads / kv_heads, dim];
    let query = query.reshape(rows) / (dim as f64).sqrt();
    let mut scores = query.matmul(key.swap_dims(2, 3));
    if let Some(hidden) = hidden {
        let hidden = hidden.expand([batch, kv_heads, rows[2], keys]);
        scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
    }
    softmax(scores, 3)
        .matmul(value)
        .reshape([batch, heads, 1, dim])
}

/// Attention of a decoder block.
#[derive(Module, Debug)]
pub struct LlamaAttention {
    /// Queries.
    pub q_proj: LoraLinear,
    /// Keys.
    pub k_proj: LoraLinear,
    /// Values.
    pub v_proj: LoraLinear,
    /// Output.
    pub o_proj: LoraLinear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl LlamaAttention {
    pub(crate) fn new(config: &LlamaConfig, device: &Device) -> Self {
        let kv = config.num_key_value_heads * config.head_dim();
        let linear = |input, output| LoraLinear::new(input, output, device);
        Self {
            q_proj: linear(config.hidden_size, config.hidden_size),
            k_proj: linear(config.hidden_size, kv),
            v_proj: linear(config.hidden_size, kv),
            o_proj: linear(config.hidden_size, config.hidden_size),
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
        }
    }

    /// # Shapes
    /// - `hidden_states`: `[batch, seq, hidden]`
    /// - `hidden`: `[batch, 1, 1, cached + seq]`, `true` where nothing may look
    /// - output: `[batch, seq, hidden]`
    #[must_use]
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        layout: &SequenceLayout,
        cache: Option<(&mut LayerCache, usize)>,
        hidden: Option<Tensor<4, Bool>>,
        dropout: AdapterDropout,
    ) -> Tensor<3> {
        let split = |x: Tensor<3>, heads| {
            let x = layout.apart(x);
            let [rows, seq, _] = x.dims();
            x.reshape([rows, seq, heads, self.head_dim]).swap_dims(1, 2)
        };
        let rotary = layout.rotary();
        let q = self
            .q_proj
            .forward(hidden_states.clone(), dropout.stream(0));
        let k = self
            .k_proj
            .forward(hidden_states.clone(), dropout.stream(1));
        let v = self.v_proj.forward(hidden_states, dropout.stream(2));
        let q = rotary.apply(split(q, self.heads));
        let k = rotary.apply(split(k, self.kv_heads));
        let v = split(v, self.kv_heads);
        let (k, v) = match cache {
            Some((cache, length)) => cache.append(length, k, v),
            None => (k, v),
        };
        let mixed = causal_attention(q, k, v, hidden).swap_dims(1, 2);
        let [rows, seq, heads, head_dim] = mixed.dims();
        let mixed = layout.together(mixed.reshape([rows, seq, heads * head_dim]));
        self.o_proj.forward(mixed, dropout.stream(3))
    }

    /// How much some tokens look at every token: the softmax that [`LlamaAttention::forward`] never forms, for looking into a
    /// model. Computed in f32 from queries and keys made again, of a batch of one row that starts at position 0.
    ///
    /// # Shapes
    /// - `hidden_states`: `[1, seq, hidden]`
    /// - output: `[heads, positions, seq]`; each row sums to 1 and is 0 behind its position
    ///
    /// # Panics
    /// If there are several rows, or a position lies outside.
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
        let dropout = AdapterDropout::Off;
        let split = |x: Tensor<3>, heads| {
            let x = x.reshape([1, seq, heads, self.head_dim]).swap_dims(1, 2);
            rotary.apply(x).cast(DType::F32)
        };
        let q = split(
            self.q_proj.forward(hidden_states.clone(), dropout.clone()),
            self.heads,
        );
        let k = split(self.k_proj.forward(hidden_states, dropout), self.kv_heads);
        let rows: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [positions.len()]), &device);
        let q = q.select(2, rows);
        // Each key head serves as many query heads in a row.
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
        let values = attention
            .v_proj
            .forward(x.clone(), AdapterDropout::Off)
            .reshape([seq, 2, 8])
            .swap_dims(0, 1)
            .reshape([2, 1, seq, 8])
            .repeat_dim(1, 2)
            .reshape([4, seq, 8]);
        let mixed = found.matmul(values).swap_dims(0, 1).reshape([1, seq, 32]);
        let expected = attention.o_proj.forward(mixed, AdapterDropout::Off);
        let layout = SequenceLayout::of_positions(rotary);
        let output = attention.forward(x, &layout, None, None, AdapterDropout::Off);
        let difference = (output - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn a_look_in_the_cache_is_the_fused_attention() {
        let device = Device::flex();
        let random =
            |shape: [usize; 4]| Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (q, whole_k, whole_v) = (
            random([2, 4, 1, 8]),
            random([2, 2, 50, 8]),
            random([2, 2, 50, 8]),
        );
        // As the cache hands them out: a view of what is written.
        let (k, v) = (whole_k.slice_dim(2, 0..33), whole_v.slice_dim(2, 0..33));
        let hidden = (0..66).map(|at| at / 33 == 1 && (10..20).contains(&(at % 33)));
        let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [2, 1, 1, 33]);
        for hidden in [None, Some(Tensor::<4, Bool>::from_data(hidden, &device))] {
            let found = causal_attention(q.clone(), k.clone(), v.clone(), hidden.clone());
            let hidden = hidden.map(|hidden| hidden.expand([2, 4, 1, 33]));
            let options = AttentionModuleOptions::default();
            let expected = attention(q.clone(), k.clone(), v.clone(), hidden, None, options);
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{difference}");
        }
    }

    #[test]
    fn blocks_of_queries_change_neither_output_nor_gradients() {
        let device = Device::flex().autodiff();
        let (queries, keys) = (2 * QUERY_BLOCK + 1, 2 * QUERY_BLOCK + 40);
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
