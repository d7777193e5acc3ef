//! Data sets: reads PaintingForm's files and encodes their records as batches.
//!
//! - [`PaintingForm`] reads training files: PaintingForm's `train_samples_tuning.json`, and other
//!   formats ([`RecordFormat`]). A record that cannot be used is a [`BadRecord`] with its index, id and
//!   cause.
//! - [`TestSet`] reads test files, with one or several references per painting.
//! - [`PictureFolder`] finds the file for a picture's name.
//! - [`Sampler`] orders the records of an epoch; the order depends on the seed and the epoch only.
//! - [`Batcher`] encodes records as token ids, labels and pixel values.
//!
//! ```
//! use gallery_gpt_data::PaintingForm;
//!
//! let json = r#"[{"id": "identity_0", "image": "images/0.png", "conversations": [
//!     {"from": "human", "value": "Describe the composition.\n<image>"},
//!     {"from": "gpt", "value": "A diagonal divides the canvas."}]},
//!   {"id": "identity_1", "conversations": []}]"#;
//! let set = PaintingForm::read("train.json".as_ref(), json.as_bytes())?;
//! assert_eq!(set.records.len(), 1);
//! assert!(set.bad[0].to_string().contains("identity_1"));
//! # Ok::<(), gallery_gpt_data::DatasetError>(())
//! ```

mod batch;
mod batcher;
mod error;
mod formats;
mod json;
mod painting_form;
mod picture_folder;
mod record;
mod sampler;
mod test_set;

pub use batch::{Batch, Example, balance};
pub use batcher::{Batcher, CheckedRecords, RecordSize};
pub use error::{BadRecord, DatasetError, RecordError};
pub use json::json_kind;
pub use painting_form::{PaintingForm, RepeatedId};
pub use picture_folder::PictureFolder;
pub use record::{Record, RecordFormat, RecordKind, RecordPicture, count_kinds};
pub use sampler::{Order, RecordLength, Sampler};
pub use test_set::{MissingReference, TestPainting, TestSet};
