//! Tokenizer files as people bring them: the ids of SentencePiece and of transformers, or a refusal that names the setting.
//!
//! `tokenizer_files/ids.json` was made with sentencepiece 0.2.3 from the models beside it, `added_words.json` with the slow
//! `LlamaTokenizer` of transformers 4.37.2 from `equal_scores.model`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use gallery_gpt_text::{
    IMAGE_TOKEN_INDEX, Tokenizer, TokenizerError, TokenizerMode, encode_prompt, literal_image,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tokenizer_files")
        .join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn slow(path: &str, bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_bytes(Path::new(path), bytes, TokenizerMode::Slow)
}

#[test]
fn sentencepiece_models_give_the_ids_of_sentencepiece() {
    let all: Value = serde_json::from_slice(&read("ids.json")).unwrap();
    let mut cases = 0;
    for (name, texts) in all.as_object().unwrap() {
        let path = fixture(&format!("{name}.model"));
        let tokenizer = Tokenizer::from_file(path, TokenizerMode::Slow).unwrap();
        for case in texts.as_array().unwrap() {
            let text = case[0].as_str().unwrap();
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(json!(found), case[1], "{name} {text:?}");
            cases += 1;
        }
    }
    assert!(cases > 150, "{cases} cases");
}

/// Fields of a protobuf message, as bytes.
fn field(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

fn flag(tag: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::Varint, &mut bytes);
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

const TRAINER: u32 = 2;
const NORMALIZER: u32 = 3;
const DENORMALIZER: u32 = 5;

#[test]
fn settings_that_change_ids_are_refused_by_name() {
    let model = read("equal_scores.model");
    // A later field of a message takes the place of an earlier one.
    let cases = [
        (
            NORMALIZER,
            field(2, b"rules"),
            "precompiled_charsmap (rules `identity`)",
        ),
        (DENORMALIZER, field(2, b"rules"), "denormalizer_spec"),
        (NORMALIZER, flag(4, 1), "remove_extra_whitespaces"),
        (NORMALIZER, flag(5, 0), "escape_whitespaces"),
        (TRAINER, flag(24, 1), "treat_whitespace_as_suffix"),
        (TRAINER, flag(3, 1), "unigram"),
        (TRAINER, flag(3, 3), "word"),
        (TRAINER, flag(3, 4), "char"),
        (TRAINER, flag(35, 0), "byte_fallback is false"),
        (
            1,
            [field(1, b"light"), flag(3, 5)].concat(),
            "unused piece 305 (\"light\")",
        ),
        (1, [field(1, b"light"), flag(3, 9)].concat(), "type 9"),
        (1, field(1, b"an"), "\"an\" twice"),
        (1, field(1, b""), "no text"),
        (
            1,
            [field(1, b"light"), vec![0x15, 0, 0, 0xC0, 0x7F]].concat(),
            "score",
        ),
    ];
    for (tag, setting, expected) in cases {
        let changed = [model.clone(), field(tag, &setting)].concat();
        let error = slow("folder/tokenizer.model", &changed)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("folder/tokenizer.model"), "{error}");
    }
    let harmless = [model, field(NORMALIZER, &field(1, b"nfkc")), flag(19, 7)].concat();
    slow("tokenizer.model", &harmless).unwrap();
}

/// A `tokenizer.json` with a few pieces: ids 0 to 2, `▁`, letters, `▁a`, `ab`, `▁▁`.
fn small_json() -> Value {
    let pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "▁a", "ab", "▁▁"];
    let vocab: serde_json::Map<String, Value> = (0..)
        .zip(pieces)
        .map(|(id, piece)| (piece.to_owned(), json!(id)))
        .collect();
    json!({
        "added_tokens": [],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
            "vocab": vocab, "merges": [["a", "b"], "▁ a", ["▁", "▁"]] },
    })
}

fn json_bytes(json: &Value) -> Vec<u8> {
    serde_json::to_vec(json).unwrap()
}

