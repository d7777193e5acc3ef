//! The forms that training records are written in, read as one.
//!
//! Whatever changes what is trained and is not understood is refused by name: fields of no consequence are passed over.

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role, Turn};
use serde_json::{Map, Value};

use crate::{Dialect, Record, RecordError, RecordPicture, json_kind, json_reader::Element};

type Object = Map<String, Value>;

/// Fields that ask for something that is not done here.
const NOT_DONE: [&str; 5] = ["video", "videos", "audio", "audios", "tools"];
/// Fields that a picture would be looked for in, were it not for `image`.
const MISNAMED: [&str; 8] = [
    "img",
    "imgs",
    "image_path",
    "image_paths",
    "image_file",
    "image_files",
    "picture",
    "pictures",
];

/// The record that an element holds, or its id and what is wrong with it.
pub(crate) fn record(index: usize, element: &Element) -> Result<Record, (String, RecordError)> {
    let value = element
        .parse()
        .map_err(|cause| ("none".to_owned(), cause))?;
    let id = id_text(&value);
    match value {
        Value::Object(fields) => read(&fields)
            .map(|record| Record {
                index,
                id: id.clone(),
                ..record
            })
            .map_err(|cause| (id, cause)),
        other => Err((id, schema("a record (an object)", json_kind(Some(&other))))),
    }
}

fn read(fields: &Object) -> Result<Record, RecordError> {
    if let Some((name, _)) = field(fields, &NOT_DONE)? {
        return Err(schema("words and pictures alone", format!("`{name}`")));
    }
    let pictures = match field(fields, &["image", "images"])? {
        Some((_, value)) => pictures(value)?,
        None => Vec::new(),
    };
    let mut talk = Talk {
        dialect: Dialect::Llava,
        conversation: Conversation::default(),
        marked: Vec::new(),
    };
    match present(fields, &["conversations", "conversation", "messages"])? {
        Some((name, Value::Array(turns))) if !turns.is_empty() => talk.read_turns(name, turns)?,
        Some((_, other)) => return Err(schema(TURNS, json_kind(Some(other)))),
        None => talk.read_instruction(fields)?,
    }
    if let Some((_, system)) = field(fields, &["system", "system_prompt"])? {
        let Value::String(system) = system else {
            return Err(schema("`system`, a text", json_kind(Some(system))));
        };
        let own = talk
            .conversation
            .system
            .get_or_insert_with(|| system.clone());
        if own != system {
            return Err(schema("one system text", "two that differ".to_owned()));
        }
    }
    let pictures = talk.pictures(pictures)?;
    if pictures.is_empty()
        && let Some((name, _)) = field(fields, &MISNAMED)?
    {
        let found = format!("`{name}`");
        return Err(schema(
            "the pictures of a record in `image` or `images`",
            found,
        ));
    }
    let record = Record {
        dialect: talk.dialect,
        ..Record::new("", pictures, talk.conversation)
    };
    record.ensure_marks()?;
    Ok(record)
}

const TURNS: &str = "`conversations` or `messages`, a list of turns";

/// A conversation as it is read.
struct Talk {
    dialect: Dialect,
    conversation: Conversation,
    /// The pictures that parts of turns stand for.
    marked: Vec<Marked>,
}

/// A picture that a part of a turn stands for.
enum Marked {
    /// One that the part names.
    Named(RecordPicture),
    /// The next of the record.
    Next,
    /// One of the record, from 0.
    Nth(usize),
}

