//! The JSON of a request, read within bounds: nothing is built that is not used, and nothing in it is trusted.

mod invalid;
mod json;
mod messages;
mod settings;

use serde_json::value::RawValue;

pub use invalid::Invalid;
pub use messages::Message;

use self::{
    invalid::shown,
    json::{boolean, bounded_shape, fields, number, string, whole_number},
    messages::{Texts, messages},
    settings::{include_usage, most_tokens, seed, stops},
};
use crate::neutral;

/// Limits of the contents of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of all its texts.
    pub text: usize,
    /// Number of pictures.
    pub pictures: usize,
}

/// A request for an answer.
#[derive(Debug, Default)]
pub struct ChatRequest {
    /// The model's name in the request; it is not compared with the name of the model that answers.
    pub model: Option<String>,
    /// The conversation so far, in order.
    pub messages: Vec<Message>,
    /// Whether the answer is streamed as it is generated.
    pub stream: bool,
    /// Whether the last chunk of a stream counts tokens.
    pub include_usage: bool,
    /// `None` takes the server's default, here and below.
    pub temperature: Option<f32>,
    /// The likeliest tokens whose probabilities add up to this are kept.
    pub top_p: Option<f32>,
    /// How many of the likeliest tokens are kept; 0 is all.
    pub top_k: Option<usize>,
    /// Divides the scores of tokens that have occurred.
    pub repetition_penalty: Option<f32>,
    /// N-grams of this size occur once; 0 is off.
    pub no_repeat_ngram_size: Option<usize>,
    /// Maximum number of tokens of the answer, if the client sets one.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The seed of sampling; without one, every answer is sampled differently.
    pub seed: Option<u64>,
    /// Words of the last message whose attention is asked for.
    pub phrase: Option<String>,
}

impl ChatRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not JSON, not in OpenAI's format, exceeds `limits`, or asks for something that is not supported.
    pub fn parse(body: &[u8], limits: &RequestLimits) -> Result<Self, Invalid> {
        bounded_shape(body)?;
        let text = std::str::from_utf8(body)
            .map_err(|error| Invalid::whole(format!("the request is not UTF-8: {error}")))?;
        let whole: &RawValue = serde_json::from_str(text)
            .map_err(|error| Invalid::whole(format!("the request is not JSON: {error}")))?;
        let mut request = Self::default();
        let mut texts = Texts::of(limits.text);
        let mut has_messages = false;
        // `max_completion_tokens` is the newer name, and overrides the older one.
        let mut older = None;
        for (name, value) in fields(whole, "the request")? {
            if value.get() == "null" {
                continue;
            }
            let name = name.as_str();
            match name {
                "model" => request.model = Some(string(name, value)?),
                "messages" => {
                    has_messages = true;
                    request.messages = messages(value, limits.pictures, &mut texts)?;
                }
                "stream" => request.stream = boolean(name, value)?,
                "stream_options" => request.include_usage = include_usage(value)?,
                "temperature" => request.temperature = Some(number(name, value)? as f32),
                "top_p" => request.top_p = Some(number(name, value)? as f32),
                "top_k" => request.top_k = Some(whole_number(name, value)?.try_into().unwrap_or(0)),
                "repetition_penalty" => {
                    request.repetition_penalty = Some(number(name, value)? as f32);
                }
                "no_repeat_ngram_size" => {
                    let size = whole_number(name, value)?.try_into();
                    request.no_repeat_ngram_size = Some(size.unwrap_or(0));
                }
                "max_completion_tokens" => request.max_tokens = most_tokens(name, value)?,
                "max_tokens" => older = most_tokens(name, value)?,
                "stop" => request.stop = stops(value)?,
                "seed" => request.seed = seed(value)?,
                "phrase" => request.phrase = Some(texts.take(name, value)?),
                _ if neutral::changes_nothing(name, value.get()) => {}
                _ => {
                    let message = format_args!("{} is not supported here", shown(value));
                    return Err(Invalid::field(name, message));
                }
            }
        }
        if !has_messages {
            return Err(Invalid::field("messages", "expected some, found none"));
        }
        request.max_tokens = request.max_tokens.or(older);
        Ok(request)
    }
}
