//! Prompts of the model.

use gallery_gpt_vision::PixelValues;

/// A prompt: token ids and pictures.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, with an `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<i64>,
    /// The pictures, in the order of their placeholders.
    pub pictures: Vec<PixelValues>,
    /// Stream of random numbers: prompts of different streams are sampled independently under one
    /// seed.
    pub stream: u64,
}

impl Prompt {
    /// A prompt without pictures.
    #[must_use]
    pub fn text(input_ids: Vec<i64>) -> Self {
        Self::with_pictures(input_ids, Vec::new())
    }

    /// A prompt with pictures.
    #[must_use]
    pub fn with_pictures(input_ids: Vec<i64>, pictures: Vec<PixelValues>) -> Self {
        Self {
            input_ids,
            pictures,
            stream: 0,
        }
    }
}
