//! What can go wrong with a data set, as a whole and record by record.

use std::path::PathBuf;

use gallery_gpt_text::{ConversationError, printable};
use gallery_gpt_vision::ImageError;

use crate::Record;

/// A file that is no data set.
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
    /// The file is neither a JSON array nor lines of JSON.
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
    /// So many records of its beginning cannot be used that it is no data set, or one in a form that is not read.
    #[error(
        "{path} is in no form that is read: {bad} of its first {records} records cannot be used, such as {one}"
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
    /// Reference files of different lengths.
    #[error("{path} has {found} records, {expected} are in {first}: the files must be aligned")]
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
    /// Aligned files that name different pictures.
    #[error(
        "record {index} is about `{}` in {path} and about `{}` in {first}",
        printable(found),
        printable(expected)
    )]
    DifferentPictures {
        /// Zero-based record.
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

/// A record that cannot be used, with where it is.
#[derive(Debug, thiserror::Error)]
#[error("record {index} (id {}): {cause}", printable(id))]
pub struct BadRecord {
    /// Zero-based position in the file.
    pub index: usize,
    /// Its `id`, or `none`.
    pub id: String,
    /// Why.
    pub cause: RecordError,
}

impl BadRecord {
    /// What is wrong with a record.
    #[must_use]
    pub fn of(record: &Record, cause: RecordError) -> Self {
        Self {
            index: record.index,
            id: record.id.clone(),
            cause,
        }
    }
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The JSON is not a record.
    #[error("expected {expected}, found {}", printable(found))]
    Schema {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// More or fewer `<image>` marks than pictures.
    #[error(
        "{marks} <image> marks for {pictures} pictures, expected as many: `<image>` stands in a question where a picture belongs"
    )]
    Marks {
        /// Marks in the conversation.
        marks: usize,
        /// Pictures of the record.
        pictures: usize,
    },
    /// The conversation has no label mask.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// The picture cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A picture path that leaves the picture folder.
    #[error("picture path `{}` leads out of the picture folder", printable(path))]
    Path {
        /// The path.
        path: String,
    },
    /// A picture that is not in a file.
    #[error(
        "picture `{}` is an address, expected the path of a file in the picture folder; nothing is fetched",
        printable(address)
    )]
    Address {
        /// The start of the address.
        address: String,
    },
    /// The record does not fit the model's context.
    #[error(
        "{length} tokens with its pictures, more than the model's context of {context} (max_position_embeddings), which no setting raises; shorten the record"
    )]
    BeyondContext {
        /// Tokens, pictures expanded.
        length: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// The record is longer than was set.
    #[error(
        "{length} tokens with its pictures, more than model_max_length {limit}; raise it or shorten the record"
    )]
    TooLong {
        /// Tokens, pictures expanded.
        length: usize,
        /// Most tokens allowed.
        limit: usize,
    },
}
