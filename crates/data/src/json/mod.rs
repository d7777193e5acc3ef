//! JSON files of records, read one record at a time.

mod element;
mod file;
mod kind;
mod splitter;

pub(crate) use element::Element;
pub(crate) use file::{for_each_element, open};
pub use kind::json_kind;
