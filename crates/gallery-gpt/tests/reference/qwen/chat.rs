//! Conversations, as the original's `chat` holds them: prompts, ids and texts.

use gallery_gpt::{
    GalleryGpt,
    model::GenerationConfig,
    text::{Conversation, TemplateKind, take_pictures},
    vision::PixelValues,
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Variant, device, ids, list, text},
};

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let sessions = variant.json("expected/chat.json");
    let sessions = list(&sessions).iter().enumerate();
    let case = |(number, session): (usize, &Value)| {
        let session = session.clone();
        Case::new(format!("chat_{number}"), move |variant| {
            check(variant, &session);
        })
    };
    sessions.map(case).collect()
}

fn check(variant: &Variant, session: &Value) {
    let gallery = GalleryGpt::load(variant.path("model"), &device()).unwrap();
    assert_eq!(gallery.template(), TemplateKind::ChatMl);
    let tokens = gallery.tokenizer().chat_ml().unwrap();
    let config = GenerationConfig {
        max_new_tokens: session["max_new_tokens"].as_u64().unwrap() as usize,
        temperature: 0.0,
        ..gallery.default_generation()
    };
    let mut conversation = Conversation::default().with_system(text(&session["system"]));
    let (mut paths, mut pictures) = (Vec::<String>::new(), Vec::<PixelValues>::new());
    for turn in list(&session["turns"]) {
        let (question, named) = take_pictures(text(&turn["query"])).unwrap();
        let files = named.iter().map(|path| variant.path(path));
        let processor = gallery.processor();
        pictures.extend(files.map(|file| processor.process_file(file).unwrap()));
        paths.extend(named);
        let asked = conversation.ask(question);
        let prompt = gallery.continuation(&asked, pictures.clone()).unwrap();
        let left_out = paths.len() - prompt.pictures.len();
        let original = tokens.with_paths(&prompt.input_ids, &paths[left_out..]);
        assert_eq!(original.unwrap(), ids(&turn["prompt_ids"]));

        let stream = gallery.stream_prompt(prompt.clone(), &config);
        let pieces: Result<Vec<String>, _> = stream.unwrap().collect();
        let generator = gallery.generator(&config);
        let written = generator.generate(&[prompt]).unwrap().swap_remove(0);
        let found = written.ids.iter().chain(&written.stop_id);
        let found: Vec<i64> = found.map(|&id| id.into()).collect();
        let expected = ids(&turn["new_ids"]);
        // Behind a stop word the original writes the end of text.
        let behind = expected[found.len()..].iter();
        assert_eq!(found, expected[..found.len()]);
        assert!(behind.copied().all(|id| id == i64::from(tokens.endoftext)));
        let answer = gallery.answer(&written);
        assert_eq!(pieces.unwrap().concat().trim(), answer);
        match written.stop_id {
            Some(_) => assert_eq!(answer, text(&turn["response"])),
            // The original leaves out the last id of an answer that was cut.
            None => {
                let shown = gallery.text_of(&written.ids[..written.ids.len() - 1]);
                assert_eq!(shown, text(&turn["response"]));
            }
        }
        conversation = asked.answer(answer);
    }
}
