//! Token ids in a model's configs: those that end an answer and the padding id, and how many rows of the vocabulary are tokens.

use std::path::{Path, PathBuf};

use gallery_gpt_model::{GalleryModelConfig, ReservedRows};
use gallery_gpt_text::{Tokenizer, TokenizerError, printable};
use serde_json::Value;

use crate::{CheckpointError, file::json::read_json};

/// Name of the file with the settings of answers.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
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
    /// Ids that end an answer (`eos_token_id`); `None` if no file has any.
    ends: Option<Vec<u32>>,
    pad: Option<usize>,
}

impl NamedIds {
    /// Reads the folder's `generation_config.json` and, for ids that are missing there, its `config.json`, as transformers does.
    pub(crate) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let config_path = folder.join("config.json");
        let config = read_json(&config_path)?;
        let (generation_path, generation) = generation_config(folder)?;
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
            ends,
            pad: pad.and_then(|pad| usize::try_from(pad).ok()),
        })
    }

    /// The ids that end an answer of a LLaVA. Notes the settings of its `generation_config.json`.
    pub(crate) fn ends_of_llava(
        &self,
        folder: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Vec<u32>, CheckpointError> {
        let (path, generation) = generation_config(folder)?;
        notes.extend(note_ignored(&path, &generation));
        let ends = self.ends.clone();
        Ok(ends.unwrap_or_else(|| GalleryModelConfig::gallery_gpt_7b().end_ids))
    }

    /// The ids that end an answer of a Qwen-VL-Chat: those of the configs, and those that end a turn in the folder's tokenizer.
    pub(crate) fn ends_of_chat(
        &self,
        folder: &Path,
        model: &GalleryModelConfig,
        notes: &mut Vec<String>,
    ) -> Result<Vec<u32>, CheckpointError> {
        let mut ends = self.ends.clone().unwrap_or_default();
        match turn_ends(folder, model)? {
            Some(turn) => ends.extend(turn),
            None => notes.push(format!(
                "{} has no qwen.tiktoken: only {} ends an answer",
                folder.display(),
                match &self.ends {
                    Some(ends) => format!("eos_token_id {ends:?}"),
                    None => "its length".to_owned(),
                }
            )),
        }
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
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

/// The path of a folder's `generation_config.json`, and what it says; null if there is none.
fn generation_config(folder: &Path) -> Result<(PathBuf, Value), CheckpointError> {
    let path = folder.join(GENERATION_CONFIG);
    let generation = if path.is_file() {
        read_json(&path)?
    } else {
        Value::Null
    };
    Ok((path, generation))
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

/// The ids that end a turn, from the tokenizer of a folder, whose picture tag must be the one that the config names.
///
/// `None` if the folder has no tokenizer.
fn turn_ends(
    folder: &Path,
    model: &GalleryModelConfig,
) -> Result<Option<[u32; 3]>, CheckpointError> {
    let tokenizer = match Tokenizer::from_folder(folder) {
        Ok(tokenizer) => tokenizer,
        Err(TokenizerError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let path = folder.join("config.json");
    let Some(tokens) = tokenizer.chat_ml() else {
        return Err(wrong(
            &path,
            format!(
                "it is of Qwen-VL, but the tokenizer beside it is {}'s; put the model's qwen.tiktoken in its place",
                tokenizer.family()
            ),
        ));
    };
    if let Some(rows) = model.reserved
        && rows.image != tokens.img_start as usize
    {
        return Err(wrong(
            &path,
            format!(
                "visual.image_start_id is {}, but <img> has the id {} in the tokenizer beside it; one of the files belongs to another model",
                rows.image, tokens.img_start
            ),
        ));
    }
    Ok(Some(tokens.end_ids()))
}

/// A note on the settings of a generation config that would change an answer and are ignored.
pub(super) fn note_ignored(path: &Path, generation: &Value) -> Option<String> {
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
