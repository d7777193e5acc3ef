//! Records ready for a step.

use std::cmp::Reverse;

use gallery_gpt_text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX};
use gallery_gpt_vision::PixelValues;

use crate::Example;

/// Several records: ids and labels row by row (not yet padded: the model pads when it splices), pictures in the order of
/// their marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `input_ids` of each row, `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<Vec<i64>>,
    /// Labels of each row, `IGNORE_INDEX` where the loss does not look; not shifted.
    pub labels: Vec<Vec<i64>>,
    /// The pictures of all rows.
    pub pictures: Vec<PixelValues>,
    /// Which records they are, for messages.
    pub ids: Vec<String>,
}

impl FromIterator<Example> for Batch {
    fn from_iter<I: IntoIterator<Item = Example>>(examples: I) -> Self {
        let mut batch = Self::default();
        for example in examples {
            batch.input_ids.push(example.input_ids);
            batch.labels.push(example.labels);
            batch.pictures.extend(example.pictures);
            batch.ids.push(example.id);
        }
        batch
    }
}

impl Batch {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }

    /// Tokens the loss looks at.
    #[must_use]
    pub fn supervised_tokens(&self) -> usize {
        let labels = self.labels.iter().flatten();
        labels.filter(|&&label| label != IGNORE_INDEX).count()
    }

    /// Up to `parts` batches of about the same summed length ([`balance`]), by a `length` of each row's ids, with the positions of
    /// their rows. Rows whose labels or pictures do not fit them stay together.
    ///
    /// ```
    /// use gallery_gpt_data::Batch;
    ///
    /// let row = |length: usize| vec![7; length];
    /// let batch = Batch {
    ///     input_ids: vec![row(2), row(5), row(3)],
    ///     labels: vec![row(2), row(5), row(3)],
    ///     ids: vec!["a".into(), "b".into(), "c".into()],
    ///     ..Batch::default()
    /// };
    /// let parts = batch.split(2, <[i64]>::len);
    /// assert_eq!((&parts[0].0[..], &parts[0].1.input_ids[..]), (&[1][..], &[row(5)][..]));
    /// assert_eq!((&parts[1].0[..], &parts[1].1.input_ids[..]), (&[0, 2][..], &[row(2), row(3)][..]));
    /// ```
    #[must_use]
    pub fn split(&self, parts: usize, length: impl Fn(&[i64]) -> usize) -> Vec<(Vec<usize>, Self)> {
        // The pictures of a row stand behind those of the rows before it.
        let mut first = vec![0];
        for ids in &self.input_ids {
            let marks = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
            first.push(first[first.len() - 1] + marks);
        }
        let fits = first.last() == Some(&self.pictures.len()) && self.labels.len() == self.len();
        if !fits || self.ids.len() != self.len() {
            return vec![((0..self.len()).collect(), self.clone())];
        }
        let part = |rows: Vec<usize>| {
            let mut part = Self::default();
            for &row in &rows {
                part.input_ids.push(self.input_ids[row].clone());
                part.labels.push(self.labels[row].clone());
                part.ids.push(self.ids[row].clone());
                let pictures = first[row]..first[row + 1];
                part.pictures.extend_from_slice(&self.pictures[pictures]);
            }
            (rows, part)
        };
        let lengths: Vec<usize> = self.input_ids.iter().map(|ids| length(ids)).collect();
        balance(&lengths, parts).into_iter().map(part).collect()
    }
}

/// Up to `parts` lists of positions with about the same summed length: the longest first, each to the list that has the least.
/// Each list is in order.
#[must_use]
pub fn balance(lengths: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&at| Reverse(lengths[at]));
    let mut bins = vec![(0, Vec::new()); parts.clamp(1, lengths.len().max(1))];
    for at in longest_first {
        if let Some((sum, bin)) = bins.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += lengths[at];
            bin.push(at);
        }
    }
    let sorted = |(_, mut bin): (usize, Vec<usize>)| {
        bin.sort_unstable();
        bin
    };
    bins.into_iter().map(sorted).collect()
}
