//! Encoded records, one by one and as batches.

use std::cmp::Reverse;

use gallery_gpt_text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX};
use gallery_gpt_vision::PixelValues;

/// An encoded record.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The record's id.
    pub id: String,
    /// Token ids, with an `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<i64>,
    /// Labels, as many as ids, `IGNORE_INDEX` where not supervised; not shifted.
    pub labels: Vec<i64>,
    /// The pictures, in the order of their placeholders.
    pub pictures: Vec<PixelValues>,
}

/// A batch of encoded records, not padded: the model pads when it splices the pictures in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids of each row, with an `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<Vec<i64>>,
    /// Labels of each row, as many as ids, `IGNORE_INDEX` where not supervised; not shifted.
    pub labels: Vec<Vec<i64>>,
    /// The pictures of all rows, in the order of their placeholders.
    pub pictures: Vec<PixelValues>,
    /// The ids of the records, for messages.
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

    /// Number of supervised tokens.
    #[must_use]
    pub fn supervised_tokens(&self) -> usize {
        let labels = self.labels.iter().flatten();
        labels.filter(|&&label| label != IGNORE_INDEX).count()
    }

    /// Splits the batch into up to `parts` batches of about equal total length ([`balance`]). `length`
    /// gives the length of a row from its ids. Each part comes with the indices of its rows.
    ///
    /// A batch whose labels, ids or pictures do not match its rows is returned whole.
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
        // The first picture of each row, and the end.
        let mut first = vec![0];
        for ids in &self.input_ids {
            let placeholders = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
            first.push(first[first.len() - 1] + placeholders);
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

/// Distributes items over up to `parts` lists of about equal total length, as lists of sorted
/// indices: the longest item first, each to the list that is shortest so far.
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
