//! A `tokenizer.json`: read or refused in both modes, and what is read encodes and decodes; never a panic.
#![no_main]

use std::path::Path;

use gallery_gpt_text::{Tokenizer, TokenizerMode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for mode in [TokenizerMode::Slow, TokenizerMode::Fast] {
        if let Ok(tokenizer) = Tokenizer::from_bytes(Path::new("tokenizer.json"), bytes, mode) {
            if let Ok(ids) = tokenizer.encode("The light  falls <art> from é.</s>") {
                let _ = tokenizer.decode(&ids, false);
            }
            let _ = tokenizer.decode(&[3, 0, 300_000, 1, 2, 5], true);
        }
    }
});
