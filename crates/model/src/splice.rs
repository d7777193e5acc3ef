//! Where the tokens and picture features of a batch go (LLaVA's
//! `prepare_inputs_labels_for_multimodal`): planned on the host, carried out by one gather.

use std::str::FromStr;

use burn::tensor::Device;
use gallery_gpt_llama::{LlamaConfig, RowPositions, SequenceLayout};
use gallery_gpt_text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX, UnknownName, expanded_length};
use serde::{Deserialize, Serialize};

use crate::SpliceError;

/// The plan of a batch: each image placeholder of its token ids is replaced by the features of the
/// next picture. [`GalleryModel::plan`](crate::GalleryModel::plan) makes one,
/// [`GalleryModel::embed`](crate::GalleryModel::embed) carries it out.
///
/// ```text
/// rows of ids      [1, 9, -200, 7]  and  [1, 8]       -200 is the placeholder of a picture,
///                                                     here of 4 features
/// text ids         1  9  7  1  8                      embedded: rows 0 to 4 of the table
/// features         p0 p1 p2 p3                        projected: rows 5 to 8 of the table
///
/// sources, padded  0  1  5  6  7  8  2                1  9  p0 p1 p2 p3 7
///                  3  4  .  .  .  .  .                1  8  .  .  .  .  .
/// sources, packed  0  1  5  6  7  8  2  3  4          1  9  p0 p1 p2 p3 7  1  8
/// ```
///
/// ```
/// use gallery_gpt_model::{Packing, SplicePlan};
///
/// let plan = SplicePlan::new(&[vec![1, 9, -200, 7], vec![1, 8]], 4, 1, 100)?;
/// assert_eq!(plan.text_ids(), [1, 9, 7, 1, 8]);
/// assert_eq!(plan.row_lengths(), [7, 2]);
/// assert_eq!((plan.batch(), plan.seq()), (2, 7));
/// let packed = plan.with_packing(Packing::OneRow);
/// assert_eq!((packed.batch(), packed.seq()), (1, 9));
/// assert_eq!(packed.sources(), [0, 1, 5, 6, 7, 8, 2, 3, 4]);
/// # Ok::<(), gallery_gpt_model::SpliceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplicePlan {
    rows: Vec<Vec<i64>>,
    /// Tokens of each row, pictures expanded.
    row_lengths: Vec<usize>,
    tokens_per_picture: usize,
    packing: Packing,
    pad_to_multiple_of: usize,
}

/// Whether the conversations of a batch are packed. Loss and gradients are the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One conversation per row, right-padded to the longest.
    #[default]
    Off,
    /// All conversations packed into one row, without padding. Attention and positions stay inside
    /// each conversation.
    OneRow,
}

impl FromStr for Packing {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "off" | "false" => Ok(Self::Off),
            "one_row" | "true" => Ok(Self::OneRow),
            _ => Err(UnknownName::new("packing", name, "off or one_row")),
        }
    }
}

/// Supervised tokens of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplicedLabels {
    /// Slots whose hidden states predict the supervised tokens, counted over all rows of the batch.
    pub slots: Vec<i64>,
    /// The token that each of them has to predict.
    pub targets: Vec<i64>,
}

impl SplicePlan {
    /// Plans one row per list of ids, right-padded to the longest. Each [`IMAGE_TOKEN_INDEX`]
    /// stands for a picture of `tokens_per_picture` features; pictures are taken in order across
    /// the rows.
    ///
    /// # Errors
    /// The number of image placeholders differs from the number of pictures, an id is outside the
    /// vocabulary, or a row is empty.
    pub fn new(
        rows: &[Vec<i64>],
        tokens_per_picture: usize,
        pictures: usize,
        vocab_size: usize,
    ) -> Result<Self, SpliceError> {
        if rows.is_empty() {
            return Err(SpliceError::NoRows);
        }
        let placeholders = rows
            .iter()
            .flatten()
            .filter(|&&id| id == IMAGE_TOKEN_INDEX)
            .count();
        if placeholders != pictures {
            return Err(SpliceError::Pictures {
                placeholders,
                pictures,
            });
        }
        for (row, ids) in rows.iter().enumerate() {
            if ids.is_empty() {
                return Err(SpliceError::EmptyRow { row });
            }
            let known = |id| usize::try_from(id).is_ok_and(|id| id < vocab_size);
            let unknown = |&&id: &&i64| id != IMAGE_TOKEN_INDEX && !known(id);
            if let Some(position) = ids.iter().position(|id| unknown(&id)) {
                return Err(SpliceError::UnknownId {
                    row,
                    position,
                    id: ids[position],
                    vocab_size,
                });
            }
        }
        Ok(Self {
            rows: rows.to_vec(),
            row_lengths: rows
                .iter()
                .map(|ids| expanded_length(ids, tokens_per_picture))
                .collect(),
            tokens_per_picture,
            packing: Packing::Off,
            pad_to_multiple_of: 1,
        })
    }

