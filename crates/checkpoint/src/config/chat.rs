//! `generation_config.json` of Qwen-VL-Chat, whose settings its `chat` follows.

use std::path::Path;

use gallery_gpt_model::{GenerationConfig, GenerationError};
use serde_json::{Value, json};

use super::{
    fields::{Fields, shown},
    limit,
    named_ids::{GENERATION_CONFIG, note_ignored},
};
use crate::{CheckpointError, file::json::read_json};

/// Fields that are read.
const READ: [&str; 8] = [
    "chat_format",
    "do_sample",
    "max_new_tokens",
    "max_window_size",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
];

/// How a model of chats answers, as its `generation_config.json` says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatSettings {
    /// The settings of its answers. Greedy decoding, whatever else they say, unless the file has `do_sample`.
    pub generation: GenerationConfig,
    /// Tokens of a prompt up to which earlier turns are kept.
    pub max_window_size: usize,
}

/// Those that Qwen-VL-Chat came with: sampled at temperature 1 from the likeliest tokens that have a probability of 0.3 together, at most
/// 512 tokens, and a window of 6144.
impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            generation: GenerationConfig::qwen_vl_chat(),
            max_window_size: 6144,
        }
    }
}

impl ChatSettings {
    /// Reads the file of a folder. A field that is missing has the default of transformers; its default of `max_new_tokens` is no
    /// number, and then the length is [`ChatSettings::default`]'s, as is the window. All are, with a note, if there is no file.
    pub(crate) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Self, CheckpointError> {
        let path = folder.join(GENERATION_CONFIG);
        let shipped = Self::default();
        if !path.is_file() {
            notes.push(format!(
                "{} has no {GENERATION_CONFIG}: answers have the settings that Qwen-VL-Chat came with",
                folder.display()
            ));
            return Ok(shipped);
        }
        let json = read_json(&path)?;
        let mut fields = Fields::new(&path, "", json.clone())?;
        let chat = Self::of_fields(&mut fields, shipped)?;
        let wrong = |error: GenerationError| CheckpointError::Config {
            path: path.clone(),
            reason: error.to_string(),
        };
        chat.generation.validate().map_err(wrong)?;
        let Value::Object(mut rest) = json else {
            return Ok(chat);
        };
        rest.retain(|name, _| !READ.contains(&name.as_str()));
        notes.extend(note_ignored(&path, &Value::Object(rest)));
        Ok(chat)
    }

    fn of_fields(fields: &mut Fields, shipped: Self) -> Result<Self, CheckpointError> {
        if let Some(format) = fields.text("chat_format")?
            && format != "chatml"
        {
            let format = shown(&json!(format));
            let what = format!(
                "is {format}, expected \"chatml\": prompts are written for Qwen-VL-Chat, and the base model Qwen-VL is not supported"
            );
            return Err(fields.wrong("chat_format", &what));
        }
        let do_sample = match fields.take("do_sample") {
            None => false,
            Some(Value::Bool(sample)) => sample,
            Some(other) => {
                let what = format!("is {}, expected true or false", shown(&other));
                return Err(fields.wrong("do_sample", &what));
            }
        };
        let top_k = match fields.take("top_k") {
            None => 50,
            Some(Value::Number(zero)) if zero.as_u64() == Some(0) => 0,
            Some(other) => {
                let limit = limit::ROWS;
                let number = other.as_u64().filter(|number| *number <= limit);
                let number = number.and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| {
                    let what = format!(
                        "is {}, expected an integer from 0 (off) to {limit}",
                        shown(&other)
                    );
                    fields.wrong("top_k", &what)
                })?
            }
        };
        let temperature = single(fields, "temperature")?.unwrap_or(1.0);
        let generation = GenerationConfig {
            max_new_tokens: fields
                .size("max_new_tokens", limit::CONTEXT)?
                .unwrap_or(shipped.generation.max_new_tokens),
            temperature: if do_sample { temperature } else { 0.0 },
            top_k,
            top_p: single(fields, "top_p")?.unwrap_or(1.0),
            repetition_penalty: single(fields, "repetition_penalty")?.unwrap_or(1.0),
            ..shipped.generation
        };
        Ok(Self {
            generation,
            max_window_size: fields
                .size("max_window_size", limit::CONTEXT)?
                .unwrap_or(shipped.max_window_size),
        })
    }
}

/// Takes a positive number that an `f32` holds.
fn single(fields: &mut Fields, name: &str) -> Result<Option<f32>, CheckpointError> {
    let Some(number) = fields.positive(name)? else {
        return Ok(None);
    };
    let single = number as f32;
    if single > 0.0 && single.is_finite() {
        return Ok(Some(single));
    }
    let what = format!("is {number}, expected a positive number of single precision");
    Err(fields.wrong(name, &what))
}
