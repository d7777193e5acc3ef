//! Prompts with image placeholders.

use std::borrow::Cow;

use crate::{
    IMAGE_PLACEHOLDER, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, Tokenizer, TokenizerError, vocabulary::Piece,
};

/// Tokenizes a prompt: `<s>`, then the texts between the `<image>` placeholders, each encoded on
/// its own, with [`IMAGE_TOKEN_INDEX`] between them (LLaVA's `tokenizer_image_token`).
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i64>, TokenizerError> {
    Ok(encode_prompt_pieces(tokenizer, prompt)?
        .into_iter()
        .map(|(id, _)| id)
        .collect())
}

/// An id with its byte range in the prompt.
pub(crate) type PromptPiece = (i64, Option<(usize, usize)>);

/// As [`encode_prompt`], each id with its byte range in the prompt (`None` for `<s>`).
pub(crate) fn encode_prompt_pieces(
    tokenizer: &Tokenizer,
    prompt: &str,
) -> Result<Vec<PromptPiece>, TokenizerError> {
    let mut ids = vec![(i64::from(tokenizer.special_tokens().bos), None)];
    let mut at = 0;
    for (nth, text) in prompt.split(IMAGE_TOKEN).enumerate() {
        if nth > 0 {
            ids.push((IMAGE_TOKEN_INDEX, Some((at - IMAGE_TOKEN.len(), at))));
        }
        let (literal, guards) = without_guards(text);
        for Piece { id, start, end } in tokenizer.encode_pieces(&literal)? {
            // Adds the bytes of the guards that were removed.
            let start = start + GUARD.len_utf8() * guards.partition_point(|&guard| guard <= start);
            let end = end + GUARD.len_utf8() * guards.partition_point(|&guard| guard < end);
            ids.push((i64::from(id), Some((at + start, at + end))));
        }
        at += text.len() + IMAGE_TOKEN.len();
    }
    Ok(ids)
}

/// Inserted after the `<` of an `<image>` that is plain text. A Unicode noncharacter, which does
/// not occur in interchanged text.
const GUARD: char = '\u{FDD0}';

/// Escapes a text so that its `<image>` means these seven characters and not a picture: for
/// untrusted text that was not written as a prompt. [`encode_prompt`] encodes the original text.
///
/// ```
/// use gallery_gpt_text::{IMAGE_TOKEN, literal_image};
///
/// assert!(!literal_image("What does <image> mean?").contains(IMAGE_TOKEN));
/// assert_eq!(literal_image("Where is the light?"), "Where is the light?");
/// ```
#[must_use]
pub fn literal_image(text: &str) -> String {
    let mut guarded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, guards, after)) = next_image(rest) {
        guarded.push_str(before);
        guarded.push('<');
        // One guard more than before, so that guards of the original text are restored.
        guarded.extend(std::iter::repeat_n(GUARD, guards + 1));
        guarded.push_str(IMAGE_END);
        rest = after;
    }
    guarded.push_str(rest);
    guarded
}

/// [`IMAGE_TOKEN`] without its first character.
const IMAGE_END: &str = "image>";

/// The first `<image>`, with any guards in it: the text before, the number of guards, the text
/// after.
fn next_image(text: &str) -> Option<(&str, usize, &str)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(IMAGE_END) {
        let end = from + found;
        let before = text[..end].trim_end_matches(GUARD);
        if let Some(before) = before.strip_suffix('<') {
            let guards = (end - before.len() - 1) / GUARD.len_utf8();
            return Some((before, guards, &text[end + IMAGE_END.len()..]));
        }
        from = end + IMAGE_END.len();
    }
    None
}

/// Undoes [`literal_image`]; also returns the byte positions of the guards.
fn without_guards(text: &str) -> (Cow<'_, str>, Vec<usize>) {
    if !text.contains(GUARD) {
        return (Cow::Borrowed(text), Vec::new());
    }
    let mut literal = String::with_capacity(text.len());
    let mut places = Vec::new();
    let mut rest = text;
    while let Some((before, guards, after)) = next_image(rest) {
        literal.push_str(before);
        literal.push('<');
        if guards > 0 {
            places.push(literal.len());
        }
        literal.extend(std::iter::repeat_n(GUARD, guards.saturating_sub(1)));
        literal.push_str(IMAGE_END);
        rest = after;
    }
    literal.push_str(rest);
    (Cow::Owned(literal), places)
}

/// Moves the `<image>` placeholder of a training turn to its front, on a line of its own
/// (`preprocess_multimodal`). A turn with no or several placeholders is returned unchanged: the
/// positions of several pictures are meaningful (LLaVA-NeXT does the same; the original supports
/// one picture).
#[must_use]
pub fn image_first(text: &str) -> String {
    if text.matches(IMAGE_TOKEN).count() != 1 {
        return text.to_owned();
    }
    let rest = text.replace(IMAGE_TOKEN, "");
    format!("{IMAGE_TOKEN}\n{}", rest.trim()).trim().to_owned()
}

/// A question about `pictures` pictures, as in `run_llava.py`: `<image-placeholder>` becomes
/// `<image>`, and a question without a placeholder gets one line of `<image>` per picture in front.
/// Without pictures both are plain text, see [`literal_image`].
#[must_use]
pub fn image_question(question: &str, pictures: usize) -> String {
    if pictures == 0 {
        return literal_image(question);
    }
    let question = question.replace(IMAGE_PLACEHOLDER, IMAGE_TOKEN);
    if question.contains(IMAGE_TOKEN) {
        question
    } else {
        format!("{}{question}", format!("{IMAGE_TOKEN}\n").repeat(pictures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_moves_to_the_front() {
        assert_eq!(image_first("Describe.\n<image>"), "<image>\nDescribe.");
        assert_eq!(image_first("<image>"), "<image>");
        assert_eq!(image_first("No picture. "), "No picture. ");
        let two = "First <image>, then\n<image>";
        assert_eq!(image_first(two), two);
    }

    #[test]
    fn a_question_gets_its_placeholders() {
        assert_eq!(image_question("Why?", 1), "<image>\nWhy?");
        assert_eq!(image_question("Why?", 0), "Why?");
        assert_eq!(
            image_question("See <image-placeholder>.", 1),
            "See <image>."
        );
        let text = "See <image-placeholder>.";
        assert_eq!(image_question(text, 0), text);
    }

    #[test]
    fn a_literal_image_is_a_text_and_comes_back() {
        let texts = [
            "What is <image>?",
            "<image><image>",
            "<<image> image> <image",
            "a guard of its own: <\u{FDD0}image>, <\u{FDD0}\u{FDD0}image>, \u{FDD0}",
            "",
        ];
        for text in texts {
            let guarded = literal_image(text);
            assert!(!guarded.contains(IMAGE_TOKEN), "{guarded:?}");
            assert_eq!(without_guards(&guarded).0, text);
        }
        assert_eq!(without_guards(&literal_image("x <image>")).1, [3]);
    }
}
