//! How the tokens of a batch stand: a conversation a row, or all conversations in one row without padding.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{LlamaConfig, Rotary};

/// Which tokens of a batch see each other, and where each stands in its conversation.
///
/// Everything but attention treats a token alone, so it does not matter in which row it stands. Attention takes packed tokens
/// apart into a row a conversation, and puts what it made of them back: no token sees another conversation.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use gallery_gpt_llama::{LlamaConfig, SequenceLayout};
///
/// let device = Device::flex();
/// let config = LlamaConfig::tiny();
/// let model = config.init(&device);
/// let first = Tensor::random([1, 3, config.hidden_size], Distribution::Default, &device);
/// let second = Tensor::random([1, 2, config.hidden_size], Distribution::Default, &device);
/// let alone = model.forward(second.clone());
/// let packed = SequenceLayout::packed(&config, &[3, 2], 1, &device);
/// let both = model.forward_in(Tensor::cat(vec![first, second], 1), &packed);
/// let difference = (both.slice_dim(1, 3..5) - alone).abs().max().into_scalar::<f32>();
/// assert!(difference < 1e-5);
/// ```
#[derive(Clone, Debug)]
pub struct SequenceLayout {
    /// Of the positions of a conversation.
    rotary: Rotary,
    packed: Option<Packed>,
}

/// Where packed tokens go for attention.
#[derive(Clone, Debug)]
struct Packed {
    conversations: usize,
    longest: usize,
    /// For each slot of a row a conversation, its place in the one row.
    apart: Tensor<1, Int>,
    /// For each place of the one row, its slot.
    together: Tensor<1, Int>,
}

impl SequenceLayout {
    /// A conversation a row, padded on the right to `seq` tokens, where no real token looks.
    #[must_use]
    pub fn padded(config: &LlamaConfig, seq: usize, device: &Device) -> Self {
        Self::of_positions(Rotary::range(config, 0, seq, device))
    }

    /// One row of conversations of some lengths, one behind the other; the row, and the rows of attention, are lengthened to a
    /// multiple of some tokens.
    ///
    /// # Panics
    /// If there is no conversation, or `multiple` is 0.
    #[must_use]
    pub fn packed(
        config: &LlamaConfig,
        lengths: &[usize],
        multiple: usize,
        device: &Device,
    ) -> Self {
        let longest = *lengths.iter().max().expect("a row has a conversation");
        let longest = longest.next_multiple_of(multiple);
        let mut apart = Vec::with_capacity(lengths.len() * longest);
        let mut together = Vec::with_capacity(lengths.iter().sum());
        for (conversation, &length) in lengths.iter().enumerate() {
            let start = together.len() as i64;
            apart.extend(start..start + length as i64);
            // What stands on padded slots is never looked at; any token will do.
            apart.resize((conversation + 1) * longest, start);
            let slot = (conversation * longest) as i64;
            together.extend(slot..slot + length as i64);
        }
        // Nor does anything look at what lengthens the one row.
        together.resize(together.len().next_multiple_of(multiple), 0);
        let ints = |values: Vec<i64>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        Self {
            rotary: Rotary::range(config, 0, longest, device),
            packed: Some(Packed {
                conversations: lengths.len(),
                longest,
                apart: ints(apart),
                together: ints(together),
            }),
        }
    }

    /// Rows whose tokens stand at some positions.
    pub(crate) fn of_positions(rotary: Rotary) -> Self {
        Self {
            rotary,
            packed: None,
        }
    }

    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// `[batch, seq, width]` to `[conversations, longest, width]`.
    pub(crate) fn apart(&self, x: Tensor<3>) -> Tensor<3> {
        let Some(packed) = &self.packed else { return x };
        let [_, tokens, width] = x.dims();
        x.reshape([tokens, width])
            .select(0, packed.apart.clone())
            .reshape([packed.conversations, packed.longest, width])
    }

    /// And back.
    pub(crate) fn together(&self, x: Tensor<3>) -> Tensor<3> {
        let Some(packed) = &self.packed else { return x };
        let [rows, longest, width] = x.dims();
        let [tokens] = packed.together.dims();
        x.reshape([rows * longest, width])
            .select(0, packed.together.clone())
            .reshape([1, tokens, width])
    }
}
