//! What is wrong with a request.

use std::fmt;

use serde_json::value::RawValue;

/// What is wrong with a request.
#[derive(Debug, PartialEq)]
pub struct Invalid {
    /// The field at fault; `None` if it is the whole request.
    pub param: Option<String>,
    /// What is wrong, in a sentence that begins with the field's name.
    pub message: String,
    /// Whether there is more text than the context can hold.
    pub too_long: bool,
}

impl Invalid {
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self {
            param: None,
            message: message.into(),
            too_long: false,
        }
    }

    pub(crate) fn field(name: impl Into<String>, message: impl fmt::Display) -> Self {
        let name = name.into();
        Self {
            message: format!("{name}: {message}"),
            param: Some(name),
            too_long: false,
        }
    }

    pub(super) fn expected(name: impl Into<String>, expected: &str, found: &RawValue) -> Self {
        Self::field(
            name,
            format_args!("expected {expected}, found {}", shown(found)),
        )
    }
}

/// A value as messages show it: the beginning of a long one.
pub(super) fn shown(value: &RawValue) -> String {
    let text = value.get();
    if text.len() <= 60 {
        return text.to_owned();
    }
    let begins: String = text.chars().take(40).collect();
    format!("{begins}...")
}
