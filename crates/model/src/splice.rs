//! Where tokens and pictures go (LLaVA's `prepare_inputs_labels_for_multimodal`), planned on the host and carried out by
//! one gather.

use std::str::FromStr;

use burn::tensor::Device;
use gallery_gpt_llama::{LlamaConfig, SequenceLayout};
use gallery_gpt_text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX, expanded_length};
use serde::{Deserialize, Serialize};

use crate::SpliceError;

/// A plan for a batch: a conversation a row, padded on the right, or all in one row; pictures consumed in order across them.
///
/// ```
/// use gallery_gpt_model::SplicePlan;
///
/// // Two tokens, a picture of four patches, one token; and a row without a picture.
/// let plan = SplicePlan::new(&[vec![1, 9, -200, 7], vec![1, 8]], 4, 1, 100)?;
/// assert_eq!(plan.row_lengths(), [7, 2]);
/// assert_eq!(plan.seq(), 7);
/// # Ok::<(), gallery_gpt_model::SpliceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplicePlan {
    /// Ids of all text tokens, row by row.
    text_ids: Vec<i64>,
    /// For each slot of the batch, a row of (text embeddings, then picture features).
    sources: Vec<i64>,
    row_lengths: Vec<usize>,
    seq: usize,
    packing: Packing,
    /// What lengths are rounded up to a multiple of.
    multiple: usize,
}

/// How the conversations of a batch are laid out. Loss and gradients are the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// A row each, padded on the right to the longest.
    #[default]
    Off,
    /// One behind the other in one row: no padding. Attention and positions stay inside each.
    OneRow,
}

impl FromStr for Packing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "off" | "false" => Ok(Self::Off),
            "one_row" | "true" => Ok(Self::OneRow),
            other => Err(format!(
                "unknown packing `{other}`, expected off or one_row"
            )),
        }
    }
}

/// Supervised positions of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplicedLabels {
    /// Slots whose hidden state predicts a supervised token, counted over all rows of the plan.
    pub slots: Vec<i64>,
    /// The token each of them has to predict.
    pub targets: Vec<i64>,
}

impl SplicePlan {
    /// Plans a row for each list of ids, [`IMAGE_TOKEN_INDEX`] where a picture of `tokens_per_picture` features goes.
    ///
    /// # Errors
    /// As many marks as pictures is not the case, an id outside the vocabulary, or an empty row.
    pub fn new(
        rows: &[Vec<i64>],
        tokens_per_picture: usize,
        pictures: usize,
        vocab_size: usize,
    ) -> Result<Self, SpliceError> {
        Self::laid_out(Packing::Off, rows, tokens_per_picture, pictures, vocab_size)
    }

    /// As [`SplicePlan::new`], in either layout.
    ///
    /// # Errors
    /// As [`SplicePlan::new`].
    pub fn laid_out(
        packing: Packing,
        rows: &[Vec<i64>],
        tokens_per_picture: usize,
        pictures: usize,
        vocab_size: usize,
    ) -> Result<Self, SpliceError> {
        if rows.is_empty() {
            return Err(SpliceError::NoRows);
        }
        let marks = rows
            .iter()
            .flatten()
            .filter(|&&id| id == IMAGE_TOKEN_INDEX)
            .count();
        if marks != pictures {
            return Err(SpliceError::Pictures { marks, pictures });
        }
        let mut text_ids = Vec::new();
        for (row, ids) in rows.iter().enumerate() {
            if ids.is_empty() {
                return Err(SpliceError::EmptyRow { row });
            }
            for (position, &id) in ids.iter().enumerate() {
                if id == IMAGE_TOKEN_INDEX {
                    continue;
                }
                if !usize::try_from(id).is_ok_and(|id| id < vocab_size) {
                    return Err(SpliceError::UnknownId {
                        row,
                        position,
                        id,
                        vocab_size,
                    });
                }
                text_ids.push(id);
            }
        }
        let row_lengths: Vec<usize> = rows
            .iter()
            .map(|ids| expanded_length(ids, tokens_per_picture))
            .collect();
        let seq = match packing {
            Packing::Off => row_lengths.iter().copied().max().unwrap_or_default(),
            Packing::OneRow => row_lengths.iter().sum(),
        };

        let mut sources = Vec::new();
        let mut next_text = 0;
        let mut next_feature = text_ids.len() as i64;
        for ids in rows {
            let start = sources.len();
            for &id in ids {
                if id == IMAGE_TOKEN_INDEX {
                    let end = next_feature + tokens_per_picture as i64;
                    sources.extend(next_feature..end);
                    next_feature = end;
                } else {
                    sources.push(next_text);
                    next_text += 1;
                }
            }
            if packing == Packing::Off {
                // What stands on padded slots is never looked at; any row will do.
                sources.resize(start + seq, 0);
            }
        }
        Ok(Self {
            text_ids,
            sources,
            row_lengths,
            seq,
            packing,
            multiple: 1,
        })
    }

