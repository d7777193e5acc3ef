//! The key/value cache of incremental decoding.

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use crate::{LlamaConfig, RowPositions, int_tensor};

/// Keys and values of one block, allocated once and filled from the left.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    /// `[batch, kv_heads, capacity, head_dim]`. `None` only inside [`LayerCache::append`]: moving
    /// the tensor out lets `slice_assign` reuse its buffer.
    keys: Option<Tensor<4>>,
    /// As `keys`.
    values: Option<Tensor<4>>,
    /// Slots written in every row.
    length: usize,
}

impl LayerCache {
    fn new(shape: [usize; 4], dtype: DType, device: &Device) -> Self {
        let zeros = || Some(Tensor::zeros(shape, (device, dtype)));
        Self {
            keys: zeros(),
            values: zeros(),
            length: 0,
        }
    }

    /// Appends the keys and values of new tokens and returns those of all tokens so far.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[batch, kv_heads, new, head_dim]`
    /// - output: two of `[batch, kv_heads, length + new, head_dim]`
    ///
    /// # Panics
    /// If they exceed the capacity.
    pub(crate) fn append(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let start = self.length;
        let end = start + keys.dims()[2];
        let write = |store: &mut Option<Tensor<4>>, new: Tensor<4>| {
            let [batch, heads, _, dim] = new.dims();
            let whole = store.take().expect("a cache outlives its writes");
            let capacity = whole.dims()[2];
            assert!(
                end <= capacity,
                "the key/value cache holds {capacity} tokens, {end} are needed"
            );
            let new = new.cast(whole.dtype());
            let whole = whole.slice_assign([0..batch, 0..heads, start..end, 0..dim], new);
            let written = whole.clone().slice_dim(2, 0..end);
            *store = Some(whole);
            written
        };
        let written = (write(&mut self.keys, keys), write(&mut self.values, values));
        self.length = end;
        written
    }

    fn select_rows(&mut self, rows: &[i64]) {
        for store in [&mut self.keys, &mut self.values] {
            let whole = store.take().expect("a cache outlives its writes");
            let rows = int_tensor(rows, &whole.device());
            *store = Some(whole.select(0, rows));
        }
    }
}

/// Keys and values of all blocks, for a batch of prompts and the tokens decoded after them
/// ([`LlamaModel::new_cache`](crate::LlamaModel::new_cache)).
///
/// Prompts of different lengths are right-padded to the longest. Their padding keeps its slots:
/// decoded tokens follow behind it, and a mask excludes it. Prompts of one length need no mask.
///
/// ```text
/// prompts of 4 and 2 tokens, then 2 decoded tokens (x, y); `.` is padding
///
/// slot         0   1   2   3   4   5
/// row 0        a0  a1  a2  a3  x0  y0      positions  0 1 2 3 4 5
/// row 1        b0  b1  .   .   x1  y1      positions  0 1 - - 2 3
///              └─ prefill ──┘  └decode┘
/// mask of y1   0   0   1   1   0   0       1 = masked
/// ```
///
/// The cache counts its own tokens, so [`LlamaModel::prefill`](crate::LlamaModel::prefill) and
/// [`LlamaModel::decode`](crate::LlamaModel::decode) need no positions, and they refuse to be
/// called in a wrong order.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    /// Tokens of each prompt.
    prompt_lengths: Vec<usize>,
    /// Slots of the prompts: tokens of the longest one.
    prompt_slots: usize,
    capacity: usize,
}

impl KvCache {
    pub(crate) fn new(
        config: &LlamaConfig,
        prompt_lengths: &[usize],
        max_new_tokens: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        let prompt_slots = prompt_lengths.iter().copied().max().unwrap_or_default();
        let capacity = prompt_slots + max_new_tokens;
        let shape = [
            prompt_lengths.len(),
            config.num_key_value_heads,
            capacity,
            config.head_dim(),
        ];
        Self {
            layers: (0..config.num_hidden_layers)
                .map(|_| LayerCache::new(shape, dtype, device))
                .collect(),
            prompt_lengths: prompt_lengths.to_vec(),
            prompt_slots,
            capacity,
        }
    }

