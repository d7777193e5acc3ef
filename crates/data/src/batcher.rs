//! From records to batches.

use std::path::PathBuf;

use gallery_gpt_text::{
    IGNORE_INDEX, IMAGE_TOKEN_INDEX, Template, Tokenizer, encode_conversation, expanded_length,
};
use gallery_gpt_vision::{ImageProcessor, PixelValues};
use rayon::prelude::*;

use crate::{BadRecord, Batch, Record, RecordError};

/// One record as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The record's id.
    pub id: String,
    /// Token ids, `IMAGE_TOKEN_INDEX` for the picture.
    pub input_ids: Vec<i64>,
    /// Labels; not shifted.
    pub labels: Vec<i64>,
    /// The picture.
    pub pictures: Vec<PixelValues>,
}

/// How long a record is: all that a plan has to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordShape {
    /// Tokens, the picture expanded.
    pub tokens: usize,
    /// Tokens the loss looks at.
    pub supervised: usize,
    /// Pictures.
    pub pictures: usize,
    /// [`Record::words`].
    pub words: usize,
}

/// Tokenizes texts and decodes pictures.
#[derive(Clone, Debug)]
pub struct Batcher {
    tokenizer: Tokenizer,
    template: Template,
    processor: ImageProcessor,
    image_folder: PathBuf,
    tokens_per_picture: usize,
    model_max_length: usize,
}

impl Batcher {
    /// A batcher for pictures under `image_folder`. Records of more than `model_max_length` tokens, with
    /// `tokens_per_picture` for the picture, are bad records.
    #[must_use]
    pub fn new(
        tokenizer: Tokenizer,
        template: Template,
        processor: ImageProcessor,
        image_folder: impl Into<PathBuf>,
        tokens_per_picture: usize,
        model_max_length: usize,
    ) -> Self {
        Self {
            tokenizer,
            template,
            processor,
            image_folder: image_folder.into(),
            tokens_per_picture,
            model_max_length,
        }
    }

    /// Ids and labels of a record, without opening its picture.
    ///
    /// # Errors
    /// The conversation has no label mask, or is too long.
    pub fn encode_text(&self, record: &Record) -> Result<(Vec<i64>, Vec<i64>), RecordError> {
        let row = encode_conversation(&self.tokenizer, &self.template, &record.conversation)?;
        let length = expanded_length(&row.input_ids, self.tokens_per_picture);
        if length > self.model_max_length {
            return Err(RecordError::TooLong {
                length,
                limit: self.model_max_length,
            });
        }
        Ok((row.input_ids, row.labels))
    }

    /// How long a record is.
    ///
    /// # Errors
    /// As [`Batcher::encode_text`].
    pub fn shape(&self, record: &Record) -> Result<RecordShape, RecordError> {
        let (ids, labels) = self.encode_text(record)?;
        let pictures = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
        let supervised = labels.iter().filter(|&&label| label != IGNORE_INDEX);
        Ok(RecordShape {
            tokens: expanded_length(&ids, self.tokens_per_picture),
            supervised: supervised.count(),
            pictures,
            words: record.words(),
        })
    }

    /// A record as numbers.
    ///
    /// # Errors
    /// As [`Batcher::encode_text`], or the picture cannot be read.
    pub fn encode(&self, record: &Record) -> Result<Example, RecordError> {
        let (input_ids, labels) = self.encode_text(record)?;
        let picture = self
            .processor
            .process_file(self.image_folder.join(&record.image))?;
        Ok(Example {
            id: record.id.clone(),
            input_ids,
            labels,
            pictures: vec![picture],
        })
    }

    /// A batch of records, encoded in parallel; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// The first record that cannot be used, in the order given.
    pub fn batch(&self, records: &[&Record]) -> Result<Batch, BadRecord> {
        let (batch, bad) = self.usable_batch(records);
        bad.into_iter().next().map_or(Ok(batch), Err)
    }

    /// As [`Batcher::batch`], of the records that can be used; the others come beside it.
    #[must_use]
    pub fn usable_batch(&self, records: &[&Record]) -> (Batch, Vec<BadRecord>) {
        let examples: Vec<_> = records
            .par_iter()
            .map(|record| {
                self.encode(record).map_err(|cause| BadRecord {
                    index: record.index,
                    id: record.id.clone(),
                    cause,
                })
            })
            .collect();
        let mut bad = Vec::new();
        let usable = examples
            .into_iter()
            .filter_map(|example| example.map_err(|record| bad.push(record)).ok());
        (usable.collect(), bad)
    }
}
