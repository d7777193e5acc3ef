//! Prompts with image placeholders.

use crate::{
    IMAGE_PLACEHOLDER, IMAGE_TOKEN, IMAGE_TOKEN_INDEX, Tokenizer, TokenizerError,
    literal::{GUARD_BYTES, Literal, guard_tags, literal_image, without_guards},
    llama_tokenizer::LlamaTokenizer,
    qwen::Allowed,
    tokenizer::Kind,
    vocabulary::Piece,
};

/// Tokenizes a prompt that is one text.
///
/// With a LLaMA tokenizer: `<s>`, then the texts between the `<image>` placeholders, each encoded on
/// its own, with [`IMAGE_TOKEN_INDEX`] between them (LLaVA's `tokenizer_image_token`). With Qwen's there is no `<s>`, a placeholder
/// becomes `<img>`, [`IMAGE_TOKEN_INDEX`] and `</img>`, and all special texts become their ids. Prompts of conversations are encoded by
/// [`crate::Template::encode`].
///
/// # Errors
/// The tokenizer rejects the text; Qwen's also rejects an `<img>` that [`literal_image`] did not mark as text.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i64>, TokenizerError> {
    match tokenizer.kind() {
        Kind::Llama(llama) => {
            let pieces = encode_prompt_pieces(llama, prompt)?;
            Ok(pieces.into_iter().map(|(id, _)| id).collect())
        }
        Kind::Qwen(qwen) => qwen.encode_content(prompt, Allowed::All),
    }
}

/// An id with its byte range in the prompt.
pub(crate) type PromptPiece = (i64, Option<(usize, usize)>);

/// As [`encode_prompt`], each id with its byte range in the prompt (`None` for `<s>`).
pub(crate) fn encode_prompt_pieces(
    tokenizer: &LlamaTokenizer,
    prompt: &str,
) -> Result<Vec<PromptPiece>, TokenizerError> {
    let mut ids = vec![(i64::from(tokenizer.special_tokens().bos), None)];
    let mut at = 0;
    for (nth, text) in prompt.split(IMAGE_TOKEN).enumerate() {
        if nth > 0 {
            ids.push((IMAGE_TOKEN_INDEX, Some((at - IMAGE_TOKEN.len(), at))));
        }
        let Literal {
            text: literal,
            guards,
        } = without_guards(text);
        for Piece { id, start, end } in tokenizer.encode_pieces(&literal)? {
            // Adds the bytes of the guards that were removed.
            let start = start + GUARD_BYTES * guards.partition_point(|&guard| guard <= start);
            let end = end + GUARD_BYTES * guards.partition_point(|&guard| guard < end);
            ids.push((i64::from(id), Some((at + start, at + end))));
        }
        at += text.len() + IMAGE_TOKEN.len();
    }
    Ok(ids)
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
/// Without pictures both are plain text, see [`literal_image`], and so are Qwen's tags such as `<img>` in any case.
#[must_use]
pub fn image_question(question: &str, pictures: usize) -> String {
    if pictures == 0 {
        return literal_image(question);
    }
    let question = guard_tags(&question.replace(IMAGE_PLACEHOLDER, IMAGE_TOKEN));
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
}