impl Talk {
    fn read_turns(&mut self, name: &str, turns: &[Value]) -> Result<(), RecordError> {
        self.dialect = match name {
            "conversations" => Dialect::Llava,
            name if name.eq_ignore_ascii_case("messages") => Dialect::Messages,
            _ => Dialect::ShareGpt,
        };
        for (number, turn) in turns.iter().enumerate() {
            let in_turn = |found: String| format!("{found} in turn {number}");
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
            let text = self.content(content.map(|(_, value)| value), number)?;
            if self.dialect == Dialect::Llava
                && !(role_key == "from"
                    && text_key == "value"
                    && ["human", "gpt", "system"].contains(&&**role))
            {
                self.dialect = Dialect::ShareGpt;
            }
            let role = match role.trim().to_ascii_lowercase().as_str() {
                "human" | "user" => Role::User,
                "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" | "claude" | "bot" => {
                    Role::Assistant
                }
                "system" | "developer" if number == 0 => {
                    // A blank one asks for nothing.
                    self.conversation.system = (!text.trim().is_empty()).then_some(text);
                    continue;
                }
                "system" | "developer" => {
                    let found = in_turn("a system turn".to_owned());
                    return Err(schema("a system turn in front alone", found));
                }
                _ => return Err(schema(ROLES, in_turn(format!("`{role}`")))),
            };
            if role == Role::Assistant
                && let Some(name) = untrained(turn)
            {
                let found = in_turn(format!("`{name}`, which takes an answer out"));
                return Err(schema("answers that are all trained", found));
            }
            self.conversation.turns.push(Turn { role, text });
        }
        Ok(())
    }

    /// The text of a turn, with a mark for every part that is a picture.
    fn content(&mut self, content: Option<&Value>, turn: usize) -> Result<String, RecordError> {
        let parts = match content {
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(Value::Array(parts)) => parts,
            other => {
                let found = format!("{} in turn {turn}", json_kind(other));
                return Err(schema(
                    "`value` or `content`, the text of every turn",
                    found,
                ));
            }
        };
        self.dialect = Dialect::Parts;
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            texts.push(match self.part(part)? {
                Some(text) => text,
                None => IMAGE_TOKEN,
            });
        }
        Ok(texts.join("\n"))
    }

    /// The text of a part, or none for a picture.
    fn part<'a>(&mut self, part: &'a Value) -> Result<Option<&'a str>, RecordError> {
        let part = match part {
            Value::String(text) => return Ok(Some(text)),
            Value::Object(part) => part,
            other => return Err(schema(PARTS, json_kind(Some(other)))),
        };
        let text = || match present(part, &["text", "content"])? {
            Some((_, Value::String(text))) => Ok(Some(text.as_str())),
            other => Err(schema(
                "the text of a part",
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
        self.marked.push(match (source, index) {
            (Some((_, source)), _) => Marked::Named(picture(source)?),
            (None, Some(index)) => Marked::Nth(usize::try_from(index).unwrap_or(usize::MAX)),
            (None, None) => Marked::Next,
        });
        Ok(None)
    }

    /// One question in fields of its own.
    fn read_instruction(&mut self, fields: &Object) -> Result<(), RecordError> {
        self.dialect = Dialect::Instruction;
        let text = |names: &[&'static str]| match field(fields, names)? {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text.clone())),
            Some((name, other)) => Err(schema(
                "a question and its answer, texts",
                format!("{} in `{name}`", json_kind(Some(other))),
            )),
        };
        let question = text(&["instruction", "query"])?;
        let answer = text(&["output", "response"])?;
        let (Some(mut question), Some(answer)) = (question, answer) else {
            let names: Vec<_> = fields
                .keys()
                .take(8)
                .map(|name| format!("`{name}`"))
                .collect();
            let found = if names.is_empty() {
                "nothing".to_owned()
            } else {
                format!("{} alone", names.join(", "))
            };
            return Err(schema(TURNS, found));
        };
        if let Some(input) = text(&["input"])? {
            question = format!("{question}\n{input}");
        }
        match field(fields, &["history"])? {
            None => {}
            Some((_, Value::Array(history))) => {
                for pair in history {
                    match pair.as_array().map(Vec::as_slice) {
                        Some([Value::String(question), Value::String(answer)]) => {
                            let talk = std::mem::take(&mut self.conversation);
                            self.conversation = talk.ask(question).answer(answer);
                        }
                        _ => return Err(schema(HISTORY, json_kind(Some(pair)))),
                    }
                }
            }
            Some((_, other)) => return Err(schema(HISTORY, json_kind(Some(other)))),
        }
        let talk = std::mem::take(&mut self.conversation);
        self.conversation = talk.ask(question).answer(answer);
        Ok(())
    }

    /// The pictures in the order of their marks, from those of the record and of the parts.
    fn pictures(&self, own: Vec<RecordPicture>) -> Result<Vec<RecordPicture>, RecordError> {
        let all_named = self
            .marked
            .iter()
            .all(|mark| matches!(mark, Marked::Named(_)));
        if self.marked.is_empty() {
            return Ok(own);
        }
        let mut used = vec![false; own.len()];
        let mut pictures = Vec::with_capacity(self.marked.len());
        let wrong = RecordError::Marks {
            marks: self.marked.len(),
            pictures: own.len(),
        };
        for (number, mark) in self.marked.iter().enumerate() {
            let nth = match mark {
                Marked::Named(picture) if all_named => {
                    pictures.push(picture.clone());
                    continue;
                }
                Marked::Named(_) => {
                    let found = "parts with a path and parts without".to_owned();
                    return Err(schema("pictures that are all named in the same way", found));
                }
                Marked::Next => number,
                Marked::Nth(nth) => *nth,
            };
            let Some(picture) = own.get(nth) else {
                return Err(wrong);
            };
            used[nth] = true;
            pictures.push(picture.clone());
        }
        if all_named && !own.is_empty() && own != pictures {
            let found = "others in `image` than in the parts".to_owned();
            return Err(schema("the pictures of a record named once", found));
        }
        if !all_named && used.contains(&false) {
            return Err(wrong);
        }
        Ok(pictures)
    }
}

const ROLES: &str = "the role of every turn: human or user, gpt or assistant, or system in front";
const PARTS: &str = "parts that are texts or pictures";
const HISTORY: &str = "`history`, a list of pairs of question and answer";

/// The field of a turn that says it is not to be trained.
fn untrained(turn: &Object) -> Option<&str> {
    let names = ["weight", "loss", "train", "trainable", "loss_weight"];
    let off = |value: &Value| value == &Value::Bool(false) || value.as_f64() == Some(0.0);
    turn.iter()
        .find(|(name, value)| names.contains(&name.as_str()) && off(value))
        .map(|(name, _)| name.as_str())
}

/// The pictures that `image` or `images` names.
fn pictures(value: &Value) -> Result<Vec<RecordPicture>, RecordError> {
    match value {
        Value::Array(list) => list.iter().map(picture).collect(),
        one => Ok(vec![picture(one)?]),
    }
}

fn picture(value: &Value) -> Result<RecordPicture, RecordError> {
    match value {
        Value::String(path) if !path.trim().is_empty() => Ok(RecordPicture::File(path.clone())),
        Value::Object(object) => match field(object, &["path", "url", "image"])? {
            Some((_, Value::String(path))) => Ok(RecordPicture::File(path.clone())),
            _ => Err(schema(PICTURE, "an object without `path`".to_owned())),
        },
        Value::String(_) => Err(schema(PICTURE, "an empty text in a list".to_owned())),
        other => Err(schema(PICTURE, json_kind(Some(other)))),
    }
}

const PICTURE: &str = "`image`, the path of a picture";

type Field<'a> = Result<Option<(&'a str, &'a Value)>, RecordError>;

/// The one field that has one of some names, in capitals or not, and says something.
fn field<'a>(object: &'a Object, names: &[&str]) -> Field<'a> {
    find(object, names, says_nothing)
}

