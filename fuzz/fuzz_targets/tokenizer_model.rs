//! A SentencePiece `tokenizer.model`: read or refused, and what is read encodes and decodes; never a panic.
#![no_main]

use std::path::Path;

use gallery_gpt_text::{Tokenizer, TokenizerMode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("tokenizer.model");
    if let Ok(tokenizer) = Tokenizer::from_bytes(path, bytes, TokenizerMode::Slow) {
        if let Ok(ids) = tokenizer.encode("The light falls from the left.</s>") {
            let _ = tokenizer.decode(&ids, false);
        }
    }
});
