//! Damaged and hostile files: read or refused, in bounded time and memory.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gallery_gpt_text::{Tokenizer, TokenizerError, TokenizerMode};

use crate::{
    ALLOCATOR,
    made::{TRAINER, field, flag, json_bytes, small_json},
    read, slow,
};

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
    let tiktoken = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../gallery-gpt/tests/goldens/qwen_basic/tokenizer/qwen.tiktoken");
    let files = [
        ("tokenizer.json", json_bytes(&small_json())),
        (
            "tokenizer.json",
            std::fs::read(sample.join("tokenizer.json")).unwrap(),
        ),
        ("tokenizer.model", read("equal_scores.model")),
        ("tokenizer.model", read("user_defined.model")),
        ("qwen.tiktoken", std::fs::read(tiktoken).unwrap()),
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
        (
            "many ranks",
            filled(|n| format!("{} {n}\n", STANDARD.encode(n.to_string()))).into_bytes(),
        ),
        ("a long token", format!("YQ== 0\n{long} 1\n").into_bytes()),
        ("only bytes", b"YQ== 0\n".to_vec()),
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
