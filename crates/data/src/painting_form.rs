//! `train_samples_tuning.json`.

use std::path::Path;

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role, Turn};
use serde_json::{Value, value::RawValue};

use crate::{BadRecord, DatasetError, RecordError};

/// One training record: a picture and up to five questions and answers about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Zero-based position in the file.
    pub index: usize,
    /// Its id, `identity_0` and so on.
    pub id: String,
    /// Path of the picture, relative to the picture folder.
    pub image: String,
    /// What is asked and answered.
    pub conversation: Conversation,
}

impl Record {
    /// The length LLaVA groups by: white-space separated words of all turns.
    #[must_use]
    pub fn words(&self) -> usize {
        self.conversation
            .turns
            .iter()
            .map(|turn| turn.text.split_whitespace().count())
            .sum()
    }
}

/// A training set.
#[derive(Debug, Default)]
pub struct PaintingForm {
    /// The usable records.
    pub records: Vec<Record>,
    /// The others, each with its cause.
    pub bad: Vec<BadRecord>,
}

impl PaintingForm {
    /// Reads a training file.
    ///
    /// # Errors
    /// The file cannot be read, is not a JSON array, or has no usable record.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| DatasetError::Read {
            path: path.to_owned(),
            source,
        })?;
        let set = Self::parse(path, &bytes)?;
        if set.records.is_empty() {
            return Err(DatasetError::NothingUsable {
                path: path.to_owned(),
                bad: set.bad.len(),
                first: set
                    .bad
                    .first()
                    .map(|bad| format!("; the first: {bad}"))
                    .unwrap_or_default(),
            });
        }
        Ok(set)
    }

    /// As [`PaintingForm::load`], from bytes; `path` is for the messages. A set without a usable record is returned.
    ///
    /// # Errors
    /// The bytes are not a JSON array.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let mut set = Self::default();
        for (index, raw) in json_array(path, bytes)?.into_iter().enumerate() {
            match record(index, raw) {
                Ok(record) => set.records.push(record),
                Err((id, cause)) => set.bad.push(BadRecord { index, id, cause }),
            }
        }
        Ok(set)
    }
}

/// The elements of a JSON array, each still as text.
pub(crate) fn json_array<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<Vec<&'a RawValue>, DatasetError> {
    let malformed = |found| DatasetError::Malformed {
        path: path.to_owned(),
        expected: "a JSON array of records",
        found,
    };
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string())),
        Some(b'{') => Err(malformed("a JSON object".to_owned())),
        Some(_) => Err(malformed("text that is not JSON".to_owned())),
        None => Err(malformed("an empty file".to_owned())),
    }
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: Option<&Value>) -> String {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
    .to_owned()
}

/// An id as text, whatever its type.
pub(crate) fn id_text(value: &Value) -> String {
    match value.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => "none".to_owned(),
    }
}

fn record(index: usize, raw: &RawValue) -> Result<Record, (String, RecordError)> {
    let schema = |expected, found| RecordError::Schema { expected, found };
    let value: Value = serde_json::from_str(raw.get())
        .map_err(|error| ("none".to_owned(), schema("a record", error.to_string())))?;
    let id = id_text(&value);
    let fail = |cause| (id.clone(), cause);
    if !value.is_object() {
        return Err(fail(schema("a record (an object)", kind(Some(&value)))));
    }
    let image = match value.get("image") {
        Some(Value::String(image)) if !image.trim().is_empty() => image.clone(),
        other => return Err(fail(schema("`image`, the path of a picture", kind(other)))),
    };
    if !stays_inside(&image) {
        return Err(fail(RecordError::Path { path: image }));
    }
    let turns = match value.get("conversations") {
        Some(Value::Array(turns)) if !turns.is_empty() => turns,
        Some(Value::Array(_)) => {
            return Err(fail(schema(
                "`conversations`, a list of turns",
                "an empty list".to_owned(),
            )));
        }
        other => {
            return Err(fail(schema(
                "`conversations`, a list of turns",
                kind(other),
            )));
        }
    };
    let mut conversation = Conversation::default();
    for turn in turns {
        let role = match turn.get("from").and_then(Value::as_str) {
            Some("human") => Role::User,
            Some("gpt") => Role::Assistant,
            Some(other) => {
                return Err(fail(schema(
                    "`from`, human or gpt, in every turn",
                    format!("`{other}`"),
                )));
            }
            None => {
                return Err(fail(schema(
                    "`from`, human or gpt, in every turn",
                    kind(turn.get("from")),
                )));
            }
        };
        let Some(text) = turn.get("value").and_then(Value::as_str) else {
            return Err(fail(schema(
                "`value`, the text of every turn",
                kind(turn.get("value")),
            )));
        };
        conversation.turns.push(Turn {
            role,
            text: text.to_owned(),
        });
    }
    let marks = conversation
        .turns
        .iter()
        .filter(|turn| turn.text.contains(IMAGE_TOKEN))
        .count();
    if marks != 1 {
        return Err(fail(RecordError::Marks { marks, pictures: 1 }));
    }
    Ok(Record {
        index,
        id,
        image,
        conversation,
    })
}

/// Whether a picture path stays in the picture folder.
pub(crate) fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PaintingForm, DatasetError> {
        PaintingForm::parse("set.json".as_ref(), json.as_bytes())
    }

    #[test]
    fn every_bad_record_is_named() {
        let good = r#"{"id":"a","image":"1.png","conversations":[{"from":"human","value":"Q\n<image>"},{"from":"gpt","value":"A"}]}"#;
        let bad = [
            (r#"7"#, "an object"),
            (r#"{"id":"b","conversations":[]}"#, "`image`"),
            (r#"{"id":"c","image":"2.png"}"#, "`conversations`"),
            (
                r#"{"id":"d","image":"2.png","conversations":[]}"#,
                "empty list",
            ),
            (
                r#"{"id":"e","image":"2.png","conversations":[{"from":"owl","value":"x"}]}"#,
                "`owl`",
            ),
            (
                r#"{"id":"f","image":"2.png","conversations":[{"from":"human"}]}"#,
                "`value`",
            ),
            (
                r#"{"id":"g","image":"2.png","conversations":[{"from":"human","value":"no mark"}]}"#,
                "0 <image>",
            ),
            (
                r#"{"id":"h","image":"../2.png","conversations":[]}"#,
                "out of",
            ),
        ];
        for (json, expected) in bad {
            let set = parse(&format!("[{good},{json}]")).unwrap();
            assert_eq!(set.records.len(), 1);
            let message = set.bad[0].to_string();
            assert!(
                message.starts_with("record 1 (id ") && message.contains(expected),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_no_array_is_an_error() {
        for json in ["", "{}", "hello", "[1,", "[{]"] {
            assert!(
                matches!(parse(json), Err(DatasetError::Malformed { .. })),
                "{json}"
            );
        }
        assert!(parse("\u{FEFF}[]").is_ok());
    }
}
