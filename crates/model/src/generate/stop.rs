//! Ends that are texts rather than ids, and ends that come from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use gallery_gpt_text::Tokenizer;

/// Ends a generation from another thread. Clones share one switch.
///
/// A generation looks at it before each token and between the chunks of its prompt.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl From<Arc<AtomicBool>> for CancelToken {
    /// A switch that something else turns on, a signal for instance.
    fn from(switch: Arc<AtomicBool>) -> Self {
        Self(switch)
    }
}

impl CancelToken {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks for stop strings in what was written.
#[derive(Clone, Debug)]
pub(super) struct StopStrings<'a> {
    tokenizer: &'a Tokenizer,
    strings: Vec<String>,
    /// Ids that a stop string can reach back over: every id is at least one byte of text, and the text of a few may be lost
    /// where a window begins.
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

    /// The stop string that the newest id completes.
    pub(super) fn find(&self, ids: &[u32]) -> Option<&String> {
        let recent = &ids[ids.len().saturating_sub(self.window)..];
        let text = self.tokenizer.decode(recent, true);
        self.strings
            .iter()
            .find(|string| text.contains(string.as_str()))
    }
}