#[test]
fn steps_of_a_tokenizer_json_are_followed_or_refused_by_name() {
    let read = |json: &Value| slow("tokenizer.json", &json_bytes(json));
    let small = read(&small_json()).unwrap();
    assert_eq!(small.encode("ab a  a").unwrap(), [3, 8, 7, 3, 7]);
    let metaspace = |scheme: &str, split: bool| {
        let mut json = small_json();
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "▁",
            "prepend_scheme": scheme, "split": split });
        json
    };
    for scheme in ["first", "always"] {
        let ids = read(&metaspace(scheme, false)).unwrap().encode("ab a  a");
        assert_eq!(ids.unwrap(), [3, 8, 7, 3, 7], "{scheme}");
    }
    let never = read(&metaspace("never", false)).unwrap();
    assert_eq!(never.encode("ab a").unwrap(), [8, 7]);
    assert_eq!(never.decode(&[7, 8], false), " aab");
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut json = small_json();
        change(&mut json);
        let error = read(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("tokenizer.json"), "{error}");
    };
    // "▁▁" is merged across what a split would keep apart.
    refused(&|json| *json = metaspace("first", true), "Metaspace");
    refused(
        &|json| json["normalizer"] = json!({ "type": "NFKC" }),
        "NFKC",
    );
    refused(&|json| json["normalizer"] = Value::Null, "normalizer []");
    refused(
        &|json| json["normalizer"]["normalizers"][1]["content"] = json!("_"),
        "Replace",
    );
    refused(
        &|json| json["pre_tokenizer"] = json!({ "type": "ByteLevel" }),
        "ByteLevel",
    );
    refused(
        &|json| json["model"]["type"] = json!("WordPiece"),
        "WordPiece",
    );
    refused(
        &|json| json["model"] = json!({ "type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 0 }),
        "Unigram",
    );
    refused(&|json| json["model"]["dropout"] = json!(0.1), "dropout");
    refused(
        &|json| json["model"]["ignore_merges"] = json!(true),
        "ignore_merges",
    );
    refused(
        &|json| json["model"]["end_of_word_suffix"] = json!("</w>"),
        "end_of_word_suffix",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["a", "x"]),
        "\"x\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["b", "a"]),
        "\"ba\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!("a b c"),
        "\"a b c\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["a"]),
        "not two pieces",
    );
    refused(&|json| json["model"]["vocab"]["a"] = json!(5), "id 5");
    refused(
        &|json| json["model"]["vocab"]["a"] = json!(4_000_000_000_u32),
        "4000000000",
    );
    let fast = |json: &Value| {
        Tokenizer::from_bytes(
            Path::new("tokenizer.json"),
            &json_bytes(json),
            TokenizerMode::Fast,
        )
    };
    assert!(fast(&small_json()).is_ok());
    let mut json = small_json();
    json["decoder"] = json!({ "type": "ByteLevel" });
    assert!(fast(&json).unwrap_err().to_string().contains("ByteLevel"));
    assert!(
        read(&json).is_ok(),
        "the slow tokenizer has its own decoder"
    );
}

#[test]
fn a_row_that_begins_with_blanks_loses_one() {
    let mut json = small_json();
    json["model"]["vocab"]["▁▁▁▁"] = json!(10);
    json["model"]["merges"] = json!([["▁", "▁"], ["▁▁", "▁▁"]]);
    let tokenizer = slow("tokenizer.json", &json_bytes(&json)).unwrap();
    // Three marks are left, and are no piece: transformers' slow tokenizer would show them as they are.
    assert_eq!(tokenizer.encode("   a").unwrap(), [10, 4]);
    assert_eq!(tokenizer.decode(&[10, 4], false), "   a");
    assert_eq!(tokenizer.decode(&[4, 10], false), "a    ");
}

/// A folder with a vocabulary of 305 pieces and files beside it.
fn folder(vocabulary: &str, files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if vocabulary == "tokenizer.model" {
        std::fs::write(folder.path().join(vocabulary), read("equal_scores.model")).unwrap();
    } else {
        std::fs::write(folder.path().join(vocabulary), json_bytes(&small_json())).unwrap();
    }
    for (name, json) in files {
        std::fs::write(folder.path().join(name), json_bytes(json)).unwrap();
    }
    folder
}

