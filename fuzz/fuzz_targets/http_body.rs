//! The body of a request to the server: read or refused, never a panic, and never more text than allowed.
#![no_main]

use gallery_gpt_server::request::{ChatRequest, RequestLimits};
use libfuzzer_sys::fuzz_target;

const LIMITS: RequestLimits = RequestLimits {
    text: 4096,
    pictures: 2,
};

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = ChatRequest::parse(body, &LIMITS) {
        let texts = request.messages.iter().map(|message| message.text.len());
        // Parts of a message are joined by line breaks, which are not counted.
        assert!(texts.sum::<usize>() <= LIMITS.text + body.len());
        let pictures = request.messages.iter().map(|message| message.pictures.len());
        assert!(pictures.sum::<usize>() <= LIMITS.pictures);
    }
});
