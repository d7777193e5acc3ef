//! The server's page in a browser: a painting is chosen, a question is asked, an answer is stopped, an error is read.

use std::path::PathBuf;

use gallery_gpt::prelude::*;

use super::{
    browser::{Page, chromium},
    *,
};

const SAID: &str = "document.getElementById('said').textContent";
const ANSWER: &str = "document.getElementById('answer').textContent";
const ASK: &str = "document.getElementById('ask').textContent";
const IS_DISABLED: &str = "document.getElementById('ask').disabled";
/// Waits for the first words of an answer and presses Stop before any more can come.
const STOP: &str = "new Promise(resolve => {
    const [answer, ask] = ['answer', 'ask'].map(id => document.getElementById(id));
    const seen = new MutationObserver(() => {
        if (!answer.textContent) return;
        seen.disconnect();
        const button = ask.textContent, words = answer.textContent;
        ask.click();
        resolve([button, words]);
    });
    seen.observe(answer, { childList: true });
    ask.click();
})";

fn painting_file() -> PathBuf {
    datasets().join("painting-form-mini/images/test_0.jpg")
}

/// A server and its page, if there is a browser; answers may have 800 tokens.
fn open(access: Access) -> Option<(Running, Page)> {
    let chromium = chromium()?;
    let server = start_by_default(
        GenerationConfig::greedy(800),
        limits(),
        connections(),
        access,
    );
    let page = Page::open(&chromium, &format!("http://{}/", server.address));
    Some((server, page))
}

fn says(start: &str) -> String {
    format!("{SAID}.includes({start:?})")
}

/// What the library answers to a question about the painting.
fn expected(server: &Running, question: &str) -> String {
    let greedy = GenerationConfig::greedy(800);
    let gallery = &server.gallery;
    gallery
        .describe(&painting_file(), question, &greedy)
        .unwrap()
}

#[test]
fn a_chosen_painting_is_read_and_questions_are_answered() {
    let Some((server, mut page)) = open(Access::default()) else {
        return;
    };
    page.until("document.getElementById('model').textContent === 'tiny'");
    assert_eq!(page.value(IS_DISABLED), true, "there is no painting yet");
    page.choose("#file", &painting_file());
    page.until(&says(" tokens in "));
    assert_eq!(page.text(ANSWER), expected(&server, QUESTION));
    assert_eq!(
        page.text("document.querySelector('#frame img').alt"),
        "Painting: test_0.jpg"
    );
    assert_eq!(
        page.value("document.querySelector('#frame img').naturalWidth > 0"),
        true
    );
    // A question of one's own; the answer of before gives way to its answer.
    let question = "Where does the light come from?";
    page.type_and_enter("#question", question);
    let answer = expected(&server, question);
    page.until(&format!(
        "{} && {ANSWER} === {answer:?}",
        says(" tokens in ")
    ));
    assert_eq!(
        page.text("document.getElementById('aloud').textContent"),
        answer
    );
    // A setting of the page.
    page.value(
        "document.getElementById('tokens').value = 3; document.getElementById('ask').click()",
    );
    page.until(&says("3 tokens in "));
    assert!(page.text(SAID).contains("cut there"));
    // Words of the answer, and the picture of their attention.
    page.value(
        "document.getElementById('tokens').value = ''; document.getElementById('ask').click()",
    );
    page.until(&format!("{ASK} === 'Ask' && {ANSWER} === {answer:?}"));
    let word = answer.split_whitespace().next().unwrap();
    page.type_and_enter("#phrase", word);
    page.until(&says("bright: more attention than usual"));
    page.until("document.querySelector('#frame img').src.startsWith('blob:')");
    assert_eq!(page.complaints(&[]), [""; 0]);
}

#[test]
fn stop_ends_an_answer_that_is_being_written() {
    let Some((server, mut page)) = open(Access::default()) else {
        return;
    };
    page.choose("#file", &painting_file());
    page.until(&says(" tokens in "));
    // As hot as it gets, an answer has hardly an end: it would have hundreds of tokens.
    page.value("document.getElementById('temperature').value = 5");
    let stopped = page.value(STOP);
    assert_eq!(stopped[0], "Stop", "the button while an answer is written");
    page.until(&format!("{ASK} === 'Ask'"));
    assert_eq!(page.text(SAID), "stopped");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        page.value(ANSWER),
        stopped[1],
        "nothing came after the stop"
    );
    let aloud = page.text("document.getElementById('aloud').textContent");
    assert_eq!(aloud, "", "an answer without its end is not read out");
    // The model is free again: the next question is answered to its end.
    page.value(
        "document.getElementById('temperature').value = 0; document.getElementById('ask').click()",
    );
    page.until(&says(" tokens in "));
    assert_eq!(page.text(ANSWER), expected(&server, QUESTION));
    assert_eq!(page.complaints(&[]), [""; 0]);
}

#[test]
fn a_broken_picture_is_an_error_in_words_and_nothing_is_lost() {
    let Some((server, mut page)) = open(Access::default()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let is_bad = "document.getElementById('said').classList.contains('bad')";
    // No picture at all: before there is a painting, and after.
    let text = file("notes.md", b"# Notes\n");
    page.choose("#file", &text);
    page.until(&says("notes.md is not a picture"));
    assert_eq!(page.value(is_bad), true);
    assert_eq!(page.value(IS_DISABLED), true);
    let height = page.value("document.getElementById('frame').offsetHeight");
    assert!(
        height.as_f64().unwrap() > 100.0,
        "a place to drop on: {height}"
    );
    page.choose("#file", &painting_file());
    page.until(&says(" tokens in "));
    let answer = page.text(ANSWER);
    page.choose("#file", &text);
    page.until(&says("notes.md is not a picture"));
    assert_eq!(page.text(ANSWER), answer);
    assert_eq!(
        page.text("document.querySelector('#frame img').alt"),
        "Painting: test_0.jpg"
    );
    // What the browser shows and the server does not read: the server's words.
    let svg =
        b"<svg xmlns='http://www.w3.org/2000/svg' width='40' height='40'><circle r='9'/></svg>";
    page.choose("#file", &file("drawing.svg", svg));
    page.until(&format!("{is_bad} && !{}", says("notes.md")));
    let said = page.text(SAID);
    assert!(said.contains("SVG"), "{said}");
    assert_eq!(
        page.text(ANSWER),
        "",
        "no answer of another picture stands there"
    );
    // A download that was cut off.
    let whole = painting();
    page.choose("#file", &file("cut.jpg", &whole[..whole.len() / 2]));
    page.until(&format!("{is_bad} && !{}", says("SVG")));
    let said = page.text(SAID);
    assert!(said.contains("cut"), "{said}");
    // And on with a whole one.
    page.choose("#file", &painting_file());
    page.until(&says(" tokens in "));
    assert_eq!(page.text(ANSWER), expected(&server, QUESTION));
    assert_eq!(page.value(is_bad), false);
    assert_eq!(page.complaints(&["400"]), [""; 0]);
}

#[test]
fn a_key_that_the_server_wants_is_asked_for() {
    let access = Access {
        key: Some("monet".to_owned()),
        ..Access::default()
    };
    let Some((server, mut page)) = open(access) else {
        return;
    };
    page.until("!document.getElementById('locked').hidden");
    page.until(&says("key"));
    page.type_and_enter("#key", "monet");
    page.until("document.getElementById('model').textContent === 'tiny'");
    page.choose("#file", &painting_file());
    page.until(&says(" tokens in "));
    assert_eq!(page.text(ANSWER), expected(&server, QUESTION));
    assert_eq!(page.complaints(&["401"]), [""; 0]);
}
