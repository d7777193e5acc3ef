//! How the conversations of a batch are laid out: one per row with padding, or packed into one row.

use burn::tensor::{Bool, Device, Int, Tensor};

use crate::{LlamaConfig, Rotary, RowPositions, int_tensor};

/// The layout of a batch: the position of each token in its conversation, and the tokens it may
/// attend to.
///
/// ```text
/// conversations  a0 a1 a2   and   b0 b1          `.` is padding
///
///                padded: one per row             packed: all in one row
/// tokens         a0 a1 a2                        a0 a1 a2 b0 b1
///                b0 b1 .
/// positions      0  1  2                         0  1  2  0  1
///                0  1  2
///
/// attention         a0 a1 a2       b0 b1 .          a0 a1 a2 b0 b1
/// (row = query,  a0 x           b0 x             a0 x
/// column = key,  a1 x  x        b1 x  x          a1 x  x
/// x = attends)   a2 x  x  x     .  x  x  x       a2 x  x  x
///                                                b0          x
///                                                b1          x  x
/// ```
///
/// All modules but attention treat each token on its own, so packing does not concern them.
/// Attention unpacks the tokens into one row per conversation, attends causally, and packs the
/// result again:
///
/// ```text
/// packed         a0 a1 a2 b0 b1        [1, 5, width]
/// unpack         a0 a1 a2              [2, 3, width]   gathers places 0 1 2 | 3 4 3
///                b0 b1 (b0)                            padding repeats the first token
/// pack           a0 a1 a2 b0 b1        [1, 5, width]   gathers slots  0 1 2 3 4
/// ```
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
/// let both = model.forward_with_layout(Tensor::cat(vec![first, second], 1), &packed);
/// let difference = (both.slice_dim(1, 3..5) - alone).abs().max().into_scalar::<f32>();
/// assert!(difference < 1e-5);
/// ```
#[derive(Clone, Debug)]
pub struct SequenceLayout {
    /// Rotary embeddings of the positions in a conversation.
    rotary: Rotary,
    /// `[batch, 1, 1, keys]`, `true` = masked: padding before the query, as decoding has it.
    mask: Option<Tensor<4, Bool>>,
    packed: Option<Packed>,
}

/// How packed tokens are gathered for attention.
#[derive(Clone, Debug)]
struct Packed {
    conversations: usize,
    /// Slots per conversation when unpacked.
    longest: usize,
    /// For each unpacked slot, its place in the packed row, `[conversations * longest]`.
    unpack: Tensor<1, Int>,
    /// For each place in the packed row, its unpacked slot, `[packed length]`.
    pack: Tensor<1, Int>,
}

impl SequenceLayout {
    /// One conversation per row, right-padded to `seq` tokens. Causal attention keeps real tokens
    /// from attending to the padding, so there is no mask.
    #[must_use]
    pub fn padded(config: &LlamaConfig, seq: usize, device: &Device) -> Self {
        Self::of_positions(Rotary::range(config, 0, seq, device), None)
    }

    /// As [`SequenceLayout::padded`], with where each row is in its sequence: rows of different
    /// prompts may differ where the context is stretched ([`LongContext`](crate::LongContext)).
    ///
    /// # Panics
    /// If there is no row.
    #[must_use]
    pub fn rows(config: &LlamaConfig, rows: &[RowPositions], seq: usize, device: &Device) -> Self {
        Self::of_positions(Rotary::rows(config, rows, seq, device), None)
    }

    /// Conversations of the given lengths packed into one row. The packed row, and the unpacked
    /// rows of attention, are right-padded to a multiple of `pad_to_multiple_of` tokens.
    ///
    /// # Panics
    /// If there is no conversation, or `pad_to_multiple_of` is 0.
    #[must_use]
    pub fn packed(
        config: &LlamaConfig,
        lengths: &[usize],
        pad_to_multiple_of: usize,
        device: &Device,
    ) -> Self {
        let longest = *lengths.iter().max().expect("a batch has a conversation");
        let longest = longest.next_multiple_of(pad_to_multiple_of);
        let mut unpack = Vec::with_capacity(lengths.len() * longest);
        let mut pack = Vec::with_capacity(lengths.iter().sum());
        for (conversation, &length) in lengths.iter().enumerate() {
            let start = pack.len() as i64;
            unpack.extend(start..start + length as i64);
            // No real token attends to the padding: its content does not matter.
            unpack.resize((conversation + 1) * longest, start);
            let slot = (conversation * longest) as i64;
            pack.extend(slot..slot + length as i64);
        }
        let row = |&prompt: &usize| RowPositions { start: 0, prompt };
        let rows: Vec<RowPositions> = lengths.iter().map(row).collect();
        // The padding of the packed row is not supervised: its content does not matter either.
        pack.resize(pack.len().next_multiple_of(pad_to_multiple_of), 0);
        Self {
            rotary: Rotary::rows(config, &rows, longest, device),
            mask: None,
            packed: Some(Packed {
                conversations: lengths.len(),
                longest,
                unpack: int_tensor(&unpack, device),
                pack: int_tensor(&pack, device),
            }),
        }
    }

    /// Rows of tokens at the given positions, not packed.
    pub(crate) fn of_positions(rotary: Rotary, mask: Option<Tensor<4, Bool>>) -> Self {
        Self {
            rotary,
            mask,
            packed: None,
        }
    }

    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// `[batch, 1, 1, keys]`, `true` = masked.
    pub(crate) fn mask(&self) -> Option<Tensor<4, Bool>> {
        self.mask.clone()
    }

    /// `[1, packed length, width]` to `[conversations, longest, width]`; other layouts stay as they
    /// are.
    pub(crate) fn unpack(&self, x: Tensor<3>) -> Tensor<3> {
        let Some(packed) = &self.packed else { return x };
        let [_, tokens, width] = x.dims();
        x.reshape([tokens, width])
            .select(0, packed.unpack.clone())
            .reshape([packed.conversations, packed.longest, width])
    }

    /// `[conversations, longest, width]` to `[1, packed length, width]`; other layouts stay as they
    /// are.
    pub(crate) fn pack(&self, x: Tensor<3>) -> Tensor<3> {
        let Some(packed) = &self.packed else { return x };
        let [rows, longest, width] = x.dims();
        let [tokens] = packed.pack.dims();
        x.reshape([rows * longest, width])
            .select(0, packed.pack.clone())
            .reshape([1, tokens, width])
    }
}