#[test]
fn added_words_are_read_from_every_file() {
    let rules = |content: &str, special: bool| {
        json!({ "content": content, "special": special, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": !special })
    };
    let mut listed = small_json();
    listed["added_tokens"] = json!([{ "id": 305, "content": "<art>", "special": false }]);
    let decoder = json!({ "0": rules("<unk>", true), "305": rules("<art>", false),
        "306": rules("<image>", true) });
    let cases: [(&str, Vec<(&str, Value)>); 5] = [
        (
            "added_tokens.json",
            vec![("added_tokens.json", json!({ "<art>": 305 }))],
        ),
        (
            "added_tokens_decoder",
            vec![(
                "tokenizer_config.json",
                json!({ "added_tokens_decoder": decoder }),
            )],
        ),
        ("tokenizer.json beside", vec![("tokenizer.json", listed)]),
        (
            "special_tokens_map.json",
            vec![(
                "special_tokens_map.json",
                json!({ "bos_token": "<s>", "additional_special_tokens": [rules("<art>", true)] }),
            )],
        ),
        (
            "extra_special_tokens",
            vec![(
                "tokenizer_config.json",
                json!({ "extra_special_tokens": { "art": "<art>" } }),
            )],
        ),
    ];
    for (name, files) in cases {
        let folder = folder("tokenizer.model", &files);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let pieces = tokenizer.encode("ban<art> nan").unwrap();
        let is = |id: u32| tokenizer.token(id).unwrap();
        let texts: Vec<String> = pieces.iter().map(|&id| is(id)).collect();
        assert_eq!(texts, ["▁ba", "n", "<art>", "▁", "nan"], "{name}");
        assert_eq!(pieces[2], 305, "{name}");
        assert_eq!(tokenizer.decode(&pieces, false), "ban<art> nan", "{name}");
        assert_eq!(tokenizer.required_rows(), 306, "{name}");
        assert!(tokenizer.check_rows(306).is_ok(), "{name}");
        let error = tokenizer.check_rows(305).unwrap_err().to_string();
        assert!(error.contains("<art>") && error.contains("305"), "{error}");
        assert!(tokenizer.notes().is_empty(), "{:?}", tokenizer.notes());
    }
}

#[test]
fn added_words_are_found_as_transformers_finds_them() {
    let all: Value = serde_json::from_slice(&read("added_words.json")).unwrap();
    for (name, case) in all.as_object().unwrap() {
        let special = if name == "word" || name == "single" {
            json!([])
        } else {
            json!(["<art>"])
        };
        let config = json!({ "legacy": false, "additional_special_tokens": special,
            "added_tokens_decoder": case["added_tokens_decoder"] });
        let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let texts = case["ids"].as_array().unwrap();
        assert_eq!(texts.len(), 10);
        for row in texts {
            let text = row[0].as_str().unwrap();
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(json!(found), row[1], "{name} {text:?}");
        }
    }
}

#[test]
fn files_that_disagree_or_are_damaged_are_named() {
    let cases = [
        (
            "added_tokens.json",
            json!({ "ban": 1 }),
            "`ban` with id 1, which is the id of `<s>`",
        ),
        (
            "added_tokens.json",
            json!({ "an": 305 }),
            "`an` with id 305, which has id",
        ),
        (
            "added_tokens.json",
            json!({ "<art>": 4_000_000 }),
            "4000000",
        ),
        (
            "added_tokens.json",
            json!({ "<art>": -1 }),
            "added_tokens.json",
        ),
        (
            "tokenizer_config.json",
            json!({ "added_tokens_decoder": { "x": { "content": "<art>" } } }),
            "\"x\"",
        ),
        (
            "special_tokens_map.json",
            json!({ "bos_token": 7 }),
            "special_tokens_map.json",
        ),
    ];
    for (name, json, expected) in cases {
        let folder = folder("tokenizer.model", &[(name, json)]);
        let error = Tokenizer::from_folder(folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
    let two = folder(
        "tokenizer.json",
        &[
            ("added_tokens.json", json!({ "<art>": 10 })),
            (
                "tokenizer_config.json",
                json!({ "added_tokens_decoder": { "11": "<art>" } }),
            ),
        ],
    );
    let error = Tokenizer::from_folder(two.path()).unwrap_err().to_string();
    assert!(
        error.contains("`<art>` with id 10, which has id 11"),
        "{error}"
    );
}

#[test]
fn pictures_and_padding_are_no_words() {
    let config = json!({ "pad_token": "<fill>", "added_tokens_decoder": {
        "305": { "content": "<image>", "special": true }, "306": { "content": "<pad>" },
        "307": { "content": "<fill>" },
    } });
    let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.required_rows(), 305);
    for text in ["<image>", "<pad>", "<fill>"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.iter().all(|&id| id < 305), "{text}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, false), text);
    }
    let prompt = encode_prompt(&tokenizer, &literal_image("a <image> b")).unwrap();
    assert!(!prompt.contains(&IMAGE_TOKEN_INDEX));
    assert_eq!(prompt[1..], {
        let ids = tokenizer.encode("a <image> b").unwrap();
        ids.into_iter().map(i64::from).collect::<Vec<_>>()
    });
}

#[test]
fn settings_that_are_not_followed_are_noted() {
    let config = json!({ "add_bos_token": false, "add_eos_token": true, "legacy": true,
        "clean_up_tokenization_spaces": true, "eos_token": "<|im_end|>",
        "added_tokens_decoder": { "305": { "content": "<|im_end|>", "special": true } } });
    let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let notes = tokenizer.notes().join("\n");
    for field in [
        "add_bos_token: false",
        "add_eos_token: true",
        "clean_up_tokenization_spaces: true",
        "`<|im_end|>` as eos_token",
        "legacy: true",
    ] {
        assert!(notes.contains(field), "{field} in {notes}");
    }
    let no_prefix = json!({ "add_prefix_space": false });
    let folder = self::folder("tokenizer.model", &[("tokenizer_config.json", no_prefix)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.encode("an").unwrap(), [259]);
    assert_eq!(tokenizer.decode(&[274, 259], false), " an");
}

#[test]
fn git_lfs_pointers_are_called_so() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 499723\n";
    for name in ["tokenizer.json", "tokenizer.model"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(
            matches!(error, TokenizerError::LfsPointer { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    let beside = folder("tokenizer.model", &[]);
    std::fs::write(beside.path().join("tokenizer_config.json"), pointer).unwrap();
    let error = Tokenizer::from_folder(beside.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer_config.json is a Git LFS pointer"),
        "{error}"
    );
}

/// A seeded stream of numbers, to change files by.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    /// Flips a bit, writes a byte, cuts a piece out, doubles one or swaps two.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(12)).min(bytes.len());
        match self.below(5) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = b"0123456789\"\\[]{},:-e. \xe2\x96\x81\x00"[self.below(24)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let other = self.below(bytes.len());
                bytes.swap(at, other);
            }
        }
    }
}

/// Reads a file in both modes; what is read encodes and decodes.
fn use_it(name: &str, bytes: &[u8]) -> bool {
    [TokenizerMode::Slow, TokenizerMode::Fast]
        .into_iter()
        .filter_map(
            |mode| match Tokenizer::from_bytes(Path::new(name), bytes, mode) {
                Ok(tokenizer) => Some(tokenizer),
                Err(error) => {
                    assert!(error.to_string().contains(name), "{error}");
                    None
                }
            },
        )
        .map(|tokenizer| {
            let text = "The light  falls <art> from é.</s>\u{2581}<0x0A>";
            let ids = tokenizer.encode(text).unwrap();
            let _ = tokenizer.decode(&ids, false);
            let _ = tokenizer.decode(&[0, 300_000, u32::MAX, 1, 2, 5], true);
        })
        .count()
        > 0
}

#[test]
fn changed_files_are_read_or_refused() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let files = [
        ("tokenizer.json", json_bytes(&small_json())),
        (
            "tokenizer.json",
            std::fs::read(sample.join("tokenizer.json")).unwrap(),
        ),
        ("tokenizer.model", read("equal_scores.model")),
        ("tokenizer.model", read("user_defined.model")),
    ];
    let mut changes = Changes(14);
    for (name, whole) in files {
        assert!(use_it(name, &whole), "{name}");
        let mut usable = 0;
        for _ in 0..1000 {
            let mut bytes = whole.clone();
            for _ in 0..=changes.below(3) {
                changes.change(&mut bytes);
            }
            usable += usize::from(use_it(name, &bytes));
        }
        assert!(
            (1..1000).contains(&usable),
            "{name}: {usable} of 1000 were read"
        );
    }
}

/// A `tokenizer.json` with some fields written out as they are.
fn with_fields(fields: &str) -> Vec<u8> {
    let json = String::from_utf8(json_bytes(&small_json())).unwrap();
    format!("{{{fields},{}", &json[1..]).into_bytes()
}

/// As many lines as fit a file of 20 MB.
fn filled(line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() > 20 << 20 {
            break;
        }
        text.push_str(&line(number));
    }
    text
}

#[test]
fn hostile_files_cost_little_time_and_memory() {
    let model = |pieces: Vec<u8>| [pieces, field(TRAINER, &flag(3, 2))].concat();
    let piece = |text: String| field(1, &[field(1, text.as_bytes()), flag(3, 4)].concat());
    let vocab = |entries: String| {
        format!("{{\"model\":{{\"type\":\"BPE\",\"merges\":[],\"vocab\":{{{entries}\"a\":0}}}}}}")
    };
    let long = "a".repeat(20 << 20);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "many pieces",
            vocab(filled(|n| format!("\"{n:x}\":{n},"))).into_bytes(),
        ),
        (
            "one id for all",
            vocab(filled(|n| format!("\"{n:x}\":1,"))).into_bytes(),
        ),
        (
            "huge ids",
            vocab("\"b\":4294967295,".to_owned()).into_bytes(),
        ),
        ("a long piece", vocab(format!("\"{long}\":1,")).into_bytes()),
        ("many merges", {
            let merges = filled(|_| "[\"a\",\"b\"],".to_owned());
            let json = String::from_utf8(json_bytes(&small_json())).unwrap();
            json.replace("\"merges\":[", &format!("\"merges\":[{merges}"))
                .into_bytes()
        }),
        ("many added tokens", {
            let token = |n| format!("{{\"id\":{},\"content\":\"{n:x}\"}},", n + 10);
            let json = String::from_utf8(json_bytes(&small_json())).unwrap();
            json.replace(
                "\"added_tokens\":[",
                &format!("\"added_tokens\":[{}", filled(token)),
            )
            .into_bytes()
        }),
        (
            "lists in a field",
            with_fields(&format!("\"x\":[{}0]", filled(|_| "0,".to_owned()))),
        ),
        (
            "nested lists",
            with_fields(&format!("\"x\":{}", filled(|_| "[".to_owned()))),
        ),
        ("many steps", {
            let step = |_| "{\"type\":\"Fuse\"},".to_owned();
            let steps = format!("[{}{{\"type\":\"Fuse\"}}]", filled(step));
            let decoder = format!("\"decoder\":{{\"type\":\"Sequence\",\"decoders\":{steps}}}");
            format!("{{{decoder}}}").into_bytes()
        }),
        ("only blanks", vec![b' '; 20 << 20]),
        ("more than a tokenizer has", vec![b'{'; 40 << 20]),
        ("empty pieces", model([10, 0].repeat(10 << 20))),
        (
            "pieces of one letter",
            model(field(1, &field(1, b"a")).repeat(4 << 20)),
        ),
        ("user-defined pieces", {
            let pieces = (0..400_000).map(|n| piece(format!("{n:x}")));
            model(pieces.flatten().collect())
        }),
        (
            "a long piece to merge",
            model(field(1, &field(1, long.as_bytes()))),
        ),
        (
            "a length beyond the file",
            vec![10, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1],
        ),
        ("groups", vec![0x0B; 20 << 20]),
    ];
    for (name, bytes) in cases {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let start = std::time::Instant::now();
        let found = slow("hostile", &bytes);
        let (took, peak) = (start.elapsed(), ALLOCATOR.peak_usage());
        // What nobody reads does no harm.
        assert_eq!(found.is_ok(), name == "lists in a field", "{name}");
        let more = peak.saturating_sub(before) >> 20;
        assert!(more < 64, "{name}: {more} MiB");
        let words = found.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            words.len() < 3000,
            "{name}: a message of {} bytes",
            words.len()
        );
        // Unoptimized code may take longer.
        assert!(
            cfg!(debug_assertions) || took.as_secs_f64() < 1.0,
            "{name}: {took:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_is_not_waited_for() {
    for path in ["/dev/zero", "/proc/self"] {
        let error = Tokenizer::from_file(path, TokenizerMode::Slow).unwrap_err();
        assert!(matches!(error, TokenizerError::Read { .. }), "{error}");
    }
}
