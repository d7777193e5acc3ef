//! Errors of data sets and of their records.

use std::path::{Path, PathBuf};

use gallery_gpt_text::{ConversationError, PictureTagError, printable};
use gallery_gpt_vision::ImageError;

/// A data set that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file could not be read.
    #[error("cannot read data set {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is neither a JSON array nor JSON lines.
    #[error("{path} is not a data set: expected {expected}, found {found}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// No record can be used.
    #[error("{path} has no usable record ({bad} bad ones{first})")]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// Number of bad records.
        bad: usize,
        /// The first of them, if any.
        first: String,
    },
    /// At least 10,000 records, and nine in ten of those read so far, cannot be used.
    #[error(
        "{path} is in an unknown format: {bad} of its first {records} records cannot be used, such as {one}"
    )]
    MostlyUnusable {
        /// The file.
        path: PathBuf,
        /// Number of bad records.
        bad: usize,
        /// Number of records that were read.
        records: usize,
        /// One of the bad ones.
        one: Box<BadRecord>,
    },
    /// Reference files have different numbers of records.
    #[error(
        "{path} has {found} records, but {first} has {expected}; record N of every file must be about the same painting"
    )]
    NotAligned {
        /// The file that differs.
        path: PathBuf,
        /// Its records.
        found: usize,
        /// The file it is compared with.
        first: PathBuf,
        /// That file's records.
        expected: usize,
    },
    /// Reference files name different pictures in the same record.
    #[error(
        "record {index} has the picture `{}` in {path}, but `{}` in {first}",
        printable(found),
        printable(expected)
    )]
    DifferentPictures {
        /// Index of the record, from 0.
        index: usize,
        /// The file that differs.
        path: PathBuf,
        /// Its picture.
        found: String,
        /// The file it is compared with.
        first: PathBuf,
        /// That file's picture.
        expected: String,
    },
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("record {index} (id {}): {cause}", printable(id))]
pub struct BadRecord {
    /// Its index in the file, from 0.
    pub index: usize,
    /// Its `id`, or `none`.
    pub id: String,
    /// Why.
    pub cause: RecordError,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The JSON is not a record of a supported format.
    #[error("expected {expected}, found {}", printable(found))]
    Schema {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The questions have more or fewer `<image>` placeholders than the record has pictures.
    #[error(
        "{placeholders} <image> placeholders for {pictures} pictures; write one `<image>` into the questions for each picture"
    )]
    Placeholders {
        /// Placeholders in the conversation.
        placeholders: usize,
        /// Pictures of the record.
        pictures: usize,
    },
    /// A picture that is named in the text, as Qwen-VL's records do, cannot be read.
    #[error("turn {turn}: {cause}")]
    PictureTag {
        /// The turn, from 0.
        turn: usize,
        /// What is wrong.
        cause: PictureTagError,
    },
    /// The conversation cannot be encoded with labels.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// The picture cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The path of a picture leads out of the picture folder.
    #[error("picture path `{}` leads out of the picture folder", printable(path))]
    Path {
        /// The path.
        path: String,
    },
    /// The picture is a URL; nothing is downloaded.
    #[error(
        "picture `{}` is a URL, expected the path of a file in the picture folder; download it first",
        printable(url)
    )]
    Url {
        /// The start of the URL.
        url: String,
    },
    /// The record is longer than the model's context.
    #[error(
        "{length} tokens with its pictures, more than the model's context of {context} (max_position_embeddings), which no setting raises; shorten the record"
    )]
    BeyondContext {
        /// Its tokens, with pictures expanded.
        length: usize,
        /// Context length in tokens.
        context: usize,
    },
    /// The record is longer than `model_max_length`.
    #[error(
        "{length} tokens with its pictures, more than model_max_length {limit}; raise it or shorten the record"
    )]
    TooLong {
        /// Its tokens, with pictures expanded.
        length: usize,
        /// Maximum number of tokens.
        limit: usize,
    },
}

/// Makes the error of a path that cannot be read.
pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> DatasetError + Copy + '_ {
    |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    }
}
