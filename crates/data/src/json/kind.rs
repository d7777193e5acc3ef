//! The kind of a JSON value, for messages.

use serde_json::Value;

/// What a JSON value is, for messages: "a number", "an empty list", or "nothing" if it is missing.
#[must_use]
pub fn json_kind(value: Option<&Value>) -> String {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(list)) if list.is_empty() => "an empty list",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
    .to_owned()
}
