//! PaintingForm in, batches out.
//!
//! - [`PaintingForm`] reads `train_samples_tuning.json`; every record it cannot use is kept as a [`BadRecord`] with its
//!   index, id and cause.
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
mod error;
mod painting_form;
mod sampler;
mod test_set;

pub use batch::{Batch, balance};
pub use batcher::{Batcher, Example, RecordShape};
pub use error::{BadRecord, DatasetError, RecordError};
pub use painting_form::{PaintingForm, Record};
pub use sampler::{Order, Sampler};
pub use test_set::{MissingReference, TestPainting, TestSet};
