//! The tokenizer of Qwen's first generation: byte pairs over a `qwen.tiktoken`, and ids for pictures.

mod merge;
mod pictures;
mod special;
mod tokenizer;
mod vocabulary;

pub use pictures::{PICTURE_FEATURES, take_pictures};
pub use special::ChatMlTokens;
pub(crate) use tokenizer::{Allowed, QwenTokenizer};
pub(crate) use vocabulary::is_tiktoken;
