//! The formats of training records, each read as a [`Record`].
//!
//! A field that would change what is trained, and is not supported, is rejected by name. Fields that
//! do not matter are ignored.

mod fields;
mod instruction;
mod pictures;
mod qwen;
mod turns;

use serde_json::Value;

use crate::{
    Record, RecordError, RecordFormat,
    json::{Element, json_kind},
};
use fields::{Object, field, present, schema};
use turns::{TURNS, Turns};

/// Fields that ask for something unsupported.
const UNSUPPORTED: [&str; 5] = ["video", "videos", "audio", "audios", "tools"];
/// Fields that probably name pictures; they are read from `image` and `images` only.
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

/// The record of an element.
///
/// # Errors
/// It cannot be used: its id and the cause.
pub(crate) fn record(index: usize, element: &Element) -> Result<Record, (String, RecordError)> {
    let value = element
        .parse()
        .map_err(|cause| ("none".to_owned(), cause))?;
    let id = id_text(&value);
    let read = match value {
        Value::Object(fields) => read(&fields),
        other => Err(schema("an object", json_kind(Some(&other)))),
    };
    match read {
        Ok(record) => Ok(Record {
            index,
            id,
            ..record
        }),
        Err(cause) => Err((id, cause)),
    }
}

/// An id as text, whatever its type; `none` if there is none.
pub(crate) fn id_text(value: &Value) -> String {
    match value.get("id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => "none".to_owned(),
    }
}

