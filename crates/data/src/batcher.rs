//! Encodes records as batches.

use std::{borrow::Cow, fs::File, path::PathBuf};

use gallery_gpt_text::{
    IGNORE_INDEX, IMAGE_TOKEN_INDEX, Template, Tokenizer, encode_conversation, expanded_length,
};
use gallery_gpt_vision::{ImageError, ImageProcessor, PixelValues};
use rayon::prelude::*;

use crate::{
    BadRecord, Batch, Example, PictureFolder, Record, RecordError, RecordFormat, RecordLength,
    RecordPicture,
};

/// Sizes of a record, from which a training's memory and order are planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordSize {
    /// Tokens, with pictures expanded.
    pub tokens: usize,
    /// Supervised tokens.
    pub supervised: usize,
    /// Pictures.
    pub pictures: usize,
    /// White-space separated words of all turns.
    pub words: usize,
}

impl RecordSize {
    /// The length that records are ordered by, as [`Record::length`].
    #[must_use]
    pub fn length(&self) -> RecordLength {
        RecordLength {
            words: self.words,
            has_picture: self.pictures > 0,
        }
    }
}

/// Records that were checked before training.
#[derive(Debug, Default)]
pub struct CheckedRecords {
    /// The usable records.
    pub records: Vec<Record>,
    /// The size of each of them.
    pub sizes: Vec<RecordSize>,
    /// The other records, each with its cause.
    pub bad: Vec<BadRecord>,
}

/// Encodes records: tokenizes their texts, makes their labels and preprocesses their pictures.
#[derive(Clone, Debug)]
pub struct Batcher {
    tokenizer: Tokenizer,
    template: Template,
    processor: ImageProcessor,
    picture_folder: PictureFolder,
    tokens_per_picture: usize,
    model_max_length: usize,
    context: usize,
}

impl Batcher {
    /// A batcher for pictures in `image_folder`. Records of more than `model_max_length` tokens are bad
    /// records; a picture counts as `tokens_per_picture`.
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
            picture_folder: PictureFolder::new(image_folder),
            tokens_per_picture,
            model_max_length,
            context: usize::MAX,
        }
    }

    /// Sets the model's context length. Records of more tokens are bad records too, whatever
    /// `model_max_length` is.
    #[must_use]
    pub fn within_context(mut self, max_position_embeddings: usize) -> Self {
        self.context = max_position_embeddings;
        self
    }

    /// The folder of the pictures.
    #[must_use]
    pub fn picture_folder(&self) -> &PictureFolder {
        &self.picture_folder
    }

    /// The template of the conversations.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The image processor.
    #[must_use]
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// Maximum number of tokens of a record, with pictures expanded.
    #[must_use]
    pub fn model_max_length(&self) -> usize {
        self.model_max_length
    }

    /// Token ids and labels of a record, without opening its pictures.
    ///
    /// # Errors
    /// The placeholders do not match the pictures, the conversation cannot be encoded with labels, or
    /// it is too long.
    pub fn encode_text(&self, record: &Record) -> Result<(Vec<i64>, Vec<i64>), RecordError> {
        record.ensure_placeholders()?;
        let conversation = match record.format {
            // Its pictures are where they were trained.
            RecordFormat::QwenVl => Cow::Borrowed(&record.conversation),
            _ => self.template.arrange_pictures(&record.conversation),
        };
        let row = encode_conversation(&self.tokenizer, &self.template, &conversation)?;
        let length = expanded_length(&row.input_ids, self.tokens_per_picture);
        if length > self.context {
            return Err(RecordError::BeyondContext {
                length,
                context: self.context,
            });
        }
        if length > self.model_max_length {
            return Err(RecordError::TooLong {
                length,
                limit: self.model_max_length,
            });
        }
        Ok((row.input_ids, row.labels))
    }

    /// The size of a record, without opening its pictures.
    ///
    /// # Errors
    /// As [`Batcher::encode_text`].
    pub fn size(&self, record: &Record) -> Result<RecordSize, RecordError> {
        let (ids, labels) = self.encode_text(record)?;
        let pictures = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
        let supervised = labels.iter().filter(|&&label| label != IGNORE_INDEX);
        Ok(RecordSize {
            tokens: expanded_length(&ids, self.tokens_per_picture),
            supervised: supervised.count(),
            pictures,
            words: record.length().words,
        })
    }

    /// Checks records before training: that they can be encoded and are not too long, and that their
    /// picture files can be opened; pictures are not decoded. Runs in parallel; the result does not
    /// depend on the number of threads.
    #[must_use]
    pub fn check(&self, records: Vec<Record>) -> CheckedRecords {
        let check = |record: &Record| {
            let size = self.size(record)?;
            for picture in &record.pictures {
                if let RecordPicture::File(name) = picture {
                    let path = self.picture_folder.find(name)?;
                    File::open(&path).map_err(|source| ImageError::Read { path, source })?;
                }
            }
            Ok(size)
        };
        let results: Vec<Result<RecordSize, RecordError>> = records.par_iter().map(check).collect();
        let mut checked = CheckedRecords::default();
        for (record, result) in records.into_iter().zip(results) {
            match result {
                Ok(size) => {
                    checked.records.push(record);
                    checked.sizes.push(size);
                }
                Err(cause) => checked.bad.push(BadRecord::of(&record, cause)),
            }
        }
        checked
    }

    /// Encodes a record with its pictures.
    ///
    /// # Errors
    /// As [`Batcher::encode_text`], or a picture cannot be read.
    pub fn encode(&self, record: &Record) -> Result<Example, RecordError> {
        let (input_ids, labels) = self.encode_text(record)?;
        let pictures = record.pictures.iter().map(|picture| self.pixels(picture));
        Ok(Example {
            id: record.id.clone(),
            input_ids,
            labels,
            pictures: pictures.collect::<Result<_, _>>()?,
        })
    }

    fn pixels(&self, picture: &RecordPicture) -> Result<PixelValues, RecordError> {
        Ok(match picture {
            RecordPicture::File(name) => self
                .processor
                .process_file(self.picture_folder.find(name)?)?,
            RecordPicture::Bytes(bytes) => {
                let pixels = self.processor.decode(&picture.name(), bytes)?;
                self.processor.process(&pixels)
            }
            RecordPicture::Pixels(pixels) => self.processor.process(pixels),
        })
    }

    /// Encodes records as a batch, in parallel; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// A record cannot be used; the error is of the first one in the given order.
    pub fn batch(&self, records: &[&Record]) -> Result<Batch, BadRecord> {
        let (batch, bad) = self.usable_batch(records);
        bad.into_iter().next().map_or(Ok(batch), Err)
    }

    /// As [`Batcher::batch`], but leaves out the records that cannot be used and returns them too.
    #[must_use]
    pub fn usable_batch(&self, records: &[&Record]) -> (Batch, Vec<BadRecord>) {
        let examples: Vec<_> = records
            .par_iter()
            .map(|record| {
                self.encode(record)
                    .map_err(|cause| BadRecord::of(record, cause))
            })
            .collect();
        let mut bad = Vec::new();
        let usable = examples
            .into_iter()
            .filter_map(|example| example.map_err(|record| bad.push(record)).ok());
        (usable.collect(), bad)
    }
}