    /// Sets the packing.
    #[must_use]
    pub fn with_packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// Right-pads all rows to a multiple of some tokens. A device that tunes its kernels for each
    /// shape, and keeps memory for it, then meets few shapes.
    ///
    /// ```
    /// use gallery_gpt_model::SplicePlan;
    ///
    /// let plan = SplicePlan::new(&[vec![1, 9, 7], vec![1, 8]], 4, 0, 100)?;
    /// assert_eq!(plan.pad_to_multiple_of(8).seq(), 8);
    /// # Ok::<(), gallery_gpt_model::SpliceError>(())
    /// ```
    ///
    /// # Panics
    /// If `multiple` is 0.
    #[must_use]
    pub fn pad_to_multiple_of(mut self, multiple: usize) -> Self {
        assert!(multiple > 0, "rows are padded to a multiple of 0 tokens");
        self.pad_to_multiple_of = multiple;
        self
    }

    /// Ids of all text tokens, row by row.
    #[must_use]
    pub fn text_ids(&self) -> Vec<i64> {
        let ids = self.rows.iter().flatten().copied();
        ids.filter(|&id| id != IMAGE_TOKEN_INDEX).collect()
    }

    /// For each slot of the batch, its row in the table of text embeddings followed by picture
    /// features, `batch * seq` in all.
    #[must_use]
    pub fn sources(&self) -> Vec<i64> {
        let seq = self.seq();
        let mut sources = Vec::with_capacity(self.batch() * seq);
        let mut next_text = 0;
        let mut next_feature = self.text_ids().len() as i64;
        for (row, ids) in self.rows.iter().enumerate() {
            for &id in ids {
                if id == IMAGE_TOKEN_INDEX {
                    let end = next_feature + self.tokens_per_picture as i64;
                    sources.extend(next_feature..end);
                    next_feature = end;
                } else {
                    sources.push(next_text);
                    next_text += 1;
                }
            }
            if self.packing == Packing::Off {
                sources.resize((row + 1) * seq, PADDING);
            }
        }
        sources.resize(self.batch() * seq, PADDING);
        sources
    }

    /// Tokens of each list of ids, pictures expanded.
    #[must_use]
    pub fn row_lengths(&self) -> &[usize] {
        &self.row_lengths
    }

    /// Rows of the batch; one if it is packed.
    #[must_use]
    pub fn batch(&self) -> usize {
        match self.packing {
            Packing::Off => self.row_lengths.len(),
            Packing::OneRow => 1,
        }
    }

    /// Slots of each row of the batch, padding included.
    #[must_use]
    pub fn seq(&self) -> usize {
        let longest = match self.packing {
            Packing::Off => self.row_lengths.iter().copied().max().unwrap_or_default(),
            Packing::OneRow => self.row_lengths.iter().sum(),
        };
        longest.next_multiple_of(self.pad_to_multiple_of)
    }

    /// How the conversations are laid out.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// The layout for the decoder. In training, `config` is
    /// [`LlamaConfig::in_training`].
    #[must_use]
    pub fn layout(&self, config: &LlamaConfig, device: &Device) -> SequenceLayout {
        match self.packing {
            Packing::Off => {
                let row = |&prompt: &usize| RowPositions { start: 0, prompt };
                let rows: Vec<RowPositions> = self.row_lengths.iter().map(row).collect();
                SequenceLayout::rows(config, &rows, self.seq(), device)
            }
            Packing::OneRow => {
                SequenceLayout::packed(config, &self.row_lengths, self.pad_to_multiple_of, device)
            }
        }
    }