    /// Lengthens all rows to a multiple of some tokens, by padding on the right that nothing looks at. A device that tunes its kernels
    /// for each shape, and keeps memory for it, then meets few shapes.
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
        let seq = self.seq.next_multiple_of(multiple);
        if seq > self.seq {
            self.sources = self
                .sources
                .chunks(self.seq)
                .flat_map(|row| {
                    row.iter()
                        .copied()
                        .chain(std::iter::repeat_n(0, seq - self.seq))
                })
                .collect();
        }
        self.seq = seq;
        self.multiple = multiple;
        self
    }

    /// Ids of all text tokens, row by row.
    #[must_use]
    pub fn text_ids(&self) -> &[i64] {
        &self.text_ids
    }

    /// For each slot, a row of (text embeddings, then picture features).
    #[must_use]
    pub fn sources(&self) -> &[i64] {
        &self.sources
    }

    /// Real tokens of each list of ids.
    #[must_use]
    pub fn row_lengths(&self) -> &[usize] {
        &self.row_lengths
    }

    /// Number of rows; packed, one.
    #[must_use]
    pub fn batch(&self) -> usize {
        match self.packing {
            Packing::Off => self.row_lengths.len(),
            Packing::OneRow => 1,
        }
    }

    /// What the decoder has to know of the rows.
    #[must_use]
    pub fn layout(&self, config: &LlamaConfig, device: &Device) -> SequenceLayout {
        match self.packing {
            Packing::Off => SequenceLayout::padded(config, self.seq, device),
            Packing::OneRow => {
                SequenceLayout::packed(config, &self.row_lengths, self.multiple, device)
            }
        }
    }

    /// How the rows are laid out.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Slots of a row, padding included.
    #[must_use]
    pub fn seq(&self) -> usize {
        self.seq
    }

    /// Shifts the labels of the rows by one and finds the slots that predict them. Picture slots are never supervised.
    ///
    /// # Errors
    /// A row has more or fewer labels than ids.
    pub fn labels(
        &self,
        rows: &[Vec<i64>],
        labels: &[Vec<i64>],
        tokens_per_picture: usize,
    ) -> Result<SplicedLabels, SpliceError> {
        let mut spliced = SplicedLabels::default();
        let mut start = 0;
        for (row, ids) in rows.iter().enumerate() {
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
                    position += tokens_per_picture;
                    continue;
                }
                if label != IGNORE_INDEX && position > 0 {
                    spliced.slots.push((start + position - 1) as i64);
                    spliced.targets.push(label);
                }
                position += 1;
            }
            start += match self.packing {
                Packing::Off => self.seq,
                Packing::OneRow => position,
            };
        }
        Ok(spliced)
    }
}

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
            let texts = plan.text_ids().len() as i64;
            let mut features = texts..texts + (pictures * patches) as i64;
            let mut words = 0..texts;
            for (row, ids) in rows.iter().enumerate() {
                let slots = &plan.sources()[row * plan.seq()..][..plan.row_lengths()[row]];
                let mut slot = 0;
                for &id in ids {
                    if id == IMAGE_TOKEN_INDEX {
                        for _ in 0..patches {
                            prop_assert_eq!(Some(slots[slot]), features.next());
                            slot += 1;
                        }
                    } else {
                        prop_assert_eq!(Some(slots[slot]), words.next());
                        prop_assert_eq!(plan.text_ids()[slots[slot] as usize], id);
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
        let spliced = plan.labels(&rows, &labels, 3).unwrap();
        assert_eq!(plan.seq(), 7);
        assert_eq!(spliced.slots, [4, 5, 7]);
        assert_eq!(spliced.targets, [7, 2, 8]);

        // Longer rows move the slots of all but the first.
        let longer = plan.pad_to_multiple_of(4);
        assert_eq!((longer.seq(), longer.sources().len()), (8, 16));
        assert_eq!(longer.labels(&rows, &labels, 3).unwrap().slots, [4, 5, 8]);

        // In one row the second conversation follows the first, and its first token is predicted by none.
        let plan = SplicePlan::laid_out(Packing::OneRow, &rows, 3, 1, 10).unwrap();
        let spliced = plan.labels(&rows, &labels, 3).unwrap();
        assert_eq!((plan.batch(), plan.seq()), (1, 9));
        assert_eq!(plan.row_lengths(), [7, 2]);
        assert_eq!(spliced.slots, [4, 5, 7]);
        assert_eq!(spliced.targets, [7, 2, 8]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let rows = [vec![1, IMAGE_TOKEN_INDEX]];
        assert_eq!(
            SplicePlan::new(&rows, 4, 0, 10),
            Err(SpliceError::Pictures {
                marks: 1,
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
