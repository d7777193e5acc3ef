//! Texts in which the placeholder and the tags of pictures are plain text.

use std::{borrow::Cow, sync::LazyLock};

use aho_corasick::{AhoCorasick, MatchKind};

/// Inserted after the `<` of an `<image>` that is plain text. A Unicode noncharacter, which does
/// not occur in interchanged text.
const GUARD: char = '\u{FDD0}';

/// `<image>` and the tags that Qwen's tokenizer reads as a picture, without their first character.
const ENDS: [&str; 4] = ["image>", "img>", "/img>", "imgpad>"];

static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let builder = &mut AhoCorasick::builder();
    let builder = builder.match_kind(MatchKind::LeftmostLongest);
    builder.build(ENDS).expect("a fixed list")
});

/// Escapes a text so that its `<image>` means these seven characters and not a picture, and its `<img>`, `</img>` and `<imgpad>` likewise:
/// for untrusted text that was not written as a prompt. [`crate::encode_prompt`] and [`crate::Template::encode`] encode the original text.
///
/// ```
/// use gallery_gpt_text::{IMAGE_TOKEN, literal_image};
///
/// assert!(!literal_image("What does <image> mean?").contains(IMAGE_TOKEN));
/// assert_eq!(literal_image("Where is the light?"), "Where is the light?");
/// ```
#[must_use]
pub fn literal_image(text: &str) -> String {
    guard(text, |_| true)
}

/// A text that was made safe by [`literal_image`], as it was.
///
/// ```
/// use gallery_gpt_text::{literal_image, original_text};
///
/// let text = "What does <image> mean?";
/// assert_eq!(original_text(&literal_image(text)), text);
/// ```
#[must_use]
pub fn original_text(guarded: &str) -> Cow<'_, str> {
    without_guards(guarded).text
}

/// As [`literal_image`], for `<image>` alone.
pub(crate) fn guard_placeholders(text: &str) -> String {
    guard(text, |end| end == ENDS[0])
}

/// As [`literal_image`], for all but `<image>`.
pub(crate) fn guard_tags(text: &str) -> String {
    guard(text, |end| end != ENDS[0])
}

fn guard(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut guarded = String::with_capacity(text.len());
    let mut at = 0;
    for found in found(text).filter(|found| wanted(&text[found.end..found.after])) {
        guarded.push_str(&text[at..found.end]);
        // One guard more than before, so that guards of the original text are restored.
        guarded.push(GUARD);
        at = found.end;
    }
    guarded.push_str(&text[at..]);
    guarded
}

/// A tag in a text, with any guards in it.
struct Found {
    /// After the `<`.
    start: usize,
    /// After the guards.
    end: usize,
    /// After the tag.
    after: usize,
}

fn found(text: &str) -> impl Iterator<Item = Found> {
    let mut last = 0;
    FINDER.find_iter(text).filter_map(move |found| {
        let before = text[last..found.start()].trim_end_matches(GUARD);
        let is_tag = before.ends_with('<');
        let start = last + before.len();
        last = found.end();
        is_tag.then_some(Found {
            start,
            end: found.start(),
            after: found.end(),
        })
    })
}

/// A text whose guards were removed.
pub(crate) struct Literal<'t> {
    pub(crate) text: Cow<'t, str>,
    /// Where they stood, as byte positions in `text`.
    pub(crate) guards: Vec<usize>,
}

/// Undoes [`literal_image`].
pub(crate) fn without_guards(text: &str) -> Literal<'_> {
    let mut guards = Vec::new();
    if !text.contains(GUARD) {
        let text = text.into();
        return Literal { text, guards };
    }
    let mut literal = String::with_capacity(text.len());
    let mut at = 0;
    for found in found(text).filter(|found| found.start < found.end) {
        literal.push_str(&text[at..found.start]);
        guards.push(literal.len());
        at = found.start + GUARD.len_utf8();
    }
    literal.push_str(&text[at..]);
    let text = literal.into();
    Literal { text, guards }
}

/// Bytes of a guard.
pub(crate) const GUARD_BYTES: usize = GUARD.len_utf8();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IMAGE_TOKEN;

    #[test]
    fn a_literal_image_is_a_text_and_comes_back() {
        let texts = [
            "What is <image>?",
            "<image><image>",
            "<<image> image> <image",
            "a guard of its own: <\u{FDD0}image>, <\u{FDD0}\u{FDD0}image>, \u{FDD0}",
            "<img>a.png</img> <imgpad> <\u{FDD0}img> /img>",
            "",
        ];
        for text in texts {
            let guarded = literal_image(text);
            for tag in [IMAGE_TOKEN, "<img>", "</img>", "<imgpad>"] {
                assert!(!guarded.contains(tag), "{guarded:?}");
            }
            assert_eq!(without_guards(&guarded).text, text);
            let tags = guard_tags(text);
            assert_eq!(
                tags.matches(IMAGE_TOKEN).count(),
                text.matches(IMAGE_TOKEN).count()
            );
            let both = guard_placeholders(&tags);
            assert_eq!(both, guarded);
        }
        assert_eq!(without_guards(&literal_image("x <image>")).guards, [3]);
        assert_eq!(
            without_guards(&literal_image("<img><image>")).guards,
            [1, 6]
        );
    }
}
