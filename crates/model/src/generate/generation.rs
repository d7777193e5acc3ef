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

/// The ids of an answer, with the stop id unless it is one of ChatML's.
pub(super) fn with_stop_word(ids: &[u32], stop_id: Option<u32>, tokenizer: &Tokenizer) -> Vec<u32> {
    let word = stop_id.filter(|_| tokenizer.chat_ml().is_none());
    ids.iter().copied().chain(word).collect()
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
    /// The text up to the stop string, trimmed ([`Tokenizer::decode_answer`]). A stop id that is a
    /// word, as a LLaVA model's own list of end ids may have it, is part of the text, as in
    /// transformers; those of ChatML are not.
    #[must_use]
    pub fn text(&self, tokenizer: &Tokenizer) -> String {
        let text = tokenizer.decode_answer(&with_stop_word(&self.ids, self.stop_id, tokenizer));
        text_before(self.stop_string.as_deref(), &text)
            .trim()
            .to_owned()
    }
}
