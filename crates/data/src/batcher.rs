//! From records to batches.

use std::{fs::File, path::PathBuf};

use gallery_gpt_text::{
    IGNORE_INDEX, IMAGE_TOKEN_INDEX, Template, Tokenizer, encode_conversation, expanded_length,
};
use gallery_gpt_vision::{ImageError, ImageProcessor, PixelValues};
use rayon::prelude::*;

use crate::{BadRecord, Batch, PictureFolder, Record, RecordError, RecordLength, RecordPicture};

/// One record as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The record's id.
    pub id: String,
    /// Token ids, `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<i64>,
    /// Labels; not shifted.
    pub labels: Vec<i64>,
    /// The pictures, in the order of their marks.
    pub pictures: Vec<PixelValues>,
}

/// How long a record is: all that a plan has to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordShape {
    /// Tokens, pictures expanded.
    pub tokens: usize,
    /// Tokens the loss looks at.
    pub supervised: usize,
    /// Pictures.
    pub pictures: usize,
    /// White-space separated words of all turns.
    pub words: usize,
}

impl RecordShape {
    /// What records are ordered by, [`Record::length`].
    #[must_use]
    pub fn length(&self) -> RecordLength {
        RecordLength {
            words: self.words,
            has_picture: self.pictures > 0,
        }
    }
}

/// Records that were looked at before a training.
#[derive(Debug, Default)]
pub struct CheckedRecords {
    /// Those that can be used.
    pub records: Vec<Record>,
    /// How long each of them is.
    pub shapes: Vec<RecordShape>,
    /// The others, each with its cause.
    pub bad: Vec<BadRecord>,
}

/// Tokenizes texts and decodes pictures.
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
    /// A batcher for pictures under `image_folder`. Records of more than `model_max_length` tokens, with
    /// `tokens_per_picture` for each picture, are bad records.
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

    /// Records of more tokens than the model's context are bad records too, whatever `model_max_length` is.
    #[must_use]
    pub fn within_context(mut self, max_position_embeddings: usize) -> Self {
        self.context = max_position_embeddings;
        self
    }

    /// Where the pictures are looked for.
    #[must_use]
    pub fn picture_folder(&self) -> &PictureFolder {
        &self.picture_folder
    }

    /// The template of the conversations.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// What makes pictures ready.
    #[must_use]
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// Longest record in tokens, pictures expanded.
    #[must_use]
    pub fn model_max_length(&self) -> usize {
        self.model_max_length
    }

    /// Ids and labels of a record, without opening its pictures.
    ///
    /// # Errors
    /// There are not as many marks as pictures, or the conversation has no label mask, or is too long.
    pub fn encode_text(&self, record: &Record) -> Result<(Vec<i64>, Vec<i64>), RecordError> {
        record.ensure_marks()?;
        let row = encode_conversation(&self.tokenizer, &self.template, &record.conversation)?;
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
            words: record.length().words,
        })
    }

    /// How long each record is, and whether its pictures are files that can be opened; none is decoded. The result does not
    /// depend on the number of threads.
    #[must_use]
    pub fn check(&self, records: Vec<Record>) -> CheckedRecords {
        let look = |record: &Record| {
            let shape = self.shape(record)?;
            for picture in &record.pictures {
                if let RecordPicture::File(name) = picture {
                    let path = self.picture_folder.find(name)?;
                    File::open(&path).map_err(|source| ImageError::Read { path, source })?;
                }
            }
            Ok(shape)
        };
        let looked: Vec<Result<RecordShape, RecordError>> = records.par_iter().map(look).collect();
        let mut checked = CheckedRecords::default();
        for (record, result) in records.into_iter().zip(looked) {
            match result {
                Ok(shape) => {
                    checked.records.push(record);
                    checked.shapes.push(shape);
                }
                Err(cause) => checked.bad.push(BadRecord::of(&record, cause)),
            }
        }
        checked
    }

    /// A record as numbers.
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
