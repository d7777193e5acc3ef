//! PaintingForm in, batches out.
//!
//! - [`PaintingForm`] reads `train_samples_tuning.json` and other people's forms ([`Dialect`]); every record it cannot use is kept
//!   as a [`BadRecord`] with its index, id and cause.
//! - [`PictureFolder`] tells which file a picture's name means.
//! - [`TestSet`] reads both generations of the test files, with one or several references per painting.
//! - [`Sampler`] orders the records of an epoch from a counter, so that any position can be found again.
//! - [`Batcher`] turns records into ids, labels and pixels.
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
mod dialects;
mod error;
mod json_kind;
mod json_reader;
mod painting_form;
mod picture_folder;
mod record;
mod sampler;
mod splitter;
mod test_set;

pub use batch::{Batch, balance};
pub use batcher::{Batcher, CheckedRecords, Example, RecordShape};
pub use error::{BadRecord, DatasetError, RecordError};
pub use json_kind::json_kind;
pub use painting_form::{PaintingForm, RepeatedId};
pub use picture_folder::PictureFolder;
pub use record::{Dialect, Record, RecordKind, RecordPicture, count_kinds};
pub use sampler::{Order, RecordLength, Sampler};
pub use test_set::{MissingReference, TestPainting, TestSet};