/// As [`field`], though it be empty.
fn present<'a>(object: &'a Object, names: &[&str]) -> Field<'a> {
    find(object, names, Value::is_null)
}

fn find<'a>(object: &'a Object, names: &[&str], passed_over: fn(&Value) -> bool) -> Field<'a> {
    let mut found: Option<(&str, &Value)> = None;
    for (name, value) in object {
        if passed_over(value) || !names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
            continue;
        }
        match found {
            Some((first, _)) => {
                let found = format!("`{first}` and `{name}`");
                return Err(schema("one field for one thing", found));
            }
            None => found = Some((name, value)),
        }
    }
    Ok(found)
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "[]"),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn schema(expected: &'static str, found: String) -> RecordError {
    RecordError::Schema { expected, found }
}

/// An id as text, whatever its type.
pub(crate) fn id_text(value: &Value) -> String {
    match value.get("id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{PaintingForm, RecordKind};

    fn read(json: &str) -> Result<Record, String> {
        let mut set = PaintingForm::read(Path::new("set"), format!("[{json}]").as_bytes()).unwrap();
        match set.records.pop() {
            Some(record) => Ok(record),
            None => Err(set.bad[0].to_string()),
        }
    }

    /// The pictures and turns of a record, shortly.
    fn told(json: &str) -> (Vec<String>, String) {
        let record = read(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let turns = record.conversation.turns.iter();
        let turns: Vec<String> = turns
            .map(|turn| format!("{}: {}", turn.role.record_name(), turn.text))
            .collect();
        let pictures = record.pictures.iter();
        let mut told = turns.join(" | ");
        if let Some(system) = &record.conversation.system {
            told = format!("({system}) {told}");
        }
        (
            pictures
                .map(|picture| picture.name().into_owned())
                .collect(),
            told,
        )
    }

    #[test]
    fn dialects_are_read_as_one() {
        let one = (
            vec!["0.jpg".to_owned()],
            "human: <image>\nQ | gpt: A".to_owned(),
        );
        for json in [
            r#"{"image":"0.jpg","conversations":[{"from":"human","value":"<image>\nQ"},{"from":"gpt","value":"A"}]}"#,
            r#"{"image":["0.jpg"],"conversations":[{"from":"User","value":"<image>\nQ"},{"from":"ASSISTANT","value":"A"}]}"#,
            r#"{"images":["0.jpg"],"conversations":[{"From":"human","Value":"<image>\nQ"},{"From":"bing","Value":"A"}]}"#,
            r#"{"image":{"path":"0.jpg","bytes":null},"conversation":[{"role":"user","content":"<image>\nQ"},{"role":"assistant","content":"A"}]}"#,
            r#"{"image":"0.jpg","images":[],"messages":[{"role":"user","content":"<image>\nQ"},{"role":"assistant","content":"A"}]}"#,
            r#"{"image":"0.jpg","messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"Q"}]},{"role":"assistant","content":[{"type":"text","text":"A"}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"image","image":"0.jpg"},{"type":"text","text":"Q"}]},{"role":"model","content":"A"}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"0.jpg"}},{"type":"text","text":"Q"}]},{"role":"assistant","content":"A"}]}"#,
            r#"{"messages":[{"role":"user","content":[{"image":"0.jpg"},{"text":"Q"}]},{"role":"assistant","content":"A"}]}"#,
            r#"{"images":[{"path":"0.jpg"}],"messages":[{"role":"user","content":[{"index":0,"text":null,"type":"image"},{"index":null,"text":"Q","type":"text"}]},{"role":"assistant","content":[{"index":null,"text":"A","type":"text"}]}]}"#,
            r#"{"images":["0.jpg"],"instruction":"<image>","input":"Q","output":"A"}"#,
            r#"{"images":["0.jpg"],"query":"<image>\nQ","response":"A","history":[],"system":null}"#,
        ] {
            assert_eq!(told(json), one, "{json}");
        }
    }

    #[test]
    fn records_without_a_picture_are_texts() {
        let talk = r#""conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":"A"}]"#;
        for image in [
            "",
            r#""image":null,"#,
            r#""image":"","#,
            r#""image":[],"#,
            r#""images":[],"image":NaN,"#,
        ] {
            let record = read(&format!("{{{image}{talk}}}")).unwrap();
            assert!(
                record.kinds().any(|kind| kind == RecordKind::TextOnly),
                "{image}"
            );
        }
        // What was meant to be a picture is not passed over.
        for (image, said) in [
            (r#""img":"0.jpg","#, "`img`"),
            (r#""image":7,"#, "a number"),
        ] {
            let error = read(&format!("{{{image}{talk}}}")).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let marked = talk.replace('Q', "<image> Q");
        let error = read(&format!("{{{marked}}}")).unwrap_err();
        assert!(error.contains("1 <image> marks for 0 pictures"), "{error}");
    }

    #[test]
    fn several_pictures_go_to_their_marks() {
        let two = ["0.jpg".to_owned(), "1.jpg".to_owned()];
        for (json, text) in [
            (
                r#"{"image":["0.jpg","1.jpg"],"conversations":[{"from":"human","value":"First <image>, then <image>."},{"from":"gpt","value":"A"}]}"#,
                "human: First <image>, then <image>. | gpt: A",
            ),
            (
                r#"{"images":["0.jpg","1.jpg"],"messages":[{"role":"user","content":[{"type":"text","text":"First"},{"type":"image"}]},{"role":"assistant","content":"A"},{"role":"user","content":[{"type":"image"}]},{"role":"assistant","content":"B"}]}"#,
                "human: First\n<image> | gpt: A | human: <image> | gpt: B",
            ),
            (
                r#"{"images":["1.jpg","0.jpg"],"messages":[{"role":"user","content":[{"type":"image","index":1},{"type":"image","index":0}]},{"role":"assistant","content":"A"}]}"#,
                "human: <image>\n<image> | gpt: A",
            ),
        ] {
            let (pictures, turns) = told(json);
            assert_eq!((pictures.as_slice(), turns.as_str()), (&two[..], text));
        }
        for json in [
            r#"{"image":["0.jpg","1.jpg"],"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"A"}]}"#,
            r#"{"image":"0.jpg","conversations":[{"from":"human","value":"<image><image>"},{"from":"gpt","value":"A"}]}"#,
            r#"{"images":["0.jpg"],"messages":[{"role":"user","content":[{"type":"image"},{"type":"image"}]},{"role":"assistant","content":"A"}]}"#,
            r#"{"images":["0.jpg","1.jpg"],"messages":[{"role":"user","content":[{"type":"image"}]},{"role":"assistant","content":"A"}]}"#,
            r#"{"images":["0.jpg","1.jpg"],"messages":[{"role":"user","content":[{"type":"image","index":1},{"type":"image","index":1}]},{"role":"assistant","content":"A"}]}"#,
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains("<image> marks for"), "{error}");
        }
    }

    #[test]
    fn a_system_text_is_the_records_own() {
        let talk = r#"{"from":"human","value":"Q"},{"from":"gpt","value":"A"}"#;
        let own = "(Light.) human: Q | gpt: A";
        for json in [
            format!(r#"{{"conversations":[{{"from":"system","value":"Light."}},{talk}]}}"#),
            format!(r#"{{"system":"Light.","conversations":[{talk}]}}"#),
            format!(r#"{{"system":"Light.","conversations":[{{"from":"System","value":"Light."}},{talk}]}}"#),
            r#"{"messages":[{"role":"system","content":[{"type":"text","text":"Light."}]},{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}"#.to_owned(),
        ] {
            assert_eq!(told(&json).1, own, "{json}");
        }
        for json in [
            format!(r#"{{"system":"","conversations":[{talk}]}}"#),
            format!(r#"{{"conversations":[{{"from":"system","value":" "}},{talk}]}}"#),
        ] {
            assert_eq!(told(&json).1, "human: Q | gpt: A", "{json}");
        }
        for (json, said) in [
            (
                format!(
                    r#"{{"system":"Dark.","conversations":[{{"from":"system","value":"Light."}},{talk}]}}"#
                ),
                "two that differ",
            ),
            (
                format!(
                    r#"{{"conversations":[{talk},{{"from":"system","value":"Light."}},{talk}]}}"#
                ),
                "a system turn in turn 2",
            ),
            (
                format!(r#"{{"system":["Light."],"conversations":[{talk}]}}"#),
                "`system`, a text",
            ),
        ] {
            let error = read(&json).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_would_change_the_training_is_refused_by_name() {
        let talk = r#"{"from":"human","value":"Q"},{"from":"gpt","value":"A"}"#;
        for (json, said) in [
            (format!(r#"{{"video":"0.mp4","conversations":[{talk}]}}"#), "`video`"),
            (format!(r#"{{"tools":"[{{}}]","conversations":[{talk}]}}"#), "`tools`"),
            (format!(r#"{{"conversations":[{talk}],"messages":[{talk}]}}"#), "`conversations` and `messages`"),
            (format!(r#"{{"image":"0.jpg","images":["0.jpg"],"conversations":[{talk}]}}"#), "`image` and `images`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A","weight":0}]}"#.to_owned(), "`weight`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"tool","content":"A"}]}"#.to_owned(), "`tool` in turn 1"),
            (r#"{"messages":[{"role":"user","content":[{"type":"audio","audio":"0.wav"}]}]}"#.to_owned(), "`audio`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":null}]}"#.to_owned(), "nothing in turn 1"),
            (r#"{"prompt":"Q","completion":"A"}"#.to_owned(), "`prompt`, `completion` alone"),
        ] {
            let error = read(&json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
