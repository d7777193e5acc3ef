//! Keys and values of the tokens already seen.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::LlamaConfig;

/// Keys and values of one block, allocated once.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// `[batch, kv_heads, capacity, head_dim]`; taken out while it is written, so that it is written in place.
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl LayerCache {
    /// Writes the keys and values of new tokens behind `length` older ones and returns all of them.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[batch, kv_heads, new, head_dim]`
    /// - output: two of `[batch, kv_heads, length + new, head_dim]`
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn append(
        &mut self,
        length: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let written = |store: &mut Option<Tensor<4>>, new: Tensor<4>| {
            let [batch, heads, count, dim] = new.dims();
            let whole = store.take().expect("a cache outlives its writes");
            let capacity = whole.dims()[2];
            let end = length + count;
            assert!(
                end <= capacity,
                "the key/value cache holds {capacity} tokens, {end} are needed"
            );
            let whole = whole.slice_assign([0..batch, 0..heads, length..end, 0..dim], new);
            let seen = whole.clone().slice_dim(2, 0..end);
            *store = Some(whole);
            seen
        };
        (
            written(&mut self.keys, keys),
            written(&mut self.values, values),
        )
    }
}

/// Keys and values of all blocks.
///
/// Rows of different lengths are stored right-padded: the padding of the prompts stays where it is, later tokens are
/// written behind the longest row, and a mask hides the gap. Rows of one length need no mask.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    /// Slots written in every row.
    length: usize,
    /// Tokens of each row that are real.
    row_lengths: Vec<usize>,
    /// Slots written by the prompts, where rows may have a gap.
    prefilled: usize,
    /// Tokens of each prompt.
    prefilled_rows: Vec<usize>,
    capacity: usize,
}

impl KvCache {
    /// Room for `capacity` tokens in each of `batch` rows.
    #[must_use]
    pub fn new(
        config: &LlamaConfig,
        batch: usize,
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        let zeros = || {
            let shape = [
                batch,
                config.num_key_value_heads,
                capacity,
                config.head_dim(),
            ];
            Some(Tensor::zeros(shape, (device, dtype)))
        };
        Self {
            layers: (0..config.num_hidden_layers)
                .map(|_| LayerCache {
                    keys: zeros(),
                    values: zeros(),
                })
                .collect(),
            length: 0,
            row_lengths: vec![0; batch],
            prefilled: 0,
            prefilled_rows: Vec::new(),
            capacity,
        }
    }

    /// Slots written so far.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Slots there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Position of the next token of each row.
    #[must_use]
    pub fn row_lengths(&self) -> &[usize] {
        &self.row_lengths
    }

    /// Counts slots that were written in every row.
    pub(crate) fn extend(&mut self, written: usize) {
        self.length += written;
    }

    /// Notes the real lengths of the rows once the prompts are read.
    ///
    /// # Panics
    /// If there are not as many lengths as rows, or one is longer than what was written.
    pub fn end_prefill(&mut self, rows: &[usize]) {
        assert_eq!(rows.len(), self.row_lengths.len(), "one length per row");
        assert!(
            rows.iter().all(|&row| row <= self.length),
            "a row is longer than the {} slots written",
            self.length
        );
        self.prefilled = self.length;
        self.row_lengths = rows.to_vec();
        self.prefilled_rows = rows.to_vec();
    }

    /// Goes on with copies of some rows, in the given order; a row may be copied several times or be left out.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select_rows(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.row_lengths.len()) {
            return;
        }
        let pick = |lengths: &Vec<usize>| rows.iter().map(|&row| lengths[row]).collect();
        self.row_lengths = pick(&self.row_lengths);
        self.prefilled_rows = pick(&self.prefilled_rows);
        let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        for layer in &mut self.layers {
            for store in [&mut layer.keys, &mut layer.values] {
                let whole = store.take().expect("a cache outlives its writes");
                let data = TensorData::new(indices.clone(), [rows.len()]);
                let indices = Tensor::<1, Int>::from_data(data, &whole.device());
                *store = Some(whole.select(0, indices));
            }
        }
    }

    pub(crate) fn advance(&mut self) {
        self.length += 1;
        for row in &mut self.row_lengths {
            *row += 1;
        }
    }

    /// What the next token must not look at, `[batch, 1, 1, length + 1]`, `true` = hidden; nothing where no row has a gap.
    pub(crate) fn mask(&self, device: &Device) -> Option<Tensor<4, Bool>> {
        if self.prefilled_rows.iter().all(|&row| row == self.prefilled) {
            return None;
        }
        let slots = self.length + 1;
        let hidden: Vec<bool> = self
            .prefilled_rows
            .iter()
            .flat_map(|&row| (0..slots).map(move |slot| (row..self.prefilled).contains(&slot)))
            .collect();
        let data = TensorData::new(hidden, [self.prefilled_rows.len(), 1, 1, slots]);
        Some(Tensor::from_data(data, device))
    }
}
