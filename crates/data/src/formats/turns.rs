//! Records with a list of turns: `conversations` or `messages`.

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role, Turn};
use serde_json::Value;

use super::{
    fields::{Object, field, present, schema},
    pictures::{ImagePart, picture},
};
use crate::{RecordError, RecordFormat, json::json_kind};

pub(super) const TURNS: &str = "`conversations` or `messages`, a list of turns";
const ROLES: &str =
    "a role in every turn: human or user, gpt or assistant, or system in the first turn";
const PARTS: &str = "parts that are texts or pictures";

/// The turns of a record.
pub(super) struct Turns {
    pub(super) format: RecordFormat,
    /// Whether roles and keys are those of Qwen-VL's own records.
    pub(super) is_qwen: bool,
    pub(super) conversation: Conversation,
    /// The image parts, in the order of their placeholders.
    pub(super) image_parts: Vec<ImagePart>,
}

impl Turns {
    /// Reads the value of the field `name`.
    ///
    /// # Errors
    /// A turn has no known role or no text, or asks for something unsupported.
    pub(super) fn read(name: &str, values: &[Value]) -> Result<Self, RecordError> {
        let mut turns = Self {
            format: match name {
                "conversations" => RecordFormat::Llava,
                name if name.eq_ignore_ascii_case("messages") => RecordFormat::Messages,
                _ => RecordFormat::ShareGpt,
            },
            is_qwen: name == "conversations",
            conversation: Conversation::default(),
            image_parts: Vec::new(),
        };
        for (index, turn) in values.iter().enumerate() {
            turns.add(index, turn)?;
        }
        Ok(turns)
    }

    fn add(&mut self, index: usize, turn: &Value) -> Result<(), RecordError> {
        let in_turn = |found: String| format!("{found} in turn {index}");
        let Value::Object(turn) = turn else {
            return Err(schema(TURNS, in_turn(json_kind(Some(turn)))));
        };
        let (role_key, role) = match present(turn, &["from", "role"])? {
            Some((key, Value::String(role))) => (key, role),
            other => {
                let found = json_kind(other.map(|(_, value)| value));
                return Err(schema(ROLES, in_turn(found)));
            }
        };
        let content = present(turn, &["value", "content", "text"])?;
        let text_key = content.map_or("", |(key, _)| key);
        let text = self.content(content.map(|(_, value)| value), index)?;
        if self.format == RecordFormat::Llava
            && !(role_key == "from"
                && text_key == "value"
                && ["human", "gpt", "system"].contains(&&**role))
        {
            self.format = RecordFormat::ShareGpt;
        }
        self.is_qwen &= role_key == "from"
            && text_key == "value"
            && ["user", "assistant", "system"].contains(&&**role);
        let role = match role.trim().to_ascii_lowercase().as_str() {
            "human" | "user" => Role::User,
            "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" | "claude" | "bot" => {
                Role::Assistant
            }
            "system" | "developer" if index == 0 => {
                // A blank system prompt counts as none.
                self.conversation.system = (!text.trim().is_empty()).then_some(text);
                return Ok(());
            }
            "system" | "developer" => {
                let found = in_turn("a system prompt".to_owned());
                return Err(schema("a system prompt only in the first turn", found));
            }
            _ => return Err(schema(ROLES, in_turn(format!("`{role}`")))),
        };
        if role == Role::Assistant
            && let Some(name) = untrained(turn)
        {
            let found = in_turn(format!("`{name}`, which excludes an answer,"));
            return Err(schema("answers that are all trained on", found));
        }
        self.conversation.turns.push(Turn { role, text });
        Ok(())
    }

    /// The text of a turn, with a placeholder for every image part.
    fn content(&mut self, content: Option<&Value>, index: usize) -> Result<String, RecordError> {
        let parts = match content {
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(Value::Array(parts)) => parts,
            other => {
                let found = format!("{} in turn {index}", json_kind(other));
                return Err(schema("a text in `value` or `content`", found));
            }
        };
        self.format = RecordFormat::Parts;
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            texts.push(self.part(part)?.unwrap_or(IMAGE_TOKEN));
        }
        Ok(texts.join("\n"))
    }

    /// The text of a part; `None` for a picture, which is added to the image parts.
    fn part<'v>(&mut self, part: &'v Value) -> Result<Option<&'v str>, RecordError> {
        let part = match part {
            Value::String(text) => return Ok(Some(text)),
            Value::Object(part) => part,
            other => return Err(schema(PARTS, json_kind(Some(other)))),
        };
        let text = || match present(part, &["text", "content"])? {
            Some((_, Value::String(text))) => Ok(Some(text.as_str())),
            other => Err(schema(
                "a text in every text part",
                json_kind(other.map(|(_, value)| value)),
            )),
        };
        let source = field(part, &["image", "image_url", "path", "url"])?;
        match part.get("type").and_then(Value::as_str) {
            Some("text" | "input_text" | "output_text") => return text(),
            None if source.is_none() => return text(),
            None | Some("image" | "image_url" | "input_image") => {}
            Some(other) => return Err(schema(PARTS, format!("a part of type `{other}`"))),
        }
        let index = part.get("index").and_then(Value::as_u64);
        self.image_parts.push(match (source, index) {
            (Some((_, source)), _) => ImagePart::Named(picture(source)?),
            (None, Some(index)) => ImagePart::Index(usize::try_from(index).unwrap_or(usize::MAX)),
            (None, None) => ImagePart::Next,
        });
        Ok(None)
    }
}

/// The field of a turn that excludes it from the loss.
fn untrained(turn: &Object) -> Option<&str> {
    let names = ["weight", "loss", "train", "trainable", "loss_weight"];
    let off = |value: &Value| value == &Value::Bool(false) || value.as_f64() == Some(0.0);
    turn.iter()
        .find(|(name, value)| names.contains(&name.as_str()) && off(value))
        .map(|(name, _)| name.as_str())
}
