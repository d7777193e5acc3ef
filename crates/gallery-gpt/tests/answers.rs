//! Answers of the tiny base as a user gets them: streamed, stopped, cancelled.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{ops::ControlFlow, path::PathBuf};

use gallery_gpt::{
    model::{CancelToken, FinishReason, GenerationError},
    prelude::*,
};
use image::RgbImage;

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn gallery() -> GalleryGpt {
    GalleryGpt::load(datasets().join("tiny-base"), &Device::flex()).unwrap()
}

fn painting(gallery: &GalleryGpt) -> RgbImage {
    let path = datasets().join("painting-form-mini/images/test_0.jpg");
    gallery.processor().open(path).unwrap()
}

const QUESTION: &str = "Please write a paragraph of formal analysis for this painting.";

#[test]
fn a_stop_string_ends_every_way_of_writing_alike() {
    let gallery = gallery();
    let painting = painting(&gallery);
    let greedy = GenerationConfig::greedy(60);
    let whole = gallery.describe(&painting, QUESTION, &greedy).unwrap();
    // From inside a word to inside another, so that it does not end with a token.
    let words: Vec<&str> = whole.split(' ').collect();
    let stop = format!("{} {}", &words[5][1..], &words[6][..1]);
    let expected = whole[..whole.find(&stop).unwrap()].trim().to_owned();
    assert!(!expected.is_empty() && expected.len() < whole.len());

    for num_beams in [1, 3] {
        let config = GenerationConfig {
            stop_strings: vec!["never written".to_owned(), stop.clone()],
            num_beams,
            ..greedy.clone()
        };
        let pixels = gallery.processor().process(&painting);
        let prompt = gallery.prompt(QUESTION, vec![pixels]).unwrap();
        let written = gallery
            .generator(&config)
            .generate(std::slice::from_ref(&prompt))
            .unwrap();
        if num_beams > 1 {
            // Another hypothesis may win; whatever does, nothing of the stop string is shown.
            assert!(!gallery.answer(&written[0]).contains(&stop));
            continue;
        }
        assert_eq!(gallery.answer(&written[0]), expected);
        assert_eq!(written[0].finish, FinishReason::Stop);
        assert_eq!(written[0].stop_string.as_ref(), Some(&stop));

        let mut stream = gallery.stream_prompt(prompt, &config).unwrap();
        let pieces: Vec<String> = stream.by_ref().map(Result::unwrap).collect();
        assert!(pieces.len() > 3);
        assert_eq!(pieces.concat().trim(), expected);
        assert_eq!(stream.finish().stop_string.as_ref(), Some(&stop));
    }
}

#[test]
fn stop_strings_need_a_tokenizer() {
    let gallery = gallery();
    let config = GenerationConfig {
        stop_strings: vec!["x".to_owned()],
        ..GenerationConfig::greedy(1)
    };
    let prompt = gallery.prompt("Why?", vec![]).unwrap();
    let error = Generator::new(gallery.model(), config)
        .generate(&[prompt])
        .unwrap_err();
    assert!(matches!(error, GenerationError::NoTokenizer), "{error}");
}

