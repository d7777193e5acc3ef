//! The label mask of a training record: which tokens the loss sees.
//!
//! LLaVA's `preprocess_v1` finds the mask by counting the tokens of pieces of the prompt and hoping that the counts
//! add up; when they do not, the whole record is masked and a warning printed. Here every token carries the bytes it
//! came from, so a token is supervised when its bytes lie in an answer (or its closing `</s>`), and a record for which
//! that is not well defined is an error.

use crate::{
    Conversation, ConversationError, IGNORE_INDEX, IMAGE_TOKEN, Role, SpecialTokens, Style,
    Template, Tokenizer, image_first, prompt::encode_prompt_pieces,
};

/// A training record as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedConversation {
    /// Token ids, [`crate::IMAGE_TOKEN_INDEX`] for each picture.
    pub input_ids: Vec<i64>,
    /// The id to be predicted at each position, or [`IGNORE_INDEX`]. Not shifted: `labels[i]` goes with `input_ids[i]`.
    pub labels: Vec<i64>,
}

impl EncodedConversation {
    /// Number of positions the loss sees.
    #[must_use]
    pub fn supervised(&self) -> usize {
        self.labels
            .iter()
            .filter(|&&label| label != IGNORE_INDEX)
            .count()
    }

    /// Number of pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.input_ids
            .iter()
            .filter(|&&id| id == crate::IMAGE_TOKEN_INDEX)
            .count()
    }
}

/// Encodes a conversation and its mask. A first turn of the assistant is skipped, as in the original, and `<image>`
/// moves to the front of its turn.
///
/// # Errors
/// Roles that do not alternate, a question without an answer, an empty turn, a turn that contains a special token or
/// the template's role mark (the original masks such a record as a whole), or a token that straddles an answer's edge.
///
/// # Examples
/// The mask covers the answer and its `</s>`, nothing else:
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gallery_gpt_text::{Conversation, TemplateKind, Tokenizer, encode_conversation};
/// let tokenizer = Tokenizer::from_folder("datasets/tiny-base")?;
/// let talk = Conversation::question("Name the main colour.\n<image>").answer("Ochre.");
/// let row = encode_conversation(&tokenizer, &TemplateKind::VicunaV1.template(), &talk)?;
/// assert!(row.supervised() > 0);
/// # Ok(()) }
/// ```
pub fn encode_conversation(
    tokenizer: &Tokenizer,
    template: &Template,
    conversation: &Conversation,
) -> Result<EncodedConversation, ConversationError> {
    let (prompt, answers) = lay_out(template, conversation)?;
    let pieces = encode_prompt_pieces(tokenizer, &prompt)?;
    let mut input_ids = Vec::with_capacity(pieces.len());
    let mut labels = Vec::with_capacity(pieces.len());
    let mut current = 0;
    for (id, bytes) in pieces {
        let mut label = IGNORE_INDEX;
        if let Some((start, end)) = bytes {
            while answers
                .get(current)
                .is_some_and(|answer| answer.end <= start)
            {
                current += 1;
            }
            if let Some(answer) = answers.get(current)
                && end > answer.start
            {
                if start < answer.start || end > answer.end {
                    return Err(ConversationError::Misaligned {
                        turn: answer.turn,
                        token: prompt.get(start..end).unwrap_or_default().to_owned(),
                    });
                }
                label = id;
            }
        }
        input_ids.push(id);
        labels.push(label);
    }
    Ok(EncodedConversation { input_ids, labels })
}

/// The bytes of one answer in the prompt, its closing separator included.
struct Answer {
    turn: usize,
    start: usize,
    end: usize,
}

fn lay_out(
    template: &Template,
    conversation: &Conversation,
) -> Result<(String, Vec<Answer>), ConversationError> {
    let skipped = usize::from(
        conversation
            .turns
            .first()
            .is_some_and(|turn| turn.role == Role::Assistant),
    );
    let turns = &conversation.turns[skipped..];
    check(template, turns, skipped)?;

    let (mut prompt, has_roles) = match template.style {
        Style::Two { sep, .. } => {
            let system = conversation.system.as_deref().unwrap_or(template.system);
            (format!("{system}{sep}"), true)
        }
        Style::Plain { .. } => (String::new(), false),
        Style::Single { .. } => {
            return Err(ConversationError::NotTrainable {
                template: template.name,
            });
        }
    };
    let mut answers = Vec::new();
    for (nth, turn) in turns.iter().enumerate() {
        if has_roles {
            prompt.push_str(template.role(turn.role));
            prompt.push(':');
        }
        let start = prompt.len();
        if has_roles {
            prompt.push(' ');
        }
        match (turn.role, has_roles) {
            (Role::User, true) => prompt.push_str(&image_first(&turn.text)),
            // LLaVA's plain style keeps nothing of the question but the picture.
            (Role::User, false) => prompt.push_str(IMAGE_TOKEN),
            (Role::Assistant, _) => prompt.push_str(&turn.text),
        }
        if has_roles || turn.role == Role::Assistant {
            prompt.push_str(template.separator(turn.role));
        }
        if turn.role == Role::Assistant {
            answers.push(Answer {
                turn: nth + skipped,
                start,
                end: prompt.len(),
            });
        }
    }
    Ok((prompt, answers))
}

fn check(
    template: &Template,
    turns: &[crate::Turn],
    skipped: usize,
) -> Result<(), ConversationError> {
    let Some(last) = turns.last() else {
        return Err(ConversationError::Empty);
    };
    let marker = format!(" {}: ", template.assistant);
    for (nth, turn) in turns.iter().enumerate() {
        let number = nth + skipped;
        let expected = if nth % 2 == 0 {
            Role::User
        } else {
            Role::Assistant
        };
        if turn.role != expected {
            return Err(ConversationError::Roles {
                turn: number,
                expected: expected.record_name(),
                found: turn.role.record_name(),
            });
        }
        if turn.text.trim().is_empty() {
            return Err(ConversationError::EmptyTurn { turn: number });
        }
        let reserved = |text: &str, why| ConversationError::ReservedText {
            turn: number,
            text: text.to_owned(),
            why,
        };
        for token in SpecialTokens::TEXTS {
            if turn.text.contains(token) {
                return Err(reserved(token, "the tokenizer reads as a special token"));
            }
        }
        if matches!(template.style, Style::Two { .. }) && turn.text.contains(&marker) {
            return Err(reserved(
                marker.trim(),
                "marks the start of an answer in the template",
            ));
        }
        if turn.role == Role::Assistant && turn.text.contains(IMAGE_TOKEN) {
            return Err(reserved(IMAGE_TOKEN, "would put a picture into an answer"));
        }
    }
    if last.role == Role::User {
        return Err(ConversationError::Unanswered {
            turn: turns.len() - 1 + skipped,
        });
    }
    Ok(())
}
