//! Tokenizer files as people bring them: the ids of SentencePiece and of transformers, or a refusal that names the setting.
//!
//! `ids.json` was made with sentencepiece 0.2.3 from the models beside it, `added_words.json` with the slow `LlamaTokenizer` of
//! transformers 4.37.2 from `equal_scores.model`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damaged;
mod folders;
mod made;
mod sentencepiece;
mod tokenizer_json;

use std::path::{Path, PathBuf};

use gallery_gpt_text::{Tokenizer, TokenizerError, TokenizerMode};

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