#[test]
fn an_answer_can_be_ended_from_outside() {
    let gallery = gallery();
    let painting = painting(&gallery);
    let config = GenerationConfig::greedy(60);

    let mut pieces = 0;
    let shown = gallery
        .describe_with(&painting, QUESTION, &config, |_| {
            pieces += 1;
            if pieces == 4 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    let whole = gallery.describe(&painting, QUESTION, &config).unwrap();
    assert_eq!(pieces, 4);
    assert!(whole.starts_with(&shown) && shown.len() < whole.len());

    let prompt = |question| {
        let pixels = gallery.processor().process(&painting);
        gallery.prompt(question, vec![pixels]).unwrap()
    };
    // One of two rows: the other is written to its end.
    let prompts = [prompt(QUESTION), prompt(QUESTION)];
    let written = gallery
        .generator(&config)
        .generate_with(&prompts, |row, _| match row {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert_eq!(written[0].finish, FinishReason::Cancelled);
    assert_eq!(written[0].ids.len(), 1);
    assert_eq!(gallery.answer(&written[1]), whole);

    let cancel = CancelToken::new();
    let mut stream = gallery
        .stream_until(prompt(QUESTION), &config, cancel.clone())
        .unwrap();
    assert!(stream.next().is_some());
    cancel.cancel();
    assert!(stream.by_ref().count() <= 1);
    assert_eq!(stream.finish().finish, FinishReason::Cancelled);
    let error = gallery
        .stream_until(prompt(QUESTION), &config, cancel)
        .unwrap_err();
    assert!(
        matches!(error, GalleryError::Generation(GenerationError::Cancelled)),
        "{error}"
    );
}

#[test]
fn a_picture_that_cannot_be_read_costs_its_own_answer_only() {
    let gallery = gallery();
    let config = GenerationConfig::greedy(12);
    let picture = |name| datasets().join("painting-form-mini/images").join(name);
    let pictures = ["missing.jpg", "test_0.jpg", "test_1.jpg", "gone.jpg"].map(picture);
    let expected = [1, 2].map(|at| gallery.describe(&pictures[at], QUESTION, &config).unwrap());

    for batch_size in [1, 3, 8] {
        let prompt = |at: &usize| gallery.question_about(&pictures[*at], QUESTION);
        let answers = gallery.answer_all(0..4, &config, prompt);
        let (mut texts, mut unread) = (Vec::new(), Vec::new());
        for answered in answers.with_batch_size(batch_size) {
            let answered = answered.unwrap();
            match answered.answer {
                Ok(answer) => texts.push((answered.question, answer.text)),
                Err(error) => {
                    assert!(matches!(error, GalleryError::Image(_)), "{error}");
                    unread.push(answered.question);
                }
            }
        }
        assert_eq!(unread, [0, 3], "batches of {batch_size}");
        let expected = [1, 2].into_iter().zip(expected.clone());
        assert!(texts.into_iter().eq(expected), "batches of {batch_size}");
    }
}

#[test]
fn answers_before_a_cancellation_are_kept() {
    let gallery = gallery();
    let painting = painting(&gallery);
    let config = GenerationConfig::greedy(4);
    let cancel = CancelToken::new();
    let asked = std::cell::Cell::new(0);
    let prompt = |_: &usize| {
        asked.set(asked.get() + 1);
        gallery.question_about(&painting, QUESTION)
    };
    let answers = gallery.answer_all(0..9, &config, prompt);
    let mut answers = answers.with_batch_size(2).with_cancel(cancel.clone());
    assert_eq!(answers.next().unwrap().unwrap().question, 0);
    cancel.cancel();
    assert_eq!(answers.next().unwrap().unwrap().question, 1);
    let end = answers.next().unwrap();
    assert!(matches!(end, Err(GalleryError::Cancelled)), "{end:?}");
    assert!(answers.next().is_none());
    assert_eq!(asked.get(), 2);
}

#[test]
fn a_prompt_that_cannot_be_answered_ends_the_answers() {
    let gallery = gallery();
    let config = GenerationConfig::greedy(4);
    let prompt = |length: &usize| Ok(Prompt::text(vec![1; *length]));
    let mut answers = gallery
        .answer_all([2, 100_000, 2], &config, prompt)
        .with_batch_size(1);
    assert!(answers.next().unwrap().unwrap().answer.is_ok());
    let end = answers.next().unwrap();
    assert!(matches!(end, Err(GalleryError::Generation(_))), "{end:?}");
    assert!(answers.next().is_none());
}

#[test]
fn attention_goes_where_the_words_say() {
    let gallery = gallery();
    let painting = painting(&gallery);
    let pixels = gallery.processor().process(&painting);
    let prompt = gallery.prompt(QUESTION, vec![pixels]).unwrap();
    let written = gallery
        .generator(&GenerationConfig::greedy(60))
        .generate(std::slice::from_ref(&prompt))
        .unwrap();
    let answer = &written[0].ids;
    let text = gallery.answer(&written[0]);
    // "... a bottle in white at the left ... an apple in red at the right ..."
    let across = |ending: &str| {
        let end = text.find(ending).unwrap() + ending.len();
        let start = text[..end - ending.len()].rfind(" a").unwrap();
        let phrase = &text[start..end];
        let maps = gallery.attention_maps(&prompt, answer, phrase).unwrap();
        assert_eq!(
            (maps.len(), maps[0].patches.len()),
            (1, maps[0].side.pow(2))
        );
        let (mut sum, mut total) = (0.0, 0.0);
        for (at, &value) in maps[0].patches.iter().enumerate() {
            assert!(value.is_finite() && value >= 0.0);
            let column = (at % maps[0].side) as f32;
            sum += column * value;
            total += value;
        }
        let overlay = maps[0].overlay(&gallery, &painting);
        assert_eq!(overlay.dimensions(), painting.dimensions());
        sum / total
    };
    let (left, right) = (across(" at the left"), across(" at the right"));
    assert!(left < right, "{left} {right}");

    let error = gallery
        .attention_maps(&prompt, answer, "a green dragon")
        .unwrap_err();
    assert!(error.to_string().contains("a green dragon"), "{error}");
}
