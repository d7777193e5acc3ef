//! A `qwen.tiktoken`, a zero byte and a text: the file is read or refused, the text is encoded and comes back, and regions are read from it;
//! never a panic. A file that is refused gives way to one of the single bytes.
#![no_main]

use std::{path::Path, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gallery_gpt_text::{
    Conversation, TemplateKind, Tokenizer, TokenizerMode, answer_regions, encode_conversation,
    literal_image, take_pictures,
};
use libfuzzer_sys::fuzz_target;

fn read(file: &[u8]) -> Option<Tokenizer> {
    Tokenizer::from_bytes(Path::new("qwen.tiktoken"), file, TokenizerMode::Slow).ok()
}

static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| {
    let lines = (0..=u8::MAX).map(|byte| format!("{} {byte}\n", STANDARD.encode([byte])));
    read(lines.collect::<String>().as_bytes()).expect("a whole file")
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let file = read(parts.next().unwrap_or_default());
    let tokenizer = file.as_ref().unwrap_or(&BYTES);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());

    if let Ok(ids) = tokenizer.encode(&text) {
        let shown = tokenizer.decode(&ids, false);
        // A path of 256 bytes leaves no pad, and is shown as its ids.
        if !text.contains("<img>") {
            assert_eq!(tokenizer.encode(&shown).ok(), Some(ids));
        }
    }
    let ids: Vec<u32> = text.chars().map(u32::from).collect();
    let _ = tokenizer.decode(&ids, true);
    let tokens = tokenizer.chat_ml().expect("Qwen's");
    let row: Vec<i64> = ids.iter().copied().map(i64::from).collect();
    if let Ok((ours, paths)) = tokens.without_paths(&row) {
        // Normalization may make a path too long.
        let _ = tokens.with_paths(&ours, &paths);
    }

    let template = TemplateKind::ChatMl.template();
    let literal = Conversation::question(literal_image(&text));
    assert!(template.encode(tokenizer, &literal, Some(100)).is_ok());
    if let Ok((question, _)) = take_pictures(&text) {
        let talk = template
            .number_pictures(&Conversation::question(question))
            .into_owned();
        let _ = encode_conversation(tokenizer, &template, &talk.answer("A"));
    }
    let read = answer_regions(&text);
    assert!(read.text.len() <= text.len());
});
