//! Prompts with pictures in them.

use crate::{
    IMAGE_PLACEHOLDER, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, Tokenizer, TokenizerError, tokenizer::Piece,
};

/// The ids of a prompt: `<s>`, then the texts between the `<image>` marks, each encoded as a text of its own, with
/// [`IMAGE_TOKEN_INDEX`] between them (LLaVA's `tokenizer_image_token`).
///
/// # Errors
/// The tokenizer refuses the text.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i64>, TokenizerError> {
    Ok(encode_prompt_pieces(tokenizer, prompt)?
        .into_iter()
        .map(|(id, _)| id)
        .collect())
}

/// An id with the bytes of the prompt it stands for.
pub(crate) type PromptPiece = (i64, Option<(usize, usize)>);

/// As [`encode_prompt`], each id with the bytes of the prompt it stands for (none for `<s>`).
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
        for Piece { id, start, end } in tokenizer.encode_pieces(text)? {
            ids.push((i64::from(id), Some((at + start, at + end))));
        }
        at += text.len() + IMAGE_TOKEN.len();
    }
    Ok(ids)
}

/// Moves the `<image>` mark of a training turn to its front, on a line of its own (`preprocess_multimodal`).
/// A turn without a mark is returned as it is.
#[must_use]
pub fn image_first(text: &str) -> String {
    if !text.contains(IMAGE_TOKEN) {
        return text.to_owned();
    }
    let rest = text.replace(IMAGE_TOKEN, "");
    format!("{IMAGE_TOKEN}\n{}", rest.trim()).trim().to_owned()
}

/// A question about `pictures` pictures, as `run_llava.py` asks it: `<image-placeholder>` becomes `<image>`; a
/// question without any mark gets one line of `<image>` per picture in front.
#[must_use]
pub fn image_question(question: &str, pictures: usize) -> String {
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
    }

    #[test]
    fn a_question_gets_its_marks() {
        assert_eq!(image_question("Why?", 1), "<image>\nWhy?");
        assert_eq!(image_question("Why?", 0), "Why?");
        assert_eq!(
            image_question("See <image-placeholder>.", 1),
            "See <image>."
        );
    }
}
