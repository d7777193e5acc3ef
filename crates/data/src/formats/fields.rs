//! Fields of JSON objects that have several possible names.

use serde_json::{Map, Value};

use crate::RecordError;

pub(super) type Object = Map<String, Value>;

type Field<'a> = Result<Option<(&'a str, &'a Value)>, RecordError>;

/// The name and value of the field that has one of these names, in upper or lower case, and is
/// neither null nor empty.
///
/// # Errors
/// Several fields are like that.
pub(super) fn field<'a>(object: &'a Object, names: &[&str]) -> Field<'a> {
    find(object, names, is_empty)
}

/// As [`field`], but an empty value counts.
pub(super) fn present<'a>(object: &'a Object, names: &[&str]) -> Field<'a> {
    find(object, names, Value::is_null)
}

fn find<'a>(object: &'a Object, names: &[&str], is_absent: fn(&Value) -> bool) -> Field<'a> {
    let mut found: Option<(&str, &Value)> = None;
    for (name, value) in object {
        if is_absent(value) || !names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
            continue;
        }
        match found {
            Some((first, _)) => {
                let found = format!("`{first}` and `{name}`");
                return Err(schema("one of two fields with the same meaning", found));
            }
            None => found = Some((name, value)),
        }
    }
    Ok(found)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        // "[]" is an empty list that was written as a string.
        Value::String(text) => matches!(text.trim(), "" | "[]"),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn schema(expected: &'static str, found: String) -> RecordError {
    RecordError::Schema { expected, found }
}
