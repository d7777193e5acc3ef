//! Ends of a generation that are no ids: stop strings, and a cancellation from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use gallery_gpt_text::Tokenizer;

/// Cancels a generation from another thread. Clones share one flag.
///
/// A generation checks it before each token, and between the chunks of a prefill.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl From<Arc<AtomicBool>> for CancelToken {
    /// A token whose flag something else sets, such as a signal handler.
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the generations that have this token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Finds the stop strings of a generation in its newest tokens.
#[derive(Clone, Debug)]
pub(super) struct StopStrings<'a> {
    tokenizer: &'a Tokenizer,
    strings: Vec<String>,
    /// Ids that a stop string can span, since every id is at least one byte of text; and a few
    /// more, as the first ids of a window may decode to less than in the whole text.
    window: usize,
}

impl<'a> StopStrings<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, strings: Vec<String>) -> Self {
        let longest = strings.iter().map(String::len).max().unwrap_or(0);
        Self {
            tokenizer,
            strings,
            window: longest + 4,
        }
    }

    /// The stop string that the newest id completes; the leftmost in the text, if there are
    /// several.
    pub(super) fn find(&self, ids: &[u32]) -> Option<&String> {
        let recent = &ids[ids.len().saturating_sub(self.window)..];
        let text = self.tokenizer.decode_answer(recent);
        self.strings
            .iter()
            .filter_map(|stop| Some((text.find(stop.as_str())?, stop)))
            .min_by_key(|&(start, _)| start)
            .map(|(_, stop)| stop)
    }
}

/// A text up to the stop string that ended it.
pub(super) fn text_before<'t>(stop: Option<&str>, text: &'t str) -> &'t str {
    let end = stop.and_then(|stop| text.find(stop));
    &text[..end.unwrap_or(text.len())]
}

/// The beginning of a growing text that cannot become part of a stop string any more.
pub(super) fn settled<'t>(stops: &[String], text: &'t str) -> &'t str {
    let possible = |stop: &String| {
        let starts = stop.char_indices().map(|(length, _)| length).rev();
        starts
            .filter(|&length| text.ends_with(&stop[..length]))
            .max()
            .unwrap_or(0)
    };
    let held_back = stops.iter().map(possible).max().unwrap_or(0);
    &text[..text.len() - held_back]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_settled_where_no_stop_string_can_begin() {
        let stops = ["###".to_owned(), "#é".to_owned(), "end".to_owned()];
        for (text, expected) in [
            ("a wall", "a wall"),
            ("a wall##", "a wall"),
            ("a wall#", "a wall"),
            ("the e", "the "),
            ("the en", "the "),
            ("", ""),
        ] {
            assert_eq!(settled(&stops, text), expected);
        }
        assert_eq!(settled(&[], "#"), "#");
    }

    #[test]
    fn a_text_ends_before_its_stop_string() {
        assert_eq!(text_before(Some("##"), "a##b##"), "a");
        assert_eq!(text_before(Some("##"), "ab"), "ab");
        assert_eq!(text_before(None, "a##"), "a##");
    }
}
