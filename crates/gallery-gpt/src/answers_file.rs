//! Files of a model's answers, each with the model and the settings that generated it.

use std::{
    collections::{BTreeSet, HashMap},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    AnswersError, GalleryError, GalleryGpt,
    eval::{EvalError, JsonLinesFile},
    model::GenerationConfig,
};

/// The field of an answer that holds the model and the settings.
const WRITTEN_BY: &str = "written_by";

/// Files beside the weights that influence answers.
const COMPANIONS: [&str; 8] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "qwen.tiktoken",
];

/// Files that an adapter's folder may contain.
const ADAPTER: [&str; 5] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "non_lora_trainables.bin",
    "mm_projector.bin",
];

/// What generates an answer: fingerprints of the model and its adapter, the question if it is the
/// same for all answers, and the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenBy(Map<String, Value>);

impl WrittenBy {
    /// Adds the question of all answers.
    #[must_use]
    pub fn with_question(mut self, question: &str) -> Self {
        self.0.insert("question".to_owned(), question.into());
        self
    }

    /// A hash of it, 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hexadecimal(&Sha256::digest(json!(self.0).to_string()), 64)
    }
}

/// The first difference: its name, and both values.
fn difference(
    there: &Map<String, Value>,
    here: &Map<String, Value>,
) -> Option<(String, String, String)> {
    let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    names.into_iter().find_map(|name| {
        let (then, now) = (there.get(name), here.get(name));
        if let (Some(Value::Object(then)), Some(Value::Object(now))) = (then, now) {
            return difference(then, now);
        }
        let say = |value: Option<&Value>| match value {
            None | Some(Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        (then != now).then(|| (name.clone(), say(then), say(now)))
    })
}

impl GalleryGpt {
    /// What generates answers with these settings. Reads the files of the adapter.
    ///
    /// # Errors
    /// A file of the model cannot be read.
    pub fn written_by(&self, config: &GenerationConfig) -> Result<WrittenBy, GalleryError> {
        let report = self.report();
        let mut base = Sha256::new();
        base.update(json!([report.fingerprint, report.tower.fingerprint]).to_string());
        hash_files(&mut base, &report.folder, &COMPANIONS)?;
        let adapter = self.adapter_path().map(|path| {
            let mut adapter = Sha256::new();
            match (
                path.parent(),
                path.file_name().and_then(|name| name.to_str()),
            ) {
                (Some(folder), Some(name)) if path.is_file() => {
                    hash_files(&mut adapter, folder, &[name])?;
                }
                _ => hash_files(&mut adapter, path, &ADAPTER)?,
            }
            Ok::<_, GalleryError>(hexadecimal(&adapter.finalize(), 16))
        });
        let settings = [
            ("template", json!(self.template().to_string())),
            (
                "image_aspect_ratio",
                json!(self.processor().config().aspect_ratio.to_string()),
            ),
            (
                "apply_orientation",
                json!(self.processor().config().apply_orientation),
            ),
            ("dtype", json!(format!("{:?}", self.model().dtype()))),
            (
                "load_8bit",
                json!(self.model().language_model.is_quantized()),
            ),
        ];
        let mut settings: Map<String, Value> = settings
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
        #[cfg(feature = "flex")]
        for (format, _) in self.block_formats() {
            if let Some(format) = format {
                settings.insert(format.name().to_owned(), true.into());
            }
        }
        let off = said(&GenerationConfig::greedy(0));
        // Settings that are off are left out.
        let said = said(config).into_iter().zip(off);
        let said = said.filter(|(here, off)| here != off).map(|(here, _)| here);
        settings.extend(said.map(|(name, value)| (name.to_owned(), value)));
        let mut by = Map::new();
        by.insert("base".to_owned(), hexadecimal(&base.finalize(), 16).into());
        by.insert("adapter".to_owned(), json!(adapter.transpose()?));
        by.insert("settings".to_owned(), settings.into());
        Ok(WrittenBy(by))
    }
}

/// The settings of a generation that its answers depend on.
fn said(config: &GenerationConfig) -> [(&'static str, Value); 12] {
    [
        ("max_new_tokens", config.max_new_tokens.into()),
        ("temperature", decimal(config.temperature)),
        ("top_k", config.top_k.into()),
        ("top_p", decimal(config.top_p)),
        ("repetition_penalty", decimal(config.repetition_penalty)),
        ("no_repeat_ngram_size", config.no_repeat_ngram_size.into()),
        ("num_beams", config.num_beams.into()),
        ("length_penalty", decimal(config.length_penalty)),
        (
            "early_stopping",
            format!("{:?}", config.early_stopping).into(),
        ),
        ("stop_ids", json!(config.stop_ids)),
        ("stop_strings", json!(config.stop_strings)),
        ("seed", config.seed.into()),
    ]
}

/// The number as it was written: 0.2, and not the digits of the nearest `f32`.
fn decimal(number: f32) -> Value {
    let written = number.to_string();
    written.parse::<f64>().map_or(Value::Null, Value::from)
}

fn hexadecimal(digest: &[u8], digits: usize) -> String {
    let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// Hashes the existing files of a folder, with their names.
fn hash_files(hash: &mut Sha256, folder: &Path, names: &[&str]) -> Result<(), GalleryError> {
    for name in names {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        hash.update(name);
        let mut read = || {
            let mut file = std::fs::File::open(&path)?;
            let mut part = vec![0; 1 << 20];
            loop {
                match file.read(&mut part)? {
                    0 => return Ok(()),
                    bytes => hash.update(&part[..bytes]),
                }
            }
        };
        read().map_err(|source| EvalError::Read { path, source })?;
    }
    Ok(())
}

/// A JSON-lines file of answers that an interrupted run resumes, with the same model, adapter,
/// question and settings only.
#[derive(Debug)]
pub struct AnswersFile {
    lines: Lines,
    key: &'static str,
    written_by: WrittenBy,
    /// Answers by the key's value as JSON.
    done: HashMap<String, Map<String, Value>>,
}

enum Lines {
    File(JsonLinesFile),
    Stream(PathBuf, Box<dyn Write>),
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Stream(path, _) => f.debug_tuple("Stream").field(path).finish(),
        }
    }
}

impl AnswersFile {
    /// Opens a file to resume it, or creates it. `key` is the field that identifies an answer.
    ///
    /// # Errors
    /// The file cannot be read or written, or contains other things than answers of the same
    /// origin.
    pub fn resume(
        path: impl Into<PathBuf>,
        key: &'static str,
        written_by: WrittenBy,
    ) -> Result<Self, AnswersError> {
        let (file, found) = JsonLinesFile::resume(path)?;
        let mut done = HashMap::with_capacity(found.len());
        for (line, answer) in found {
            let path = || file.path().to_owned();
            let missing = |expected| AnswersError::NoAnswer {
                path: path(),
                line,
                expected,
            };
            let by = answer.get(WRITTEN_BY).and_then(Value::as_object);
            let by = by.ok_or_else(|| missing(WRITTEN_BY))?;
            let about = answer.get(key).ok_or_else(|| missing(key))?.to_string();
            if let Some((what, then, now)) = difference(by, &written_by.0) {
                return Err(AnswersError::Other {
                    path: path(),
                    line,
                    what,
                    then,
                    now,
                });
            }
            done.insert(about, answer);
        }
        Ok(Self {
            lines: Lines::File(file),
            key,
            written_by,
            done,
        })
    }

    /// Writes answers to a stream, such as a pipe or a terminal. `name` is its name in errors.
    pub fn stream(
        name: impl Into<PathBuf>,
        writer: impl Write + 'static,
        key: &'static str,
        written_by: WrittenBy,
    ) -> Self {
        Self {
            lines: Lines::Stream(name.into(), Box::new(writer)),
            key,
            written_by,
            done: HashMap::new(),
        }
    }

    /// The answer with this key, if the file has it.
    #[must_use]
    pub fn done(&self, about: &Value) -> Option<&Map<String, Value>> {
        self.done.get(&about.to_string())
    }

    /// Checks that a field of the answer with this key, if there is one, has the present value.
    ///
    /// # Errors
    /// The field has another value.
    pub fn ensure_same(&self, about: &Value, field: &str, now: &Value) -> Result<(), AnswersError> {
        let then = self.done(about).and_then(|answer| answer.get(field));
        match (&self.lines, then) {
            (Lines::File(file), Some(then)) if then != now => Err(AnswersError::Changed {
                path: file.path().to_owned(),
                about: about.to_string(),
                field: field.to_owned(),
                then: then.to_string(),
                now: now.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Appends an answer, an object with the key, and syncs it to the disk. The model and the
    /// settings are added.
    ///
    /// # Errors
    /// The file cannot be written, or the stream was closed.
    pub fn push(&mut self, mut answer: Map<String, Value>) -> Result<(), AnswersError> {
        answer.insert(WRITTEN_BY.to_owned(), json!(self.written_by.0));
        let line = json!(answer);
        match &mut self.lines {
            Lines::File(file) => file.push(&line)?,
            Lines::Stream(path, writer) => {
                let written = writeln!(writer, "{line}").and_then(|()| writer.flush());
                written.map_err(|source| EvalError::Write {
                    path: path.clone(),
                    source,
                })?;
            }
        }
        if let Some(about) = answer.get(self.key) {
            self.done.insert(about.to_string(), answer);
        }
        Ok(())
    }
}
