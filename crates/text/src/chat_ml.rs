//! ChatML, the form of Qwen's conversations: prompts, labels, and the numbers of pictures.
//!
//! ```text
//! prompt   <|im_start|> system \n SYSTEM <|im_end|> \n <|im_start|> user \n QUESTION <|im_end|> \n <|im_start|> assistant \n
//! ```
//!
//! Role, newline and text are tokenized apart, as the original does.

use std::borrow::Cow;

use crate::{
    Conversation, ConversationError, IGNORE_INDEX, IMAGE_TOKEN, PICTURE_FEATURES, Role,
    TokenizerError, Turn, expanded_length, image_first,
    qwen::{Allowed, QwenTokenizer},
};

/// The names of the roles, and the system prompt of conversations without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) system: &'static str,
    pub(crate) user: &'static str,
    pub(crate) assistant: &'static str,
}

impl Names {
    fn role(&self, role: Role) -> &'static str {
        match role {
            Role::User => self.user,
            Role::Assistant => self.assistant,
        }
    }
}

/// Writes the parts of a conversation as ids.
struct Writer<'a> {
    qwen: &'a QwenTokenizer,
    allowed: Allowed,
    newline: Vec<i64>,
}

impl<'a> Writer<'a> {
    fn new(qwen: &'a QwenTokenizer, allowed: Allowed) -> Result<Self, TokenizerError> {
        Ok(Self {
            qwen,
            allowed,
            newline: qwen.encode_content("\n", allowed)?,
        })
    }

    /// `<|im_start|>`, the role and a newline.
    fn role(&self, role: &str) -> Result<Vec<i64>, TokenizerError> {
        let mut ids = vec![i64::from(self.qwen.tokens().im_start)];
        ids.extend(self.qwen.encode_content(role, self.allowed)?);
        ids.extend(&self.newline);
        Ok(ids)
    }

    fn text(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        self.qwen.encode_content(text, self.allowed)
    }

    /// A turn up to its `<|im_end|>`.
    fn turn(&self, role: &str, text: &str) -> Result<Vec<i64>, TokenizerError> {
        let mut ids = self.role(role)?;
        ids.extend(self.text(text)?);
        ids.push(i64::from(self.qwen.tokens().im_end));
        Ok(ids)
    }
}

/// The turns before an open question, each question with its answer, and the question.
fn exchanges(turns: &[Turn]) -> (Vec<&[Turn]>, Option<&Turn>) {
    let (open, mut rest) = match turns.split_last() {
        Some((last, before)) if last.role == Role::User => (Some(last), before),
        _ => (None, turns),
    };
    let mut exchanges = Vec::new();
    while let Some(first) = rest.first() {
        let answered = first.role == Role::User
            && rest.get(1).is_some_and(|turn| turn.role == Role::Assistant);
        let (exchange, after) = rest.split_at(1 + usize::from(answered));
        exchanges.push(exchange);
        rest = after;
    }
    (exchanges, open)
}

/// The ids of the prompt of a conversation. The oldest exchanges are left out where it would have `window` tokens or more without its last
/// question.
pub(crate) fn prompt_ids(
    qwen: &QwenTokenizer,
    names: Names,
    conversation: &Conversation,
    window: Option<usize>,
) -> Result<Vec<i64>, TokenizerError> {
    let writer = Writer::new(qwen, Allowed::Tags)?;
    let length = |ids: &[i64]| expanded_length(ids, PICTURE_FEATURES);
    let system = conversation.system.as_deref().unwrap_or(names.system);
    let mut ids = writer.turn("system", system)?;
    let (exchanges, open) = exchanges(&conversation.turns);
    let mut kept = Vec::new();
    let mut tokens = length(&ids);
    for exchange in exchanges.into_iter().rev() {
        let mut written = Vec::new();
        for turn in exchange {
            written.extend(&writer.newline);
            written.extend(writer.turn(names.role(turn.role), &turn.text)?);
        }
        if let [question] = exchange
            && question.role == Role::User
        {
            written.extend(&writer.newline);
        }
        tokens += length(&written);
        if window.is_some_and(|window| tokens >= window) {
            break;
        }
        kept.push(written);
    }
    ids.extend(kept.into_iter().rev().flatten());
    if let Some(question) = open {
        ids.extend(&writer.newline);
        ids.extend(writer.turn(names.user, &question.text)?);
    }
    if open.is_some() || conversation.turns.is_empty() {
        ids.extend(&writer.newline);
        ids.extend(writer.role(names.assistant)?);
    }
    Ok(ids)
}

/// The prompt as one text.
pub(crate) fn prompt_text(names: Names, conversation: &Conversation) -> String {
    let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>");
    let system = conversation.system.as_deref().unwrap_or(names.system);
    let mut prompt = turn("system", system);
    let (exchanges, open) = exchanges(&conversation.turns);
    for exchange in exchanges {
        for part in exchange {
            prompt.push('\n');
            prompt.push_str(&turn(names.role(part.role), &part.text));
        }
        if matches!(exchange, [question] if question.role == Role::User) {
            prompt.push('\n');
        }
    }
    if let Some(question) = open {
        prompt.push('\n');
        prompt.push_str(&turn(names.user, &question.text));
    }
    if open.is_some() || conversation.turns.is_empty() {
        prompt.push_str(&format!("\n<|im_start|>{}\n", names.assistant));
    }
    prompt
}

