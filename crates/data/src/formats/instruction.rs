//! Records with a question and an answer in fields of their own, as in the data sets of Alpaca and ms-swift.

use gallery_gpt_text::Conversation;
use serde_json::Value;

use super::{
    fields::{Object, field, schema},
    turns::TURNS,
};
use crate::{RecordError, json::json_kind};

const HISTORY: &str = "`history`, a list of pairs of question and answer";

/// Reads `instruction`, `input` and `output`, or `query` and `response`, after the `history`.
///
/// # Errors
/// The question or the answer is missing, or a field is not a text.
pub(super) fn conversation(fields: &Object) -> Result<Conversation, RecordError> {
    let text = |names: &[&'static str]| match field(fields, names)? {
        None => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text)),
        Some((name, other)) => Err(schema(
            "a question and its answer as texts",
            format!("{} in `{name}`", json_kind(Some(other))),
        )),
    };
    let question = text(&["instruction", "query"])?;
    let answer = text(&["output", "response"])?;
    let (Some(question), Some(answer)) = (question, answer) else {
        let names = fields.keys().take(8).map(|name| format!("`{name}`"));
        let names: Vec<String> = names.collect();
        let found = match names.is_empty() {
            true => "nothing".to_owned(),
            false => format!("the fields {}", names.join(", ")),
        };
        return Err(schema(TURNS, found));
    };
    let question = match text(&["input"])? {
        Some(input) => format!("{question}\n{input}"),
        None => question.clone(),
    };
    let mut conversation = Conversation::default();
    match field(fields, &["history"])? {
        None => {}
        Some((_, Value::Array(history))) => {
            for pair in history {
                match pair.as_array().map(Vec::as_slice) {
                    Some([Value::String(question), Value::String(answer)]) => {
                        conversation = conversation.ask(question).answer(answer);
                    }
                    _ => return Err(schema(HISTORY, json_kind(Some(pair)))),
                }
            }
        }
        Some((_, other)) => return Err(schema(HISTORY, json_kind(Some(other)))),
    }
    Ok(conversation.ask(question).answer(answer))
}
