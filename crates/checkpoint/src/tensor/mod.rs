//! Tensors of files: stored ones that are read, and those that are to be written.

mod dtype;
mod finite;
mod lazy;
pub(crate) mod storage;
mod stored;

pub use dtype::{TensorDtype, UnknownDtype};
pub use lazy::LazyTensor;
pub(crate) use stored::Values;
pub use stored::{Slot, StoredTensor};