fn read(fields: &Object) -> Result<Record, RecordError> {
    if let Some((name, _)) = field(fields, &UNSUPPORTED)? {
        return Err(schema("only texts and pictures", format!("`{name}`")));
    }
    let mut own_pictures = match field(fields, &["image", "images"])? {
        Some((_, value)) => pictures::pictures(value)?,
        None => Vec::new(),
    };
    let mut turns = match present(fields, &["conversations", "conversation", "messages"])? {
        Some((name, Value::Array(turns))) if !turns.is_empty() => Turns::read(name, turns)?,
        Some((_, other)) => return Err(schema(TURNS, json_kind(Some(other)))),
        None => Turns {
            format: RecordFormat::Instruction,
            is_qwen: false,
            conversation: instruction::conversation(fields)?,
            image_parts: Vec::new(),
        },
    };
    if turns.is_qwen && own_pictures.is_empty() && qwen::has_pictures(&turns.conversation) {
        own_pictures = qwen::take(&mut turns.conversation)?;
        turns.format = RecordFormat::QwenVl;
    }
    let mut conversation = turns.conversation;
    if let Some((_, system)) = field(fields, &["system", "system_prompt"])? {
        let Value::String(system) = system else {
            return Err(schema("a text in `system`", json_kind(Some(system))));
        };
        let own = conversation.system.get_or_insert_with(|| system.clone());
        if own != system {
            return Err(schema("one system prompt", "two different ones".to_owned()));
        }
    }
    let pictures = pictures::in_order(&turns.image_parts, own_pictures)?;
    if pictures.is_empty()
        && let Some((name, _)) = field(fields, &MISNAMED)?
    {
        return Err(schema(
            "pictures in `image` or `images`",
            format!("`{name}`"),
        ));
    }
    let record = Record {
        format: turns.format,
        ..Record::new("", pictures, conversation)
    };
    record.ensure_placeholders()?;
    Ok(record)
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

    /// The names of the pictures of a record, and its turns as one text.
    fn summary(json: &str) -> (Vec<String>, String) {
        let record = read(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let turns = record.conversation.turns.iter();
        let turns: Vec<String> = turns
            .map(|turn| format!("{}: {}", turn.role.record_name(), turn.text))
            .collect();
        let pictures = record.pictures.iter();
        let mut text = turns.join(" | ");
        if let Some(system) = &record.conversation.system {
            text = format!("({system}) {text}");
        }
        (
            pictures
                .map(|picture| picture.name().into_owned())
                .collect(),
            text,
        )
    }

    #[test]
    fn all_formats_give_the_same_record() {
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
            assert_eq!(summary(json), one, "{json}");
        }
    }

    #[test]
    fn records_without_a_picture_are_text_only() {
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
        // A field that was meant to be a picture is not ignored.
        for (image, expected) in [
            (r#""img":"0.jpg","#, "`img`"),
            (r#""image":7,"#, "a number"),
        ] {
            let error = read(&format!("{{{image}{talk}}}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let marked = talk.replace('Q', "<image> Q");
        let error = read(&format!("{{{marked}}}")).unwrap_err();
        assert!(
            error.contains("1 <image> placeholders for 0 pictures"),
            "{error}"
        );
    }

    #[test]
    fn several_pictures_go_to_their_placeholders() {
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
            let (pictures, turns) = summary(json);
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
            assert!(error.contains("<image> placeholders for"), "{error}");
        }
    }

    #[test]
    fn a_system_prompt_is_the_records_own() {
        let talk = r#"{"from":"human","value":"Q"},{"from":"gpt","value":"A"}"#;
        let own = "(Light.) human: Q | gpt: A";
        for json in [
            format!(r#"{{"conversations":[{{"from":"system","value":"Light."}},{talk}]}}"#),
            format!(r#"{{"system":"Light.","conversations":[{talk}]}}"#),
            format!(r#"{{"system":"Light.","conversations":[{{"from":"System","value":"Light."}},{talk}]}}"#),
            r#"{"messages":[{"role":"system","content":[{"type":"text","text":"Light."}]},{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}"#.to_owned(),
        ] {
            assert_eq!(summary(&json).1, own, "{json}");
        }
        for json in [
            format!(r#"{{"system":"","conversations":[{talk}]}}"#),
            format!(r#"{{"conversations":[{{"from":"system","value":" "}},{talk}]}}"#),
        ] {
            assert_eq!(summary(&json).1, "human: Q | gpt: A", "{json}");
        }
        for (json, expected) in [
            (
                format!(
                    r#"{{"system":"Dark.","conversations":[{{"from":"system","value":"Light."}},{talk}]}}"#
                ),
                "two different ones",
            ),
            (
                format!(
                    r#"{{"conversations":[{talk},{{"from":"system","value":"Light."}},{talk}]}}"#
                ),
                "a system prompt in turn 2",
            ),
            (
                format!(r#"{{"system":["Light."],"conversations":[{talk}]}}"#),
                "a text in `system`",
            ),
        ] {
            let error = read(&json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn pictures_in_the_text_are_taken_out() {
        let record = |user: &str, answer: &str| {
            format!(
                r#"{{"id":"q","conversations":[{{"from":"user","value":"{user}"}},{{"from":"assistant","value":"{answer}"}}]}}"#
            )
        };
        let json = record(
            "Picture 1: <img>a/0.jpg</img>\\nPicture 2: <img>1.jpg</img>\\nQ",
            "A",
        );
        let (pictures, text) = summary(&json);
        assert_eq!(pictures, ["a/0.jpg", "1.jpg"]);
        assert_eq!(
            text,
            "human: Picture 1: <image>\nPicture 2: <image>\nQ | gpt: A"
        );
        assert_eq!(read(&json).unwrap().format, RecordFormat::QwenVl);
        let typed = read(&record("<img>0.jpg</img> What is <image>?", "A")).unwrap();
        assert_eq!(typed.pictures.len(), 1);
        for (user, answer, expected) in [
            ("<img>0.jpg", "A", "turn 0: `<img>` without `</img>`"),
            ("0.jpg</img>", "A", "turn 0: `</img>` without `<img>`"),
            ("<img></img>", "A", "no path"),
            ("Q", "<img>0.jpg</img>", "turn 1 contains `<img>`"),
        ] {
            let error = read(&record(user, answer)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let long = read(&record(&format!("<img>{}</img>", "a".repeat(255)), "A")).unwrap_err();
        assert!(
            long.contains("255 bytes") && long.contains("rename"),
            "{long}"
        );
        // Elsewhere the tags are text.
        let html = r#"{"conversations":[{"from":"human","value":"What is <img>?"},{"from":"gpt","value":"A tag."}]}"#;
        assert_eq!(summary(html).1, "human: What is <img>? | gpt: A tag.");
        let text = read(&record("Q", "A")).unwrap();
        assert_eq!(text.format, RecordFormat::ShareGpt);
        let first = r#"{"conversations":[{"from":"assistant","value":"<img>"},{"from":"user","value":"<img>0.jpg</img>Q"},{"from":"assistant","value":"A"}]}"#;
        assert_eq!(summary(first).0, ["0.jpg"]);
    }

    #[test]
    fn fields_that_would_change_the_training_are_rejected_by_name() {
        let talk = r#"{"from":"human","value":"Q"},{"from":"gpt","value":"A"}"#;
        for (json, expected) in [
            (format!(r#"{{"video":"0.mp4","conversations":[{talk}]}}"#), "`video`"),
            (format!(r#"{{"tools":"[{{}}]","conversations":[{talk}]}}"#), "`tools`"),
            (format!(r#"{{"conversations":[{talk}],"messages":[{talk}]}}"#), "`conversations` and `messages`"),
            (format!(r#"{{"image":"0.jpg","images":["0.jpg"],"conversations":[{talk}]}}"#), "`image` and `images`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A","weight":0}]}"#.to_owned(), "`weight`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"tool","content":"A"}]}"#.to_owned(), "`tool` in turn 1"),
            (r#"{"messages":[{"role":"user","content":[{"type":"audio","audio":"0.wav"}]}]}"#.to_owned(), "`audio`"),
            (r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":null}]}"#.to_owned(), "nothing in turn 1"),
            (r#"{"prompt":"Q","completion":"A"}"#.to_owned(), "the fields `prompt`, `completion`"),
        ] {
            let error = read(&json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
