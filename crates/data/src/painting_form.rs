//! `train_samples_tuning.json`.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role, Turn};
use rayon::prelude::*;
use serde::{
    Deserializer,
    de::{SeqAccess, Visitor},
};
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
        let file = File::open(path).map_err(|source| DatasetError::Read {
            path: path.to_owned(),
            source,
        })?;
        let set = Self::read(path, BufReader::with_capacity(1 << 20, file))?;
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

    /// As [`PaintingForm::load`], from a reader; `path` is for the messages. A set without a usable record is returned.
    ///
    /// The text is never in memory as a whole: records are taken out of it some at a time.
    ///
    /// # Errors
    /// What is read is not a JSON array.
    pub fn read(path: &Path, reader: impl BufRead) -> Result<Self, DatasetError> {
        let mut set = Self::default();
        let mut waiting = Vec::with_capacity(RECORDS_AT_ONCE);
        for_each_element(path, reader, |raw| {
            waiting.push(raw);
            if waiting.len() == RECORDS_AT_ONCE {
                set.add(&mut waiting);
            }
        })?;
        set.add(&mut waiting);
        Ok(set)
    }

    /// Parses records side by side and adds them in their order.
    fn add(&mut self, waiting: &mut Vec<Box<RawValue>>) {
        let first = self.records.len() + self.bad.len();
        let parsed: Vec<_> = waiting
            .par_iter()
            .enumerate()
            .map(|(nth, raw)| record(first + nth, raw))
            .collect();
        waiting.clear();
        for (index, record) in (first..).zip(parsed) {
            match record {
                Ok(record) => self.records.push(record),
                Err((id, cause)) => self.bad.push(BadRecord { index, id, cause }),
            }
        }
    }
}

/// Records that are parsed side by side.
const RECORDS_AT_ONCE: usize = 2048;

/// Calls `each` with every element of a JSON array, still as text.
fn for_each_element(
    path: &Path,
    mut reader: impl BufRead,
    each: impl FnMut(Box<RawValue>),
) -> Result<(), DatasetError> {
    struct Elements<F>(F);
    impl<'de, F: FnMut(Box<RawValue>)> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a JSON array of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
            while let Some(element) = elements.next_element()? {
                (self.0)(element);
            }
            Ok(())
        }
    }
    let failed = |error: serde_json::Error| {
        let found = error.to_string();
        if error.is_io() {
            let source = error.into();
            let path = path.to_owned();
            return DatasetError::Read { path, source };
        }
        malformed(path, found)
    };
    let start = reader.fill_buf().map_err(|source| DatasetError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mark = usize::from(start.starts_with(BYTE_ORDER_MARK)) * BYTE_ORDER_MARK.len();
    begins_as_array(path, &start[mark..])?;
    reader.consume(mark);
    let mut json = serde_json::Deserializer::from_reader(reader);
    json.deserialize_seq(Elements(each)).map_err(failed)?;
    json.end().map_err(failed)
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

fn malformed(path: &Path, found: String) -> DatasetError {
    DatasetError::Malformed {
        path: path.to_owned(),
        expected: "a JSON array of records",
        found,
    }
}

/// Says what a text is that cannot be an array.
fn begins_as_array(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let found = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => return Ok(()),
        Some(b'{') => "a JSON object",
        Some(_) => "text that is not JSON",
        None => "an empty file",
    };
    Err(malformed(path, found.to_owned()))
}

/// The elements of a JSON array, each still as text.
pub(crate) fn json_array<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<Vec<&'a RawValue>, DatasetError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    begins_as_array(path, bytes)?;
    serde_json::from_slice(bytes).map_err(|error| malformed(path, error.to_string()))
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
        PaintingForm::read("set.json".as_ref(), json.as_bytes())
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
