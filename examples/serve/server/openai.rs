//! The shapes of OpenAI's chat completions, as far as a model that reads paintings has use for them.

use base64::{Engine, engine::general_purpose::STANDARD};
use gallery_gpt::{model::FinishReason, prelude::*, text::image_question};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Refusal;

/// A request, before anything in it is believed.
#[derive(Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    messages: Vec<Message>,
    #[serde(default)]
    pub(crate) stream: bool,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    repetition_penalty: Option<f32>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    stop: Option<Stop>,
    seed: Option<u64>,
    stream_options: Option<StreamOptions>,
    /// Words of the last message, where attention is asked for.
    pub(crate) phrase: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Settings that change nothing here at the value given, or that only name the caller.
fn changes_nothing(name: &str, value: &Value) -> bool {
    match name {
        "user" | "metadata" | "store" | "safety_identifier" | "prompt_cache_key" => true,
        "n" => *value == json!(1),
        "logprobs" | "parallel_tool_calls" => *value == json!(false),
        "presence_penalty" | "frequency_penalty" => value.as_f64() == Some(0.0),
        "response_format" => value["type"] == "text",
        _ => value.is_null(),
    }
}

impl ChatRequest {
    /// Whether the last chunk of a stream counts tokens.
    pub(crate) fn include_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage)
    }

    /// The settings: the server's, changed by the request's.
    pub(crate) fn config(&self, defaults: &GenerationConfig) -> Result<GenerationConfig, Refusal> {
        if let Some((name, value)) = self
            .rest
            .iter()
            .find(|(name, value)| !changes_nothing(name, value))
        {
            return Err(Refusal::invalid(format!(
                "{name}: {value} is not supported here"
            )));
        }
        let mut config = defaults.clone();
        config.temperature = self.temperature.unwrap_or(config.temperature);
        config.top_p = self.top_p.unwrap_or(config.top_p);
        config.top_k = self.top_k.unwrap_or(config.top_k);
        config.repetition_penalty = self.repetition_penalty.unwrap_or(config.repetition_penalty);
        config.seed = self.seed.unwrap_or_else(|| {
            // As many clients expect, an answer without a seed is another one each time.
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
            now.map_or(0, |now| now.as_nanos() as u64)
        });
        if let Some(tokens) = self.max_completion_tokens.or(self.max_tokens) {
            if tokens > defaults.max_new_tokens {
                return Err(Refusal::invalid(format!(
                    "max_tokens: {tokens} is more than this server writes ({})",
                    defaults.max_new_tokens
                )));
            }
            config.max_new_tokens = tokens;
        }
        config.stop_strings = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        config
            .validate()
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        Ok(config)
    }

    /// The conversation, with a line of `<image>` for each picture of a turn, and the pictures' files.
    pub(crate) fn conversation(
        &self,
        most_pictures: usize,
    ) -> Result<(Conversation, Vec<Vec<u8>>), Refusal> {
        let mut conversation = Conversation::default();
        let mut pictures = Vec::new();
        for (number, message) in self.messages.iter().enumerate() {
            let before = pictures.len();
            let text = message.read(number, &mut pictures)?;
            let own = pictures.len() - before;
            let expected = if conversation.turns.len() % 2 == 0 {
                "user"
            } else {
                "assistant"
            };
            match message.role.as_str() {
                "system" | "developer" if number == 0 && own == 0 => {
                    conversation = conversation.with_system(text);
                }
                role if role != expected => {
                    return Err(Refusal::invalid(format!(
                        "messages[{number}]: the role is {role:?}, expected {expected:?}; a system message may come first"
                    )));
                }
                "user" => conversation = conversation.ask(image_question(&text, own)),
                _ if own > 0 => {
                    return Err(Refusal::invalid(format!(
                        "messages[{number}]: an assistant's message has a picture"
                    )));
                }
                _ => conversation = conversation.answer(text),
            }
        }
        if conversation.turns.is_empty() {
            return Err(Refusal::invalid(
                "messages: there is none to answer".to_owned(),
            ));
        }
        if pictures.len() > most_pictures {
            return Err(Refusal::invalid(format!(
                "messages: {} pictures, this server takes {most_pictures} a request",
                pictures.len()
            )));
        }
        Ok((conversation, pictures))
    }
}

impl Message {
    fn read(&self, number: usize, pictures: &mut Vec<Vec<u8>>) -> Result<String, Refusal> {
        let parts = match &self.content {
            Content::Text(text) => return Ok(text.clone()),
            Content::Parts(parts) => parts,
        };
        let mut texts = Vec::new();
        for part in parts {
            match part {
                Part::Text { text } => texts.push(text.as_str()),
                Part::ImageUrl { image_url } => {
                    pictures.push(image_url.bytes().map_err(|reason| {
                        Refusal::invalid(format!("messages[{number}]: image_url: {reason}"))
                    })?);
                }
            }
        }
        Ok(texts.join("\n"))
    }
}

impl ImageUrl {
    /// The file in a `data:` URI. Nothing is fetched: a server that fetches what it is told to is a hole in a firewall.
    fn bytes(&self) -> Result<Vec<u8>, String> {
        let begins: String = self.url.chars().take(40).collect();
        let data = self
            .url
            .strip_prefix("data:")
            .and_then(|uri| uri.split_once(','));
        let data = data.and_then(|(kind, data)| kind.ends_with(";base64").then_some(data));
        let data = data.ok_or_else(|| {
            format!("{begins:?} is no data URI; expected data:image/...;base64,...")
        })?;
        STANDARD
            .decode(data)
            .map_err(|error| format!("not base64 ({error})"))
    }
}

/// Who answers, and to which request.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

/// Tokens of a request and its answer.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) completion: usize,
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}

impl Reply {
    /// The whole answer.
    pub(crate) fn completion(&self, text: &str, finish: FinishReason, usage: Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish_reason(finish),
            }],
            "usage": usage.json(),
        })
    }

    fn chunk(&self, choices: &Value, usage: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices, "usage": usage,
        })
    }

    /// A piece of the answer; the first names the role.
    pub(crate) fn piece(&self, text: &str, first: bool) -> Value {
        let delta = if first {
            json!({ "role": "assistant", "content": text })
        } else {
            json!({ "content": text })
        };
        let choice =
            json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]);
        self.chunk(&choice, Value::Null)
    }

    /// The end of a stream of pieces.
    pub(crate) fn end(&self, finish: FinishReason) -> Value {
        let choice = json!([{
            "index": 0, "delta": {}, "logprobs": null, "finish_reason": finish_reason(finish),
        }]);
        self.chunk(&choice, Value::Null)
    }

    /// The count after the end, for those who asked for it.
    pub(crate) fn usage(&self, usage: Usage) -> Value {
        self.chunk(&json!([]), usage.json())
    }
}
