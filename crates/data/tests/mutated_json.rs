//! Damaged training files are read or rejected, never with a panic, and with the same result for any buffer size.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed, and may be asked for more"
)]

use std::{io::BufReader, path::Path};

use gallery_gpt_data::PaintingForm;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sets in every supported format.
const SEEDS: [&str; 5] = [
    r#"[{"id":"r0","image":"images/0.jpg","conversations":[{"from":"human","value":"Light?\n<image>"},{"from":"gpt","value":"It is \"warm\"."}]},
 {"id":7,"image":null,"score":NaN,"conversations":[{"from":"system","value":"Be brief."},{"from":"user","value":"caf\u00e9"},{"from":"bing","value":"A"}]}]"#,
    "{\"id\":\"s0\",\"image\":[\"0.jpg\",\"1.jpg\"],\"messages\":[{\"role\":\"user\",\"content\":\"<image> and <image>\"},{\"role\":\"assistant\",\"content\":\"é\"}]}\r\n\n{\"instruction\":\"Q\",\"input\":\"more\",\"output\":\"A\",\"history\":[[\"Q\",\"A\"]]}\n",
    r#"[{"images":[{"path":"0.jpg"}],"system":"","messages":[{"role":"user","content":[{"type":"image","index":0},{"type":"text","text":"Q"}]},{"role":"assistant","content":[{"type":"text","text":"A"}],"weight":1}]},
 {"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"0.jpg"}},"Q"]},{"role":"model","content":"A"}]}]"#,
    "{\n \"id\": 1e999,\n \"conversations\": [\n  {\"from\": \"human\", \"value\": \"Q\"},\n  {\"from\": \"gpt\", \"value\": \"A\"}\n ]\n}\n",
    r#"[{"id":"q0","conversations":[{"from":"user","value":"Picture 1: <img>0.jpg</img>\nQ"},{"from":"assistant","value":"<ref>A</ref><box>(1,2),(3,4)</box>"}]}]"#,
];

const WORDS: [&str; 26] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\n",
    "\u{FEFF}",
    "\0",
    "\u{1b}[2J",
    "\\ud800",
    "NaN",
    "-Infinity",
    "1e999",
    "null",
    "\"image\":",
    "\"messages\":",
    "<image>",
    "<img>",
    "</img>",
    "\"system\"",
    "[[[[",
    "\u{202E}",
    "true",
];

fn mutated(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = SEEDS[random.random_range(0..SEEDS.len())]
        .as_bytes()
        .to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..40)).min(bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(at..end, word.bytes());
            }
            _ => {
                let units = String::from_utf8_lossy(&bytes).into_owned();
                if random.next_u32().is_multiple_of(16) {
                    bytes = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
                }
            }
        }
    }
    bytes
}

/// The records that were read, or the error, as text.
fn outcome(bytes: &[u8], at_once: usize) -> String {
    let reader = BufReader::with_capacity(at_once, bytes);
    match PaintingForm::read(Path::new("set.json"), reader) {
        Ok(set) => {
            for record in &set.records {
                record.ensure_placeholders().unwrap();
            }
            for bad in &set.bad {
                let message = bad.to_string();
                assert!(!message.contains(char::is_control), "{message:?}");
            }
            format!("{set:?} {:?}", set.repeated_ids())
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_thousand_damaged_files_are_read_or_refused() {
    let count = std::env::var("DAMAGED_FILES").map_or(1000, |count| count.parse().unwrap());
    let (mut read, mut refused) = (0, 0);
    for seed in 0..count {
        let bytes = mutated(&mut ChaCha8Rng::seed_from_u64(seed));
        let whole = outcome(&bytes, 1 << 16);
        let pieces = 1 + seed as usize % 9;
        assert_eq!(
            whole,
            outcome(&bytes, pieces),
            "seed {seed}, {pieces} bytes at a time"
        );
        if whole.contains("is not a data set") {
            refused += 1;
        } else {
            read += 1;
        }
    }
    assert!(
        read > count / 10 && refused > count / 10,
        "{read} read, {refused} refused"
    );
}
