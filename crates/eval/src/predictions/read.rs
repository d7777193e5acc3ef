//! Reads predictions from files of other systems.

use std::{collections::BTreeMap, path::Path};

use gallery_gpt_data::json_kind;
use serde_json::Value;

use super::{NAMES, Predictions, TEXTS};
use crate::{EvalError, error::read_error};

impl Predictions {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or does not contain predictions.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(read_error(path))?;
        let wrong = wrong_in(path);
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            wrong(
                format!("line {line}"),
                "UTF-8",
                "another encoding; convert the file".to_owned(),
            )
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let mut entries = Vec::new();
        if let Some(by_name) = one_object(text) {
            for (name, value) in by_name {
                let text = text_alone(&value).ok_or_else(|| {
                    wrong(
                        format!("key `{name}`"),
                        "a text, since the file is one object that maps names to texts",
                        json_kind(Some(&value)),
                    )
                })?;
                entries.push((name, text.to_owned()));
            }
        } else if text.trim_start().starts_with('[') {
            let records: Vec<Value> = serde_json::from_str(text).map_err(|error| {
                wrong(
                    format!("line {}", error.line()),
                    "an array",
                    error.to_string(),
                )
            })?;
            for (index, record) in records.iter().enumerate() {
                entries.push(entry(record).map_err(|(expected, found)| {
                    wrong(format!("record {index}"), expected, found)
                })?);
            }
        } else {
            for (number, line) in text.lines().enumerate() {
                if line.trim().is_empty() {
                    continue;
                }
                let place = || format!("line {}", number + 1);
                let record: Value = serde_json::from_str(line)
                    .map_err(|error| wrong(place(), "a JSON object", error.to_string()))?;
                entries.push(
                    entry(&record).map_err(|(expected, found)| wrong(place(), expected, found))?,
                );
            }
        }
        Ok(Self { entries })
    }

    /// Replaces each name, a `question_id`, by the picture of that question in a file of questions,
    /// such as LLaVA's.
    ///
    /// # Errors
    /// A line is not a question with `question_id` and `image`, or the question of an answer is
    /// missing.
    pub fn with_questions(mut self, path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(read_error(path))?;
        let wrong = wrong_in(path);
        let mut pictures = BTreeMap::new();
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("line {}", number + 1);
            let question: Value = serde_json::from_str(line)
                .map_err(|error| wrong(place(), "a JSON object", error.to_string()))?;
            let id = question.get("question_id").and_then(name_of);
            let image = question.get("image").and_then(name_of);
            let (Some(id), Some(image)) = (id, image) else {
                let found = json_kind(Some(&question));
                return Err(wrong(place(), "fields question_id and image", found));
            };
            pictures.insert(id, image);
        }
        for (name, _) in &mut self.entries {
            let image = pictures.get(name).ok_or_else(|| {
                wrong(
                    format!("question_id {name}"),
                    "the question of every answer",
                    "none".to_owned(),
                )
            })?;
            name.clone_from(image);
        }
        Ok(self)
    }
}

/// Makes the error of a malformed place of a file.
fn wrong_in(path: &Path) -> impl Fn(String, &'static str, String) -> EvalError + '_ {
    |place, expected, found| EvalError::Predictions {
        path: path.to_owned(),
        place,
        expected,
        found,
    }
}

/// The entries of a file that is a single object of texts by name; `None` for any other file, also
/// one with a single record.
fn one_object(text: &str) -> Option<serde_json::Map<String, Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return None;
    };
    let is_field = |key: &str| NAMES.contains(&key) || TEXTS.contains(&key);
    (!object.keys().any(|key| is_field(key))).then_some(object)
}

/// A text, or the only text of a list, as captioning tools write it.
fn text_alone(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(texts) => match texts.as_slice() {
            [Value::Object(record)] => record.get("caption")?.as_str(),
            [text] => text.as_str(),
            _ => None,
        },
        _ => None,
    }
}

fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The name and the text of a record, or what was expected and found instead.
pub(super) fn entry(record: &Value) -> Result<(String, String), (&'static str, String)> {
    let mut names = NAMES.iter().filter_map(|name| record.get(name));
    let Some(name) = names.clone().find_map(name_of) else {
        let expected = "a field image, file_name, image_id, id, question_id, index or name";
        return Err((expected, json_kind(names.next())));
    };
    match TEXTS.iter().find_map(|name| record.get(name)) {
        Some(Value::String(text)) => Ok((name, text.clone())),
        other => Err((
            "a field text, caption, prediction, answer, formal_analysis, response, output or generated_text",
            format!("{} for {name}", json_kind(other)),
        )),
    }
}
