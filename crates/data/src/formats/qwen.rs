//! Records in Qwen-VL's own form: turns of user and assistant, with the pictures inline as `<img>PATH</img>`.

use gallery_gpt_text::{Conversation, ConversationError, Role, take_pictures};

use crate::{RecordError, RecordPicture};

const TAGS: [&str; 2] = ["<img>", "</img>"];

/// Whether a conversation names pictures in its texts.
pub(super) fn has_pictures(conversation: &Conversation) -> bool {
    let mut turns = conversation.turns.iter();
    turns.any(|turn| TAGS.iter().any(|tag| turn.text.contains(tag)))
}

/// Takes the pictures out of the texts, with a placeholder left for each. An answer before the first question is left as it is: it is
/// not trained on.
///
/// # Errors
/// A tag has no other half, a path cannot be read by the original, or an answer has a picture.
pub(super) fn take(conversation: &mut Conversation) -> Result<Vec<RecordPicture>, RecordError> {
    let mut pictures = Vec::new();
    for (nth, turn) in conversation.turns.iter_mut().enumerate() {
        if nth == 0 && turn.role == Role::Assistant {
            continue;
        }
        let taken = take_pictures(&turn.text);
        let (text, paths) = taken.map_err(|cause| RecordError::PictureTag { turn: nth, cause })?;
        if turn.role == Role::Assistant && !paths.is_empty() {
            return Err(RecordError::Conversation(ConversationError::ReservedText {
                turn: nth,
                text: TAGS[0].to_owned(),
                why: "would put a picture into an answer",
            }));
        }
        turn.text = text;
        pictures.extend(paths.into_iter().map(RecordPicture::File));
    }
    Ok(pictures)
}
