//! Words in, token ids and label masks out. No tensors here.
//!
//! - [`Tokenizer`] reads `tokenizer.json` and SentencePiece `tokenizer.model`, and by default behaves as the
//!   tokenizer LLaVA-1.5 runs (the slow `LlamaTokenizer` with `legacy=False`).
//! - [`Template`] lays a [`Conversation`] out as a prompt ([`TemplateKind`] names the ones of LLaVA).
//! - [`encode_prompt`] turns a prompt into ids, with [`IMAGE_TOKEN_INDEX`] where a picture goes.
//! - [`encode_conversation`] does the same for a training record and computes its labels turn by turn.
//! - [`printable`] makes a text of a file fit for a message.
//!
//! ```
//! use gallery_gpt_text::{Conversation, TemplateKind};
//!
//! let template = TemplateKind::VicunaV1.template();
//! let prompt = template.prompt(&Conversation::question("<image>\nWhere does the light come from?"));
//! assert!(prompt.starts_with("A chat between a curious user"));
//! assert!(prompt.ends_with("USER: <image>\nWhere does the light come from? ASSISTANT:"));
//! ```

mod added_tokens;
mod conversation;
mod error;
mod labels;
mod limited;
mod printable;
mod prompt;
mod sentencepiece;
mod special_tokens;
mod tokenizer;
mod tokenizer_file;
mod tokenizer_folder;
mod tokenizer_json;
mod training;
mod vocabulary;

pub use conversation::{Conversation, Role, Style, Template, TemplateKind, Turn, UnknownTemplate};
pub use error::{ConversationError, TokenizerError};
pub use labels::{EncodedConversation, encode_conversation};
pub use printable::printable;
pub use prompt::{encode_prompt, image_first, image_question, literal_image};
pub use special_tokens::{
    IGNORE_INDEX, IMAGE_PLACEHOLDER, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, SPIECE_UNDERLINE,
    SpecialTokens, expanded_length,
};
pub use tokenizer::{Tokenizer, TokenizerMode};
pub use training::train_tokenizer;
