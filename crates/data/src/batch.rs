//! Records ready for a step.

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
}
