//! Tensors in files: stored ones, read when they are needed, and those to be written.

mod dtype;
mod finite;
mod lazy;
pub(crate) mod storage;
mod stored;

pub use dtype::TensorDtype;
pub use lazy::LazyTensor;
pub(crate) use stored::Values;
pub use stored::{Slot, StoredTensor};
