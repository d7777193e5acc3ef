//! An answer, piece by piece as it is generated.

use crate::{
    GalleryError,
    model::{Decoding, Generation},
    text::Tokenizer,
};

/// Pieces of an answer ([`GalleryGpt::stream`](crate::GalleryGpt::stream)). A piece never ends inside
/// a character, nor does it hold any part of a stop string; joined, the pieces are the whole answer.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    decoding: Decoding<'a>,
    text: String,
    done: bool,
}

impl<'a> TextStream<'a> {
    /// The stream of a decoding of one prompt.
    pub(crate) fn new(decoding: Decoding<'a>, tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            decoding,
            text: String::new(),
            done: false,
        }
    }

    /// The pieces so far, joined.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The generated ids and why the answer ended; an unfinished answer counts as ended by length.
    #[must_use]
    pub fn finish(self) -> Generation {
        let mut rows = self.decoding.finish();
        rows.swap_remove(0)
    }

    /// What the newest token added to the text.
    fn piece(&mut self) -> Option<String> {
        let text = self.decoding.settled_text(0, self.tokenizer);
        let piece = text.strip_prefix(&self.text)?.to_owned();
        self.text = text;
        (!piece.is_empty()).then_some(piece)
    }
}

impl Iterator for TextStream<'_> {
    type Item = Result<String, GalleryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.decoding.step() {
                Ok(ids) => self.done = ids.is_none(),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error.into()));
                }
            }
            if let Some(piece) = self.piece() {
                return Some(Ok(piece));
            }
        }
        None
    }
}
