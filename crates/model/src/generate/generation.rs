//! The result of a generation.

use gallery_gpt_text::Tokenizer;

use super::stop::text_before;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated one of the stop ids or stop strings.
    Stop,
    /// `max_new_tokens`, or the context, was reached.
    Length,
    /// A [`CancelToken`](crate::CancelToken) or a callback ended it.
    Cancelled,
}

/// The generated continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The generated ids, without the stop id, but with those of a stop string.
    pub ids: Vec<u32>,
    /// The stop id, if one was generated.
    pub stop_id: Option<u32>,
    /// The stop string, if one was generated.
    pub stop_string: Option<String>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Generation {
    /// The text up to the stop string, without special tokens, trimmed. A stop id that is a word,
    /// as a model's own list of end ids may have it, is part of the text, as in transformers.
    #[must_use]
    pub fn text(&self, tokenizer: &Tokenizer) -> String {
        let mut ids = self.ids.clone();
        ids.extend(self.stop_id);
        let text = tokenizer.decode(&ids, true);
        text_before(self.stop_string.as_deref(), &text)
            .trim()
            .to_owned()
    }
}