    /// Slots written so far, in every row.
    #[must_use]
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.length)
    }

    /// Slots of each row: the longest prompt and the new tokens.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens of each row so far, padding left out; this is the position of its next token.
    #[must_use]
    pub fn row_lengths(&self) -> Vec<usize> {
        let decoded = self.length().saturating_sub(self.prompt_slots);
        let prefilled = self.length().min(self.prompt_slots);
        self.prompt_lengths
            .iter()
            .map(|&prompt| prompt.min(prefilled) + decoded)
            .collect()
    }

    /// Keeps the given rows, in the given order; a row may be repeated or left out. Beam search
    /// continues its best hypotheses this way.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select_rows(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.prompt_lengths.len()) {
            return;
        }
        self.prompt_lengths = rows.iter().map(|&row| self.prompt_lengths[row]).collect();
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        for layer in &mut self.layers {
            layer.select_rows(&rows);
        }
    }

    /// The positions of a prefill of `chunk` tokens.
    ///
    /// # Panics
    /// If the prompts have no more so many tokens, because they are in the cache already.
    pub(crate) fn prefill_positions(&self, chunk: usize) -> Vec<RowPositions> {
        let start = self.length();
        assert!(
            start + chunk <= self.prompt_slots,
            "prefill of {chunk} tokens after {start}: the longest prompt has {} tokens",
            self.prompt_slots
        );
        let row = |&prompt: &usize| RowPositions { start, prompt };
        self.prompt_lengths.iter().map(row).collect()
    }

    /// The position of the next token of each row.
    ///
    /// # Panics
    /// If a part of the prompts is not in the cache yet.
    pub(crate) fn decode_positions(&self) -> Vec<RowPositions> {
        assert!(
            self.length() >= self.prompt_slots,
            "decode before the end of the prefill: {} of {} prompt tokens are in the cache",
            self.length(),
            self.prompt_slots
        );
        let prompts = self.prompt_lengths.iter();
        let rows = self.row_lengths().into_iter().zip(prompts);
        rows.map(|(start, &prompt)| RowPositions { start, prompt })
            .collect()
    }

    /// The mask of the next token, `[batch, 1, 1, length + 1]`, `true` = masked: the padding of the
    /// prompts. `None` where all prompts have one length.
    pub(crate) fn decode_mask(&self, device: &Device) -> Option<Tensor<4, Bool>> {
        let prompt_slots = self.prompt_slots;
        if self.prompt_lengths.iter().all(|&row| row == prompt_slots) {
            return None;
        }
        let slots = self.length() + 1;
        let mask: Vec<bool> = self
            .prompt_lengths
            .iter()
            .flat_map(|&row| (0..slots).map(move |slot| (row..prompt_slots).contains(&slot)))
            .collect();
        let data = TensorData::new(mask, [self.prompt_lengths.len(), 1, 1, slots]);
        Some(Tensor::from_data(data, device))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};

    use crate::{LlamaConfig, LlamaModel};

    const LENGTHS: [usize; 2] = [5, 3];

    fn model() -> LlamaModel {
        LlamaConfig::tiny().init(&Device::flex())
    }

    /// `[2, seq, hidden]`.
    fn embeds(model: &LlamaModel, seq: usize) -> Tensor<3> {
        let shape = [2, seq, model.hidden_size()];
        Tensor::random(shape, Distribution::Default, &Device::flex())
    }

    fn distance(a: Tensor<3>, b: Tensor<3>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    #[test]
    fn decoding_equals_a_forward_pass_of_each_row() {
        let model = model();
        let prompts = embeds(&model, 5);
        let new = embeds(&model, 2);
        for chunk in [5, 2] {
            let mut cache = model.new_cache(&LENGTHS, 2);
            for start in (0..5).step_by(chunk) {
                let end = 5.min(start + chunk);
                let _ = model.prefill(prompts.clone().slice_dim(1, start..end), &mut cache);
                assert_eq!(cache.row_lengths(), [end, end.min(3)]);
            }
            for step in 0..2 {
                let embeds = new.clone().slice_dim(1, step..step + 1);
                let found = model.decode(embeds, &mut cache);
                assert_eq!(cache.row_lengths(), [6 + step, 4 + step]);
                for (row, length) in LENGTHS.into_iter().enumerate() {
                    let prompt = prompts.clone().slice([row..row + 1, 0..length]);
                    let new = new.clone().slice([row..row + 1, 0..step + 1]);
                    let alone = model.forward(Tensor::cat(vec![prompt, new], 1));
                    let at = length + step;
                    let expected = alone.slice_dim(1, at..at + 1);
                    let found = found.clone().slice_dim(0, row..row + 1);
                    let distance = distance(found, expected);
                    assert!(distance < 1e-5, "row {row}, step {step}: {distance}");
                }
            }
        }
    }

    #[test]
    fn rows_may_be_selected_after_the_longest_is_dropped() {
        let model = model();
        let prompts = embeds(&model, 5);
        let new = embeds(&model, 1);
        let mut cache = model.new_cache(&LENGTHS, 1);
        let _ = model.prefill(prompts.clone(), &mut cache);
        cache.select_rows(&[1, 1]);
        assert_eq!(cache.row_lengths(), [3, 3]);
        let found = model.decode(new.clone(), &mut cache);
        for row in 0..2 {
            let prompt = prompts.clone().slice([1..2, 0..3]);
            let new = new.clone().slice_dim(0, row..row + 1);
            let alone = model.forward(Tensor::cat(vec![prompt, new], 1));
            let found = found.clone().slice_dim(0, row..row + 1);
            assert!(distance(found, alone.slice_dim(1, 3..4)) < 1e-5);
        }
    }

    #[test]
    #[should_panic(expected = "decode before the end of the prefill: 2 of 5 prompt tokens")]
    fn decoding_before_the_end_of_the_prefill_is_refused() {
        let model = model();
        let mut cache = model.new_cache(&LENGTHS, 2);
        let _ = model.prefill(embeds(&model, 2), &mut cache);
        let _ = model.decode(embeds(&model, 1), &mut cache);
    }

    #[test]
    #[should_panic(expected = "prefill of 1 tokens after 6: the longest prompt has 5 tokens")]
    fn prefill_after_decoding_is_refused() {
        let model = model();
        let mut cache = model.new_cache(&LENGTHS, 2);
        let _ = model.prefill(embeds(&model, 5), &mut cache);
        let _ = model.decode(embeds(&model, 1), &mut cache);
        let _ = model.prefill(embeds(&model, 1), &mut cache);
    }

    #[test]
    #[should_panic(expected = "the key/value cache holds 5 tokens, 6 are needed")]
    fn decoding_beyond_the_capacity_is_refused() {
        let model = model();
        let mut cache = model.new_cache(&LENGTHS, 0);
        let _ = model.prefill(embeds(&model, 5), &mut cache);
        let _ = model.decode(embeds(&model, 1), &mut cache);
    }
}
