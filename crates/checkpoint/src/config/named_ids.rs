//! Token ids in a model's configs: those that end an answer and the padding id, and how many rows of the vocabulary are tokens.

use std::path::Path;

use gallery_gpt_model::{GalleryModelConfig, ReservedRows};
use gallery_gpt_text::{Tokenizer, TokenizerError, printable};
use serde_json::Value;

use crate::{CheckpointError, file::json::read_json};

/// Longest value in a note, in characters.
const SHOWN: usize = 40;
/// Most fields in a note.
const MAX_FIELDS: usize = 16;

/// Fields of `generation_config.json` that have no effect here, whatever their values.
const WITHOUT_EFFECT: [&str; 14] = [
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "disable_compile",
    "eos_token_id",
    "low_memory",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "return_dict_in_generate",
    "transformers_version",
    "use_cache",
];

/// The ids in the configs of a folder.
#[derive(Debug)]
pub(crate) struct NamedIds {
    /// Ids that end an answer.
    pub(crate) ends: Vec<u32>,
    pad: Option<usize>,
}

impl NamedIds {
    /// Reads the folder's `generation_config.json` and, for ids that are missing there, its `config.json`, as transformers does. Notes
    /// the other settings of the former.
    pub(crate) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Self, CheckpointError> {
        let config_path = folder.join("config.json");
        let config = read_json(&config_path)?;
        let generation_path = folder.join("generation_config.json");
        let generation = if generation_path.is_file() {
            read_json(&generation_path)?
        } else {
            Value::Null
        };
        notes.extend(note(&generation_path, &generation));
        let sources = [
            (&generation_path, Some(&generation)),
            (&config_path, config.get("text_config")),
            (&config_path, Some(&config)),
        ];
        let mut ends = None;
        for (path, json) in sources {
            if ends.is_none()
                && let Some(named) = json.and_then(|json| json.get("eos_token_id"))
            {
                ends = end_ids(path, named)?;
            }
        }
        let pad = config.get("pad_token_id").and_then(Value::as_u64);
        Ok(Self {
            ends: ends.unwrap_or_else(|| GalleryModelConfig::gallery_gpt_7b().end_ids),
            pad: pad.and_then(|pad| usize::try_from(pad).ok()),
        })
    }

    /// Keeps the rows of a llava-hf vocabulary that are tokens: those before the image token, and those that the folder's tokenizer adds
    /// after it.
    pub(crate) fn keep_words(
        &self,
        folder: &Path,
        image_token_index: usize,
        model: &mut GalleryModelConfig,
    ) -> Result<(), CheckpointError> {
        let words = match Tokenizer::from_folder(folder) {
            Ok(tokenizer) => tokenizer.required_rows().min(model.llama.vocab_size),
            Err(TokenizerError::NotFound { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        model.llama.vocab_size = words.max(image_token_index);
        model.reserved = (words > image_token_index).then_some(ReservedRows {
            image: image_token_index,
            pad: self.pad,
        });
        Ok(())
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Config {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// The ids of `eos_token_id`: one, several, or null.
fn end_ids(path: &Path, named: &Value) -> Result<Option<Vec<u32>>, CheckpointError> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            let found = value.to_string();
            let found = printable(&found);
            wrong(
                path,
                format!("eos_token_id has {found}, expected token ids"),
            )
        })
    };
    let mut ids = match named {
        Value::Null => return Ok(None),
        Value::Array(several) => several.iter().map(one).collect::<Result<Vec<u32>, _>>()?,
        single => vec![one(single)?],
    };
    ids.sort_unstable();
    ids.dedup();
    Ok((!ids.is_empty()).then_some(ids))
}

/// A note on the settings of a generation config that would change an answer and are ignored.
fn note(path: &Path, generation: &Value) -> Option<String> {
    let fields = generation.as_object()?.iter();
    let mut fields: Vec<String> = fields
        .filter(|(name, value)| {
            !name.starts_with('_')
                && !WITHOUT_EFFECT.contains(&name.as_str())
                && !is_neutral(name, value)
        })
        .map(|(name, value)| {
            let (name, text) = (printable(name), value.to_string());
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{name} {}...", &text[..end]),
                None => format!("{name} {text}"),
            }
        })
        .collect();
    let more = fields.len().saturating_sub(MAX_FIELDS);
    fields.truncate(MAX_FIELDS);
    if more > 0 {
        fields.push(format!("{more} more"));
    }
    (!fields.is_empty()).then(|| {
        format!(
            "{} sets {}: these are ignored, generation uses the settings it is given",
            path.display(),
            fields.join(", ")
        )
    })
}

/// Whether a setting is off or transformers' default.
fn is_neutral(name: &str, value: &Value) -> bool {
    let number = match name {
        "temperature"
        | "top_p"
        | "typical_p"
        | "repetition_penalty"
        | "length_penalty"
        | "encoder_repetition_penalty"
        | "num_beams"
        | "num_beam_groups"
        | "num_return_sequences" => Some(1.0),
        "max_length" => Some(20.0),
        "top_k" => Some(50.0),
        _ => Some(0.0),
    };
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        value => value.as_f64().is_some() && value.as_f64() == number,
    }
}
