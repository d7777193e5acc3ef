//! The labels of a training record: which tokens are supervised.
//!
//! LLaVA's `preprocess_v1` finds the mask by tokenizing each round of the prompt and counting; when
//! the counts do not add up, it masks the whole record and prints a warning. Here every token knows
//! the bytes of the prompt it came from, so a token is supervised if its bytes lie in an answer or
//! its closing `</s>`. A record for which that is not well defined is an error.
//!
//! ```text
//! prompt   … USER: <image>\nName the colour. ASSISTANT: Ochre.</s>
//! labels   -100 …                            -100       supervised
//! ```
//!
//! ChatML has its parts tokenized apart, so there is nothing to find: answers are supervised, and `<|im_start|>`, `<|im_end|>` and the
//! newline after it of every turn, as in Qwen-VL's finetune.py. That pads and cuts rows, and masks any `<|endoftext|>` out of the
//! attention; here a text with that token is an error, and the length is the caller's concern.

use crate::{
    Conversation, ConversationError, IGNORE_INDEX, IMAGE_TOKEN, Role, SpecialTokens, Style,
    Template, Tokenizer, chat_ml, image_first, prompt::encode_prompt_pieces, tokenizer::Kind,
};

/// A tokenized training record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedConversation {
    /// Token ids, with [`crate::IMAGE_TOKEN_INDEX`] for each picture.
    pub input_ids: Vec<i64>,
    /// The label of each position, or [`IGNORE_INDEX`]. Not shifted: `labels[i]` is `input_ids[i]`
    /// where it is supervised.
    pub labels: Vec<i64>,
}

impl EncodedConversation {
    /// Number of supervised tokens.
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

/// Tokenizes a conversation and labels its answers. A first turn of the assistant is skipped, as in
/// the original. With LLaVA's templates, a single `<image>` moves to the front of its turn ([`image_first`]). A
/// conversation's own system prompt replaces the template's, as in `FastChat`; the original has no
/// such setting.
///
/// ChatML takes the texts as they are; [`Template::arrange_pictures`] brings a record in LLaVA's form into Qwen's. All special texts in them
/// become their ids, as in Qwen-VL's finetune.py, and so do typed ones. Turns may be empty and in any order there, as they may in the original.
///
/// # Errors
/// With every template: there is no turn, a picture outside of a question, or a template that does not belong to the tokenizer. With ChatML: a text
/// with `<|endoftext|>`, which the original would leave out of the attention, or with `<img>`, which opens a picture in Qwen's own form
/// ([`crate::take_pictures`]). With LLaVA's templates: roles that do not alternate; a question without an answer; an empty turn; a turn or system
/// prompt that contains a special token or the template's role name (the original masks such a
/// record as a whole); a system prompt for a template without one; or a token that crosses the
/// boundary of an answer.
///
/// # Examples
/// Only the answer and its `</s>` are supervised:
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
    let tokenizer = match template.tokenizer(tokenizer)? {
        Kind::Llama(llama) => llama,
        Kind::Qwen(qwen) => {
            let (input_ids, labels) = chat_ml::labelled(qwen, template.names(), conversation)?;
            return Ok(EncodedConversation { input_ids, labels });
        }
    };
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

/// The byte range of an answer in the prompt, including its closing separator.
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
    if let Some(system) = &conversation.system {
        check_system(template, system)?;
    }

    let (mut prompt, has_roles) = match template.style {
        Style::Two { sep, .. } => {
            let system = conversation.system.as_deref().unwrap_or(template.system);
            (format!("{system}{sep}"), true)
        }
        Style::Plain { .. } => (String::new(), false),
        Style::Single { .. } | Style::ChatMl => {
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
            // LLaVA's plain style keeps only the pictures of a question.
            (Role::User, false) => {
                let pictures = turn.text.matches(IMAGE_TOKEN).count();
                if pictures == 0 {
                    return Err(ConversationError::NothingKept {
                        turn: nth + skipped,
                        template: template.name,
                    });
                }
                prompt.push_str(&IMAGE_TOKEN.repeat(pictures));
            }
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
        if let Some((text, why)) = reserved_text(template, &turn.text) {
            return Err(reserved(&text, why));
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

/// The part of a text that the tokenizer or the template would interpret, and how.
fn reserved_text(template: &Template, text: &str) -> Option<(String, &'static str)> {
    let token = SpecialTokens::TEXTS
        .into_iter()
        .find(|token| text.contains(token));
    if let Some(token) = token {
        return Some((token.to_owned(), "the tokenizer reads as a special token"));
    }
    let marker = format!("{}: ", template.assistant);
    (matches!(template.style, Style::Two { .. }) && text.contains(&format!(" {marker}"))).then(
        || {
            let marker = marker.trim().to_owned();
            (marker, "marks the start of an answer in the template")
        },
    )
}

fn check_system(template: &Template, system: &str) -> Result<(), ConversationError> {
    if matches!(template.style, Style::Plain { .. }) {
        return Err(ConversationError::NoSystemPrompt {
            template: template.name,
        });
    }
    let image = || {
        let why = "would put a picture in front of the conversation";
        system
            .contains(IMAGE_TOKEN)
            .then(|| (IMAGE_TOKEN.to_owned(), why))
    };
    match reserved_text(template, system).or_else(image) {
        Some((text, why)) => Err(ConversationError::ReservedInSystemPrompt { text, why }),
        None => Ok(()),
    }
}
