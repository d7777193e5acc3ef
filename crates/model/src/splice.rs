//! Where tokens and pictures go (LLaVA's `prepare_inputs_labels_for_multimodal`), planned on the host and carried out by
//! one gather.

use gallery_gpt_text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX};

use crate::SpliceError;

/// A plan for a batch: rows padded on the right, pictures consumed in order across the rows.
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
}

/// Supervised positions of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplicedLabels {
    /// Slots whose hidden state predicts a supervised token, as `row * seq + position`.
    pub slots: Vec<i64>,
    /// The token each of them has to predict.
    pub targets: Vec<i64>,
}

impl SplicePlan {
    /// Plans rows of ids, [`IMAGE_TOKEN_INDEX`] where a picture of `tokens_per_picture` features goes.
    ///
    /// # Errors
    /// As many marks as pictures is not the case, an id outside the vocabulary, or an empty row.
    pub fn new(
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
            .map(|ids| Self::expanded_length(ids, tokens_per_picture))
            .collect();
        let seq = row_lengths.iter().copied().max().unwrap_or_default();

        let mut sources = Vec::with_capacity(rows.len() * seq);
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
            // What stands on padded slots is never looked at; any row will do.
            sources.resize(start + seq, 0);
        }
        Ok(Self {
            text_ids,
            sources,
            row_lengths,
            seq,
        })
    }

    /// Tokens of a row with its pictures expanded.
    #[must_use]
    pub fn expanded_length(ids: &[i64], tokens_per_picture: usize) -> usize {
        ids.iter()
            .map(|&id| {
                if id == IMAGE_TOKEN_INDEX {
                    tokens_per_picture
                } else {
                    1
                }
            })
            .sum()
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

    /// Real tokens of each row.
    #[must_use]
    pub fn row_lengths(&self) -> &[usize] {
        &self.row_lengths
    }

    /// Number of rows.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.row_lengths.len()
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
                    spliced.slots.push((row * self.seq + position - 1) as i64);
                    spliced.targets.push(label);
                }
                position += 1;
            }
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
