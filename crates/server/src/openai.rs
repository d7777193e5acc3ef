//! Translates OpenAI's chat completions: a request into a conversation and settings, an answer into JSON.

use gallery_gpt::{
    model::{FinishReason, GenerationError},
    prelude::*,
    text::{AnswerRegions, IMAGE_PLACEHOLDER, IMAGE_TOKEN, Role, image_question, literal_image},
};
use serde_json::{Value, json};

use crate::{
    buffer::Buffer,
    refusal::Refusal,
    request::{ChatRequest, Message},
};

/// The server's settings, overridden by those of the request.
pub(crate) fn config(
    request: &ChatRequest,
    defaults: &GenerationConfig,
) -> Result<GenerationConfig, Refusal> {
    let mut config = defaults.clone();
    config.temperature = request.temperature.unwrap_or(config.temperature);
    config.top_p = request.top_p.unwrap_or(config.top_p);
    config.top_k = request.top_k.unwrap_or(config.top_k);
    config.repetition_penalty = request
        .repetition_penalty
        .unwrap_or(config.repetition_penalty);
    config.no_repeat_ngram_size = request
        .no_repeat_ngram_size
        .unwrap_or(config.no_repeat_ngram_size);
    config.seed = request.seed.unwrap_or_else(|| {
        // Without a seed every answer is sampled differently, as many clients expect.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    // Many clients ask for more tokens than this model needs: the answer then ends at the server's own limit, with `length`.
    let most = defaults.max_new_tokens;
    config.max_new_tokens = request.max_tokens.unwrap_or(most).min(most);
    config.stop_strings.clone_from(&request.stop);
    config.validate().map_err(|error| {
        let param = match error {
            GenerationError::Config { field, .. } => field,
            _ => "messages",
        };
        Refusal::invalid(param, error.to_string())
    })?;
    Ok(config)
}

/// The conversation, with a line of `<image>` for each picture of a turn, and the files of the pictures. `last` is the role that the last
/// message must have.
pub(crate) fn conversation(
    messages: Vec<Message>,
    last: Role,
) -> Result<(Conversation, Vec<Buffer>), Refusal> {
    let mut conversation = Conversation::default();
    let mut pictures = Vec::new();
    let count = messages.len();
    for (number, mut message) in messages.into_iter().enumerate() {
        let own = message.pictures.len();
        pictures.append(&mut message.pictures);
        let expected = if conversation.turns.len() % 2 == 0 {
            "user"
        } else {
            "assistant"
        };
        let wrong = |what: &str| {
            let param = format!("messages[{number}]");
            let message = format!("{param}: {what}");
            Err(Refusal::invalid(param, message))
        };
        match message.role.as_str() {
            "system" | "developer" if number == 0 && own == 0 => {
                conversation = conversation.with_system(literal_image(&message.text));
            }
            role if role != expected => {
                return wrong(&format!(
                    "the role is {role:?}, expected {expected:?}; a system message may come first"
                ));
            }
            "user" => conversation = conversation.ask(question(&message.text, own)),
            _ if own > 0 => return wrong("an assistant's message has a picture"),
            // The answer whose attention is asked for is no part of a prompt.
            _ if number + 1 == count => conversation = conversation.answer(message.text),
            _ => conversation = conversation.answer(literal_image(&message.text)),
        }
    }
    let expected = match last {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    if conversation
        .turns
        .last()
        .is_none_or(|turn| turn.role != last)
    {
        let message = format!("messages: expected the last one to be of the {expected}");
        return Err(Refusal::invalid("messages", message));
    }
    Ok((conversation, pictures))
}

/// A question about pictures. Its placeholders stand for them if there are as many; otherwise they are text, and the pictures come
/// first.
fn question(text: &str, pictures: usize) -> String {
    let placeholders = text.matches(IMAGE_TOKEN).count() + text.matches(IMAGE_PLACEHOLDER).count();
    if placeholders == pictures {
        return image_question(text, pictures);
    }
    let pictures = format!("{IMAGE_TOKEN}\n").repeat(pictures);
    pictures + &literal_image(text)
}

/// The fields that all parts of a response share.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

/// Numbers of tokens of a request and its answer.
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

/// A response, with what the answer points at, if it does, and its text without the tags for that. The answer itself keeps its tags: a client
/// sends them back in the next turn.
fn with_regions(mut response: Value, found: &AnswerRegions) -> Value {
    if !found.regions.is_empty() {
        response["regions"] = json!(found.regions);
        response["text"] = json!(found.text);
    }
    response
}

impl Reply {
    /// The whole answer. `notes` tell the client about its pictures.
    pub(crate) fn completion(
        &self,
        text: &str,
        notes: &[String],
        finish: FinishReason,
        usage: Usage,
        regions: &AnswerRegions,
    ) -> Value {
        let mut answer = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish_reason(finish),
            }],
            "usage": usage.json(),
        });
        if !notes.is_empty() {
            answer["notes"] = json!(notes);
        }
        with_regions(answer, regions)
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

    /// The first chunk, with notes about the client's pictures.
    pub(crate) fn notes(&self, notes: &[String]) -> Value {
        let mut chunk = self.piece("", true);
        chunk["notes"] = json!(notes);
        chunk
    }

    /// The last chunk of the answer.
    pub(crate) fn end(&self, finish: FinishReason, regions: &AnswerRegions) -> Value {
        let choice = json!([{
            "index": 0, "delta": {}, "logprobs": null, "finish_reason": finish_reason(finish),
        }]);
        with_regions(self.chunk(&choice, Value::Null), regions)
    }

    /// The chunk with the usage, after the last one, for requests that ask for it.
    pub(crate) fn usage(&self, usage: Usage) -> Value {
        self.chunk(&json!([]), usage.json())
    }
}

#[cfg(test)]
mod tests {
    use gallery_gpt::text::answer_regions;

    use super::*;

    #[test]
    fn a_response_says_what_its_answer_points_at() {
        let reply = Reply {
            id: "x".to_owned(),
            created: 0,
            model: "m".to_owned(),
        };
        let usage = Usage {
            prompt: 1,
            completion: 2,
        };
        let tagged = "<ref>A boat</ref><box>(1,2),(3,4)</box> lies still.";
        let found = answer_regions(tagged);
        let whole = reply.completion(tagged, &[], FinishReason::Stop, usage, &found);
        let expected = json!([{ "name": "A boat", "shapes": [{ "box": [[1, 2], [3, 4]] }] }]);
        for response in [&whole, &reply.end(FinishReason::Stop, &found)] {
            assert_eq!(response["regions"], expected);
            assert_eq!(response["text"], "A boat lies still.");
        }
        assert_eq!(whole["choices"][0]["message"]["content"], tagged);
        let plain = reply.end(FinishReason::Stop, &answer_regions("A boat."));
        assert!(plain.get("regions").is_none() && plain.get("text").is_none());
    }
}
