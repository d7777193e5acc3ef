//! The fields of a config, taken one by one: those that are left at the end are noted.

use std::path::{Path, PathBuf};

use gallery_gpt_model::ModelConfigError;
use serde_json::{Map, Value};

use crate::CheckpointError;

/// Fields that libraries write into every config and that do not change a model's output: names, types, ids that the tokenizer
/// defines, and the generation settings that transformers before 4.40 wrote into every config.
const NO_MATTER: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "ignore_index",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "projection_dim",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];

/// The fields of one object of a config that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    path: PathBuf,
    /// Prefix of a field's name in messages: `text_config.`, or nothing.
    part: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn new(
        path: &Path,
        part: &'static str,
        json: Value,
    ) -> Result<Self, CheckpointError> {
        let Value::Object(map) = json else {
            let part = if part.is_empty() {
                "it"
            } else {
                part.trim_end_matches('.')
            };
            return Err(CheckpointError::Config {
                path: path.to_owned(),
                reason: format!("{part} is {}, expected an object", shown(&json)),
            });
        };
        Ok(Self {
            path: path.to_owned(),
            part,
            map,
        })
    }

    /// An error about a field.
    pub(crate) fn wrong(&self, name: &str, what: &str) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.clone(),
            reason: format!("{}{name} {what}", self.part),
        }
    }

    fn unexpected(&self, name: &str, found: &Value, expected: &str) -> CheckpointError {
        self.wrong(name, &format!("is {}, expected {expected}", shown(found)))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a field's value; null counts as missing.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes an integer from 1 to `limit`.
    pub(crate) fn size(
        &mut self,
        name: &str,
        limit: u64,
    ) -> Result<Option<usize>, CheckpointError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let size = value.as_u64().filter(|size| (1..=limit).contains(size));
        let size = size.and_then(|size| usize::try_from(size).ok());
        let expected = format!("an integer from 1 to {limit}");
        size.map(Some)
            .ok_or_else(|| self.unexpected(name, &value, &expected))
    }

    /// Takes a positive number.
    pub(crate) fn positive(&mut self, name: &str) -> Result<Option<f64>, CheckpointError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|&n| n > 0.0 && n.is_finite());
        number
            .map(Some)
            .ok_or_else(|| self.unexpected(name, &value, "a positive number"))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, CheckpointError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.unexpected(name, &other, "a string")),
        }
    }

    /// Takes a field and refuses any value but those supported.
    pub(crate) fn only(&mut self, name: &str, supported: &[Value]) -> Result<(), CheckpointError> {
        match self.take(name) {
            Some(value) if !supported.contains(&value) => {
                let expected: Vec<String> = supported.iter().map(shown).collect();
                let what = format!(
                    "is {}, which is not supported; expected {}",
                    shown(&value),
                    if expected.is_empty() {
                        "null".to_owned()
                    } else {
                        expected.join(" or ")
                    }
                );
                Err(self.wrong(name, &what))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a config of quantized weights, with the name of the method.
    pub(crate) fn refuse_quantized(&mut self) -> Result<(), CheckpointError> {
        for name in ["quantization_config", "compression_config", "quantization"] {
            let Some(value) = self.take(name) else {
                continue;
            };
            if value.as_object().is_some_and(Map::is_empty) {
                continue;
            }
            let field = |field: &str| value.get(field).and_then(Value::as_str);
            let bits = |field: &str| value.get(field).and_then(Value::as_u64);
            let is_set = |field: &str| value.get(field).and_then(Value::as_bool) == Some(true);
            let method = field("quant_method")
                .or(field("format"))
                .unwrap_or("an unnamed method");
            let bits = match bits("bits").or(bits("w_bit")) {
                Some(bits) => Some(bits),
                None if is_set("load_in_4bit") => Some(4),
                None if is_set("load_in_8bit") => Some(8),
                None => None,
            };
            let bits = bits.map_or(String::new(), |bits| format!(" in {bits} bits"));
            return Err(self.wrong(
                name,
                &format!(
                    "says that the weights are quantized by {method}{bits}, which is not supported; use the 16-bit model (where the weights beside it are in 16 bits, remove {name} from the file)"
                ),
            ));
        }
        Ok(())
    }

    /// Notes dropout, which matters to training alone and is not supported outside of adapters.
    pub(crate) fn note_dropout(&mut self, notes: &mut Vec<String>) {
        for name in ["attention_dropout", "dropout"] {
            if let Some(value) = self.take(name)
                && value.as_f64() != Some(0.0)
            {
                notes.push(format!(
                    "{}: {}{name} is {}; training here has no dropout outside of adapters",
                    self.path.display(),
                    self.part,
                    shown(&value)
                ));
            }
        }
    }

    /// Drops fields that do not matter.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        self.map.retain(|name, _| !names.contains(&name.as_str()));
    }

    /// Drops fields whose names have one of the prefixes.
    pub(crate) fn ignore_prefixed(&mut self, prefixes: &[&str]) {
        self.map
            .retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    /// Notes the fields that are left.
    pub(crate) fn note_rest(mut self, notes: &mut Vec<String>) {
        const SHOWN: usize = 8;
        self.ignore(NO_MATTER);
        let rest = self.map.iter().filter(|(_, value)| !value.is_null());
        let mut names: Vec<String> = rest
            .map(|(name, _)| format!("{}{}", self.part, name.escape_debug()))
            .collect();
        if names.is_empty() {
            return;
        }
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        let mut names = names.join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        notes.push(format!(
            "{} has unknown fields, which are ignored: {names}",
            self.path.display()
        ));
    }
}

/// A value as JSON, truncated if it is long.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// An error about a whole config.
pub(super) fn invalid(path: &Path, source: impl Into<ModelConfigError>) -> CheckpointError {
    CheckpointError::ModelConfig {
        path: path.to_owned(),
        source: source.into(),
    }
}
