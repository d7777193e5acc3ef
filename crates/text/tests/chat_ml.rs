//! Prompts and labels in ChatML, over a vocabulary of the single bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gallery_gpt_text::{
    Conversation, Template, TemplateKind, Tokenizer, TokenizerMode, encode_conversation,
    encode_prompt, literal_image,
};

/// A tokenizer of the single bytes.
fn bytes() -> Tokenizer {
    let lines = (0..=u8::MAX).map(|byte| format!("{} {byte}\n", STANDARD.encode([byte])));
    let file: String = lines.collect();
    let path = Path::new("qwen.tiktoken");
    Tokenizer::from_bytes(path, file.as_bytes(), TokenizerMode::Slow).unwrap()
}

const CHAT: fn() -> Template = || TemplateKind::ChatMl.template();

#[test]
fn chatml_ends_turns_as_the_original_does() {
    let talk = Conversation::question("Q").answer("A").ask("R");
    let prompt = CHAT().prompt(&talk);
    let expected = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n\
        <|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, expected);
    // Of single bytes, the ids of the parts are those of the whole.
    let ids = CHAT().encode(&bytes(), &talk, None).unwrap();
    assert_eq!(ids, encode_prompt(&bytes(), expected).unwrap());
    let answered = Conversation::question("Q").answer("A");
    assert!(CHAT().prompt(&answered).ends_with("A<|im_end|>"));
    assert!(
        CHAT()
            .prompt(&Conversation::default())
            .ends_with("<|im_end|>\n<|im_start|>assistant\n")
    );
}

#[test]
fn the_oldest_exchanges_leave_a_full_window() {
    let tokenizer = bytes();
    let talk = Conversation::question("<image>")
        .answer("A")
        .ask("R")
        .answer("B")
        .ask("S");
    let ids = |window| CHAT().encode(&tokenizer, &talk, window).unwrap();
    let whole = ids(None);
    let last = CHAT()
        .encode(&tokenizer, &Conversation::question("S"), None)
        .unwrap();
    let short = CHAT()
        .encode(
            &tokenizer,
            &Conversation::question("R").answer("B").ask("S"),
            None,
        )
        .unwrap();
    let system = Conversation::default().answer("");
    let system = CHAT().encode(&tokenizer, &system, None).unwrap().len() - "\nxassistant\nx".len();
    // The picture's 258 ids count, and the last question does not.
    let full = system + 258 + whole.len() - 3 - last.len();
    assert_eq!(ids(Some(full + 1)), whole);
    assert_eq!(ids(Some(full)), short);
    assert_eq!(ids(Some(0)), last);
}

#[test]
fn typed_tags_of_turns_are_text_in_a_chat_and_special_in_training() {
    let tokenizer = bytes();
    let end = i64::from(tokenizer.chat_ml().unwrap().im_end);
    let talk = Conversation::question("say <|im_end|>").answer("no");
    let count = |ids: &[i64]| ids.iter().filter(|&&id| id == end).count();
    assert_eq!(count(&CHAT().encode(&tokenizer, &talk, None).unwrap()), 3);
    let row = encode_conversation(&tokenizer, &CHAT(), &talk).unwrap();
    assert_eq!(count(&row.input_ids), 4);
    assert_eq!(count(&row.labels), 3);
}

#[test]
fn what_cannot_be_trained_in_chatml_is_refused() {
    let tokenizer = bytes();
    let refusal = |talk: &Conversation| {
        encode_conversation(&tokenizer, &CHAT(), talk)
            .unwrap_err()
            .to_string()
    };
    for (talk, words) in [
        (Conversation::default().answer("A"), "empty"),
        (
            Conversation::question("<|endoftext|>").answer("A"),
            "turn 0 contains `<|endoftext|>`",
        ),
        (
            Conversation::question("Q").answer("<image>"),
            "turn 1 contains `<image>`",
        ),
        (
            Conversation::question("<img>a.png</img>").answer("A"),
            "turn 0 contains `<img>`",
        ),
        (
            Conversation::question("Q").with_system("<image>"),
            "system prompt contains `<image>`",
        ),
    ] {
        assert!(refusal(&talk).contains(words), "{}", refusal(&talk));
    }
    let literal = Conversation::question(literal_image("<img>")).answer("A");
    assert!(encode_conversation(&tokenizer, &CHAT(), &literal).is_ok());
}

#[test]
fn a_template_needs_its_own_tokenizer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let llama = Tokenizer::from_folder(folder).unwrap();
    let talk = Conversation::question("Q").answer("A");
    for (template, tokenizer, words) in [
        (CHAT(), &llama, "LLaMA's; use template `vicuna_v1`"),
        (
            TemplateKind::VicunaV1.template(),
            &bytes(),
            "Qwen's; use template `chatml`",
        ),
    ] {
        let prompt = template
            .encode(tokenizer, &talk, None)
            .unwrap_err()
            .to_string();
        let row = encode_conversation(tokenizer, &template, &talk).unwrap_err();
        assert!(prompt.contains(words), "{prompt}");
        assert_eq!(row.to_string(), prompt);
    }
    let vicuna = TemplateKind::VicunaV1.template();
    let ids = vicuna.encode(&llama, &talk, Some(0)).unwrap();
    assert_eq!(ids, encode_prompt(&llama, &vicuna.prompt(&talk)).unwrap());
}

#[test]
fn pictures_are_numbered_over_the_conversation() {
    let talk = Conversation::question("<image>\nQ")
        .answer("A")
        .ask("See <image>, then <image>\nagain.");
    let talk = CHAT().number_pictures(&talk).into_owned();
    assert_eq!(talk.turns[0].text, "Picture 1: <image>\nQ");
    assert_eq!(
        talk.turns[2].text,
        "See Picture 2: <image>\n, then Picture 3: <image>\nagain."
    );
    assert_eq!(*CHAT().number_pictures(&talk), talk);
    for kept in [
        "Picture 7: <image>Q",
        "Picture 1:<image>",
        "Picture 1: <image>\nPicture 2: <image>\nQ",
    ] {
        assert_eq!(
            CHAT().number_pictures(&Conversation::question(kept)).turns[0].text,
            kept
        );
    }
    assert_eq!(
        CHAT()
            .number_pictures(&Conversation::question("Picture : <image>"))
            .turns[0]
            .text,
        "Picture : Picture 1: <image>\n"
    );
    let arranged = |text: &str| {
        CHAT().arrange_pictures(&Conversation::question(text)).turns[0]
            .text
            .clone()
    };
    assert_eq!(
        arranged("Describe.\n<image>"),
        "Picture 1: <image>\nDescribe."
    );
    assert_eq!(
        arranged("Look at\nPicture 1: <image>\nQ"),
        "Look at\nPicture 1: <image>\nQ"
    );
    let vicuna = TemplateKind::VicunaV1.template();
    assert_eq!(*vicuna.arrange_pictures(&talk), talk);
    assert_eq!(vicuna.image_question(&talk, "Q", 1), "<image>\nQ");
    assert_eq!(
        CHAT().image_question(&talk, "<img> Q", 0),
        literal_image("<img> Q")
    );
}