    /// Shifts the labels of the rows by one and finds the slots that predict them. Picture slots
    /// are never supervised.
    ///
    /// ```text
    /// ids      1    9    -200          7    2
    /// labels   -100 -100 -100          7    2         -100 is not supervised
    /// slots    0    1    2  3  4  5    6    7
    /// result   slot 5 predicts 7, slot 6 predicts 2
    /// ```
    ///
    /// # Errors
    /// A row has more or fewer labels than ids.
    pub fn labels(&self, labels: &[Vec<i64>]) -> Result<SplicedLabels, SpliceError> {
        let mut spliced = SplicedLabels::default();
        let mut start = 0;
        for (row, ids) in self.rows.iter().enumerate() {
            let labels = labels.get(row).map_or(&[][..], Vec::as_slice);
            if labels.len() != ids.len() {
                return Err(SpliceError::Labels {
                    row,
                    ids: ids.len(),
                    labels: labels.len(),
                });
            }
            let mut position = 0;
            for (&id, &label) in ids.iter().zip(labels) {
                if id == IMAGE_TOKEN_INDEX {
                    position += self.tokens_per_picture;
                    continue;
                }
                if label != IGNORE_INDEX && position > 0 {
                    spliced.slots.push((start + position - 1) as i64);
                    spliced.targets.push(label);
                }
                position += 1;
            }
            start += match self.packing {
                Packing::Off => self.seq(),
                Packing::OneRow => position,
            };
        }
        Ok(spliced)
    }
}

/// The source of padded slots. No real token attends to them, so their content does not matter.
const PADDING: i64 = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = Vec<Vec<i64>>> {
        let id = prop_oneof![4 => 0_i64..50, 1 => Just(IMAGE_TOKEN_INDEX)];
        prop::collection::vec(prop::collection::vec(id, 1..12), 1..5)
    }

    proptest! {
        #[test]
        fn order_is_kept_for_any_mix_of_rows(rows in rows(), patches in 1_usize..6) {
            let pictures = rows.iter().flatten().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
            let plan = SplicePlan::new(&rows, patches, pictures, 50).unwrap();
            let (sources, text_ids) = (plan.sources(), plan.text_ids());
            let texts = text_ids.len() as i64;
            let mut features = texts..texts + (pictures * patches) as i64;
            let mut words = 0..texts;
            for (row, ids) in rows.iter().enumerate() {
                let slots = &sources[row * plan.seq()..][..plan.row_lengths()[row]];
                let mut slot = 0;
                for &id in ids {
                    if id == IMAGE_TOKEN_INDEX {
                        for _ in 0..patches {
                            prop_assert_eq!(Some(slots[slot]), features.next());
                            slot += 1;
                        }
                    } else {
                        prop_assert_eq!(Some(slots[slot]), words.next());
                        prop_assert_eq!(text_ids[slots[slot] as usize], id);
                        slot += 1;
                    }
                }
                prop_assert_eq!(slot, slots.len());
            }
            prop_assert_eq!(features.next(), None);
            prop_assert_eq!(words.next(), None);
        }
    }

    #[test]
    fn labels_are_shifted_and_skip_pictures() {
        let rows = [vec![1, 9, IMAGE_TOKEN_INDEX, 7, 2], vec![1, 8]];
        let plan = SplicePlan::new(&rows, 3, 1, 10).unwrap();
        let labels = [
            vec![IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX, 7, 2],
            vec![IGNORE_INDEX, 8],
        ];
        let spliced = plan.labels(&labels).unwrap();
        assert_eq!(plan.seq(), 7);
        assert_eq!(spliced.slots, [4, 5, 7]);
        assert_eq!(spliced.targets, [7, 2, 8]);

        // Longer rows move the slots of all but the first.
        let longer = plan.clone().pad_to_multiple_of(4);
        assert_eq!((longer.seq(), longer.sources().len()), (8, 16));
        assert_eq!(longer.labels(&labels).unwrap().slots, [4, 5, 8]);

        // Packed, the second conversation follows the first; no slot predicts its first token.
        let plan = plan.with_packing(Packing::OneRow);
        let spliced = plan.labels(&labels).unwrap();
        assert_eq!((plan.batch(), plan.seq()), (1, 9));
        assert_eq!(plan.row_lengths(), [7, 2]);
        assert_eq!(spliced.slots, [4, 5, 7]);
        assert_eq!(spliced.targets, [7, 2, 8]);
    }

    #[test]
    fn mismatches_are_named() {
        let rows = [vec![1, IMAGE_TOKEN_INDEX]];
        assert_eq!(
            SplicePlan::new(&rows, 4, 0, 10),
            Err(SpliceError::Pictures {
                placeholders: 1,
                pictures: 0
            })
        );
        assert!(matches!(
            SplicePlan::new(&[vec![1, 10]], 4, 0, 10),
            Err(SpliceError::UnknownId { id: 10, .. })
        ));
        assert_eq!(SplicePlan::new(&[], 4, 0, 10), Err(SpliceError::NoRows));
    }
}
