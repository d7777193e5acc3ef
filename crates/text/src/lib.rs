//! Tokenizer, prompt templates and labels: from text to token ids, without tensors.
//!
//! - [`Tokenizer`] reads `tokenizer.json` and SentencePiece `tokenizer.model`, and by default
//!   reproduces LLaVA-1.5's tokenizer (the slow `LlamaTokenizer` with `legacy=False`); and `qwen.tiktoken`, as the first generation of
//!   Qwen reads it.
//! - [`Template`] formats a [`Conversation`] as a prompt ([`TemplateKind`] names LLaVA's
//!   templates and Qwen's).
//! - [`Template::encode`] tokenizes the prompt of a conversation, with [`IMAGE_TOKEN_INDEX`] for each picture;
//!   [`encode_prompt`] that of a text.
//! - [`encode_conversation`] tokenizes a training record and computes its labels.
//! - [`answer_regions`] reads the boxes of an answer of Qwen-VL.
//! - [`printable`] makes text from a file safe to show in a message.
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
mod chat_ml;
mod conversation;
mod error;
mod labels;
mod limited;
mod literal;
mod llama_tokenizer;
mod printable;
mod prompt;
mod qwen;
mod regions;
mod sentencepiece;
mod special_tokens;
mod template;
mod tokenizer;
mod tokenizer_file;
mod tokenizer_folder;
mod tokenizer_json;
mod training;
mod unknown_name;
mod vocabulary;

pub use conversation::{Conversation, Role, Turn};
pub use error::{ConversationError, PictureTagError, TokenizerError};
pub use labels::{EncodedConversation, encode_conversation};
pub use literal::{literal_image, original_text};
pub use llama_tokenizer::TokenizerMode;
pub use printable::printable;
pub use prompt::{encode_prompt, image_first, image_question};
pub use qwen::{ChatMlTokens, PICTURE_FEATURES, take_pictures};
pub use regions::{
    AnswerRegions, REGION_SCALE, Region, RegionPoint, RegionShape, TaggedPart, answer_regions,
    tagged_parts,
};
pub use special_tokens::{
    IGNORE_INDEX, IMAGE_PLACEHOLDER, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, SPIECE_UNDERLINE,
    SpecialTokens, expanded_length,
};
pub use template::{Style, Template, TemplateKind};
pub use tokenizer::Tokenizer;
pub use training::train_tokenizer;
pub use unknown_name::UnknownName;
