//! The formats of weight files: safetensors and PyTorch's.

pub(crate) mod pytorch;
pub(crate) mod safetensors;

pub use safetensors::write_tensors;
