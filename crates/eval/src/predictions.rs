//! What a system says about the paintings of a test set, in a file of any system.
//!
//! JSON lines, or an array, of objects: `image` (or `id`, `question_id`, `index`) names the painting, `text` (or `prediction`, `answer`,
//! `formal_analysis`) is what was said. LLaVA's answer files are read as they are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gallery_gpt_data::TestPainting;
use serde_json::{Value, json};

use crate::{EvalError, JsonLinesFile};

const NAMES: [&str; 4] = ["image", "id", "question_id", "index"];
const TEXTS: [&str; 4] = ["text", "prediction", "answer", "formal_analysis"];

/// Longest text that is scored, in bytes: a hundred times an analysis of 200 words.
pub const LONGEST: usize = 128 * 1024;

/// Texts by the name of their painting, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    entries: Vec<(String, String)>,
}

/// A prediction that is not scored, or a painting without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The painting's name.
    pub name: String,
    /// Why.
    pub cause: ExclusionCause,
}

/// Why a prediction is not scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExclusionCause {
    /// The painting has no prediction.
    Missing,
    /// The text is empty or blank.
    Empty,
    /// The painting has two.
    Repeated,
    /// The test set has no such painting.
    Unknown,
    /// The text is longer than [`LONGEST`].
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.cause {
            ExclusionCause::Missing => write!(f, "no prediction"),
            ExclusionCause::Empty => write!(f, "an empty prediction"),
            ExclusionCause::Repeated => write!(f, "a second prediction"),
            ExclusionCause::Unknown => write!(f, "the test set has no such painting"),
            ExclusionCause::TooLong { bytes } => {
                write!(f, "a prediction of {bytes} bytes, more than {LONGEST}")
            }
        }
    }
}

/// What to do about predictions that cannot be scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnscorable {
    /// Refuse the file.
    #[default]
    Fail,
    /// Leave them out, and list them.
    Exclude,
}

/// The name by which predictions mean a painting.
#[must_use]
pub fn painting_name(painting: &TestPainting) -> String {
    painting
        .image
        .clone()
        .unwrap_or_else(|| painting.index.to_string())
}

impl Predictions {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or holds something else than predictions.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| EvalError::Read {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |place: String, expected, found: String| EvalError::Predictions {
            path: path.to_owned(),
            place,
            expected,
            found,
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            wrong(
                format!("line {line}"),
                "UTF-8",
                "another encoding; convert the file".to_owned(),
            )
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let mut entries = Vec::new();
        if text.trim_start().starts_with('[') {
            let records: Vec<Value> = serde_json::from_str(text).map_err(|error| {
                wrong(
                    format!("line {}", error.line()),
                    "an array",
                    error.to_string(),
                )
            })?;
            for (index, record) in records.iter().enumerate() {
                entries.push(entry(record).map_err(|(expected, found)| {
                    wrong(format!("record {index}"), expected, found)
                })?);
            }
        } else {
            for (number, line) in text.lines().enumerate() {
                if line.trim().is_empty() {
                    continue;
                }
                let place = || format!("line {}", number + 1);
                let record: Value = serde_json::from_str(line)
                    .map_err(|error| wrong(place(), "a JSON object", error.to_string()))?;
                entries.push(
                    entry(&record).map_err(|(expected, found)| wrong(place(), expected, found))?,
                );
            }
        }
        Ok(Self { entries })
    }

    /// Texts by the name of their painting.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.entries.iter();
        entries.map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Adds one.
    pub fn push(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.entries.push((name.into(), text.into()));
    }

    /// The text of every painting of a test set, nothing where it is excluded; and the exclusions. `source` names the predictions
    /// in an error.
    ///
    /// # Errors
    /// Something cannot be scored and should not be left out, or nothing can be.
    pub fn align(
        &self,
        paintings: &[TestPainting],
        source: &str,
        on_unscorable: OnUnscorable,
    ) -> Result<(Vec<Option<String>>, Vec<Exclusion>), EvalError> {
        let places: BTreeMap<String, usize> = paintings
            .iter()
            .enumerate()
            .map(|(at, painting)| (painting_name(painting), at))
            .collect();
        let mut texts: Vec<Option<&str>> = vec![None; paintings.len()];
        let mut exclusions = Vec::new();
        let mut exclude = |name: &str, cause| {
            let name = name.to_owned();
            exclusions.push(Exclusion { name, cause });
        };
        for (name, text) in self.iter() {
            // `images/7.png` and `7.png` are the same picture.
            let short = name.rsplit('/').next().unwrap_or(name);
            match places.get(name).or_else(|| places.get(short)) {
                None => exclude(name, ExclusionCause::Unknown),
                Some(&at) if texts[at].is_some() => exclude(name, ExclusionCause::Repeated),
                Some(&at) => texts[at] = Some(text),
            }
        }
        let mut aligned = Vec::with_capacity(paintings.len());
        for (painting, text) in paintings.iter().zip(texts) {
            let cause = match text {
                None => Some(ExclusionCause::Missing),
                Some(text) if text.trim().is_empty() => Some(ExclusionCause::Empty),
                Some(text) if text.len() > LONGEST => {
                    Some(ExclusionCause::TooLong { bytes: text.len() })
                }
                Some(_) => None,
            };
            if let Some(cause) = cause {
                exclude(&painting_name(painting), cause);
            }
            aligned.push(text.filter(|_| cause.is_none()).map(str::to_owned));
        }
        if on_unscorable == OnUnscorable::Fail && !exclusions.is_empty() {
            return Err(EvalError::Unscorable {
                path: source.to_owned(),
                exclusions,
            });
        }
        if aligned.iter().all(Option::is_none) {
            return Err(EvalError::Nothing {
                path: source.to_owned(),
            });
        }
        Ok((aligned, exclusions))
    }
}

fn entry(record: &Value) -> Result<(String, String), (&'static str, String)> {
    let field = |names: [&str; 4]| names.iter().find_map(|name| record.get(name));
    let name = match field(NAMES) {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Number(number)) => number.to_string(),
        other => return Err(("a field image, id, question_id or index", found(other))),
    };
    match field(TEXTS) {
        Some(Value::String(text)) => Ok((name, text.clone())),
        other => Err((
            "a field text, prediction, answer or formal_analysis",
            format!("{} for {name}", found(other)),
        )),
    }
}

fn found(value: Option<&Value>) -> String {
    match value {
        None => "none",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
    .to_owned()
}

/// A file of predictions that grows as they are made, so that a broken run goes on where it stopped.
#[derive(Debug)]
pub struct PredictionsFile {
    lines: JsonLinesFile,
    done: Predictions,
}

impl PredictionsFile {
    /// Opens a file, with what is in it already. A last line that was cut off is removed.
    ///
    /// # Errors
    /// It cannot be read or written, or holds something else than predictions.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, EvalError> {
        let lines = JsonLinesFile::resume(path)?;
        let done = Predictions::load(lines.path())?;
        Ok(Self { lines, done })
    }

    /// What is in it.
    #[must_use]
    pub fn done(&self) -> &Predictions {
        &self.done
    }

    /// Whether a painting has its text.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.done.iter().any(|(done, _)| done == name)
    }

    /// Writes a text through to the disk.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn push(&mut self, name: &str, text: &str) -> Result<(), EvalError> {
        self.lines.push(&json!({ "image": name, "text": text }))?;
        self.done.push(name, text);
        Ok(())
    }
}
