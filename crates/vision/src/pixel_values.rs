//! Preprocessed pictures: the vision tower's input.

use burn::tensor::{Device, Tensor, TensorData};

/// A preprocessed picture: `[3, size, size]`, normalised, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    values: Vec<f32>,
    size: usize,
}

impl PixelValues {
    /// Wraps normalised values, channel by channel.
    ///
    /// # Panics
    /// If there are not `3 * size * size` values.
    #[must_use]
    pub fn from_values(values: Vec<f32>, size: usize) -> Self {
        assert_eq!(
            values.len(),
            3 * size * size,
            "values of a [3, {size}, {size}] picture"
        );
        Self { values, size }
    }

    /// `[3, size, size]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [3, self.size, self.size]
    }

    /// The values, channel by channel, row by row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Stacks pictures into a tensor, `[pictures, 3, size, size]`.
    ///
    /// # Panics
    /// If there is no picture, or the sizes differ.
    #[must_use]
    pub fn stack(pictures: &[&Self], device: &Device) -> Tensor<4> {
        let size = pictures.first().expect("at least one picture").size;
        let mut values = Vec::with_capacity(pictures.len() * 3 * size * size);
        for picture in pictures {
            assert_eq!(picture.size, size, "pictures of one batch have one size");
            values.extend_from_slice(&picture.values);
        }
        Tensor::from_data(
            TensorData::new(values, [pictures.len(), 3, size, size]),
            device,
        )
    }
}