/// Ids and labels of a training record.
pub(crate) fn labelled(
    qwen: &QwenTokenizer,
    names: Names,
    conversation: &Conversation,
) -> Result<(Vec<i64>, Vec<i64>), ConversationError> {
    let turns = &conversation.turns;
    let skipped = usize::from(
        turns
            .first()
            .is_some_and(|turn| turn.role == Role::Assistant),
    );
    if turns.len() == skipped {
        return Err(ConversationError::Empty);
    }
    let system = conversation.system.as_deref().unwrap_or(names.system);
    if let Some((text, why)) = reserved(system, true) {
        let text = text.to_owned();
        return Err(ConversationError::ReservedInSystemPrompt { text, why });
    }
    for (turn, part) in turns.iter().enumerate().skip(skipped) {
        if let Some((text, why)) = reserved(&part.text, part.role == Role::Assistant) {
            let text = text.to_owned();
            return Err(ConversationError::ReservedText { turn, text, why });
        }
    }
    let writer = Writer::new(qwen, Allowed::All)?;
    let system = ("system", system, false);
    let turns = turns[skipped..].iter().map(|turn| {
        let supervised = turn.role == Role::Assistant;
        (names.role(turn.role), turn.text.as_str(), supervised)
    });
    let mut ids = Vec::new();
    let mut labels = Vec::new();
    for (role, text, supervised) in std::iter::once(system).chain(turns) {
        let role = writer.role(role)?;
        let text = writer.text(text)?;
        // The turn's beginning is supervised, its role is not.
        labels.push(role[0]);
        labels.extend(std::iter::repeat_n(IGNORE_INDEX, role.len() - 1));
        match supervised {
            true => labels.extend(&text),
            false => labels.extend(std::iter::repeat_n(IGNORE_INDEX, text.len())),
        }
        ids.extend(role);
        ids.extend(text);
        for row in [&mut ids, &mut labels] {
            row.push(i64::from(qwen.tokens().im_end));
            row.extend(&writer.newline);
        }
    }
    Ok((ids, labels))
}

/// A part of a text that cannot be trained on, and why.
fn reserved(text: &str, without_pictures: bool) -> Option<(&'static str, &'static str)> {
    let mut parts = vec![
        (
            "<|endoftext|>",
            "pads the rows of a batch: the original would leave it out of the attention",
        ),
        (
            "<img>",
            "opens a picture in Qwen's own form, where `<image>` and the record's pictures are expected",
        ),
    ];
    if without_pictures {
        parts.push((IMAGE_TOKEN, "would put a picture outside of a question"));
    }
    parts.into_iter().find(|(part, _)| text.contains(part))
}

/// Numbers the placeholders of a text, going on from `number`.
fn numbered(text: &str, number: &mut usize) -> String {
    let mut parts = text.split(IMAGE_TOKEN);
    let mut before = parts.next().unwrap_or_default();
    let mut out = before.to_owned();
    for after in parts {
        *number += 1;
        if is_labelled(before) {
            out.push_str(IMAGE_TOKEN);
        } else {
            out.push_str(&format!("Picture {number}: {IMAGE_TOKEN}"));
            if !after.starts_with('\n') {
                out.push('\n');
            }
        }
        out.push_str(after);
        before = after;
    }
    out
}

/// Whether a placeholder after this text already has its `Picture N: `; the blank was added to the original later.
fn is_labelled(before: &str) -> bool {
    let label = before.strip_suffix(' ').unwrap_or(before);
    label.strip_suffix(':').is_some_and(|label| {
        let name = label.trim_end_matches(|c: char| c.is_ascii_digit());
        name.len() < label.len() && name.ends_with("Picture ")
    })
}

fn placeholders(text: &str) -> usize {
    text.matches(IMAGE_TOKEN).count()
}

/// The conversation with numbered pictures; `prepare` changes a question before.
pub(crate) fn numbered_pictures(
    conversation: &Conversation,
    prepare: impl Fn(&str) -> Cow<'_, str>,
) -> Conversation {
    let mut number = 0;
    let mut conversation = conversation.clone();
    for turn in &mut conversation.turns {
        if turn.role == Role::User {
            turn.text = numbered(&prepare(&turn.text), &mut number);
        }
    }
    conversation
}

/// A question whose only placeholder moves to its front, as in LLaVA's training, if it has no label yet.
pub(crate) fn picture_first(question: &str) -> Cow<'_, str> {
    match question.split_once(IMAGE_TOKEN) {
        Some((before, _)) if !is_labelled(before) => image_first(question).into(),
        _ => question.into(),
    }
}

/// A question with numbered pictures, after those of the `earlier` turns.
pub(crate) fn numbered_question(earlier: &Conversation, question: &str) -> String {
    let questions = earlier.turns.iter().filter(|turn| turn.role == Role::User);
    let mut number = questions.map(|turn| placeholders(&turn.text)).sum();
    numbered(question, &mut number)
}
