//! Predictions: a system's texts about the paintings of a test set, read from the usual file
//! formats.
//!
//! JSON lines or an array of objects: one of [`NAMES`] names the painting, one of [`TEXTS`] is the
//! text. LLaVA's answer files and COCO's results have this form. A single object that maps names to
//! texts is read too, each text alone or as the only one of a list.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gallery_gpt_data::TestPainting;
use serde_json::{Value, json};

use crate::{EvalError, JsonLinesFile};

/// Fields that name the painting; the first one present is used.
pub const NAMES: [&str; 7] = [
    "image",
    "file_name",
    "image_id",
    "id",
    "question_id",
    "index",
    "name",
];

/// Fields that hold the text; the first one present is used.
pub const TEXTS: [&str; 8] = [
    "text",
    "caption",
    "prediction",
    "answer",
    "formal_analysis",
    "response",
    "output",
    "generated_text",
];

/// Maximum size of a scored text in bytes: a hundred times an analysis of 200 words.
pub const LONGEST: usize = 128 * 1024;

/// Texts by the name of their painting, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    entries: Vec<(String, String)>,
}

/// A prediction that is not scored, or a painting without a prediction.
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
    /// The painting has two predictions.
    Repeated,
    /// The test set has no such painting.
    Unknown,
    /// The text is longer than [`LONGEST`].
    TooLong {
        /// Its size in bytes.
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
    /// Reject the file.
    #[default]
    Fail,
    /// Exclude them, and list them.
    Exclude,
}

/// How the names of predictions are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Names of pictures.
    Pictures,
    /// Numbers that are names of pictures without the extension: 7 is `7.png`.
    Stems,
    /// Numbers that are indices in the test set, from 0.
    Places,
}

/// The name of a painting in predictions.
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
    /// It cannot be read, is not UTF-8, or does not contain predictions.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| EvalError::Read {
            path: path.to_owned(),
            source,
        })?;
        let wrong = wrong_in(path);
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
        if let Some(by_name) = one_object(text) {
            for (name, value) in by_name {
                let text = text_alone(&value).ok_or_else(|| {
                    wrong(
                        format!("key `{name}`"),
                        "the text of the painting of that name, in a file that is one object",
                        found(Some(&value)),
                    )
                })?;
                entries.push((name, text.to_owned()));
            }
        } else if text.trim_start().starts_with('[') {
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

    /// Adds a prediction.
    pub fn push(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.entries.push((name.into(), text.into()));
    }

    /// The text of every painting of a test set, `None` if it is excluded; and the exclusions.
    /// `source` names the predictions in errors.
    ///
    /// A name is that of a painting's picture, with or without its folder and its extension.
    /// Numbers that are not such names are indices in the test set ([`Predictions::naming`]).
    ///
    /// # Errors
    /// A prediction cannot be scored and `on_unscorable` is [`OnUnscorable::Fail`], or none can be.
    pub fn align(
        &self,
        paintings: &[TestPainting],
        source: &str,
        on_unscorable: OnUnscorable,
    ) -> Result<(Vec<Option<String>>, Vec<Exclusion>), EvalError> {
        let by_name = Places::new(paintings, self.naming(paintings) == Naming::Places);
        let mut texts: Vec<Option<&str>> = vec![None; paintings.len()];
        let mut exclusions = Vec::new();
        let mut exclude = |name: &str, cause| {
            let name = name.to_owned();
            exclusions.push(Exclusion { name, cause });
        };
        for (name, text) in self.iter() {
            match by_name.get(name) {
                None => exclude(name, ExclusionCause::Unknown),
                Some(at) if texts[at].is_some() => exclude(name, ExclusionCause::Repeated),
                Some(at) => texts[at] = Some(text),
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
            let names = self.entries.iter().map(|(name, _)| name.clone());
            return Err(EvalError::Nothing {
                path: source.to_owned(),
                names: names.take(3).collect(),
                paintings: paintings.iter().take(3).map(painting_name).collect(),
            });
        }
        Ok((aligned, exclusions))
    }

    /// How the names are interpreted. Callers should tell users how numbers are interpreted, as a
    /// file in another order would get other scores.
    #[must_use]
    pub fn naming(&self, paintings: &[TestPainting]) -> Naming {
        let by_name = Places::new(paintings, false);
        let all = |is_so: &dyn Fn(&str) -> bool| self.entries.iter().all(|(name, _)| is_so(name));
        if self.entries.is_empty() || !all(&|name| name.parse::<usize>().is_ok()) {
            Naming::Pictures
        } else if all(&|name| by_name.get(name).is_none()) {
            Naming::Places
        } else if all(&|name| !by_name.names.contains_key(name)) {
            Naming::Stems
        } else {
            Naming::Pictures
        }
    }

    /// Replaces each name, a `question_id`, by the picture of that question in a file of questions,
    /// such as LLaVA's.
    ///
    /// # Errors
    /// A line is not a question with `question_id` and `image`, or the question of an answer is
    /// missing.
    pub fn with_questions(mut self, path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| EvalError::Read {
            path: path.to_owned(),
            source,
        })?;
        let wrong = wrong_in(path);
        let mut pictures = BTreeMap::new();
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("line {}", number + 1);
            let question: Value = serde_json::from_str(line)
                .map_err(|error| wrong(place(), "a JSON object", error.to_string()))?;
            let id = question.get("question_id").and_then(name_of);
            let image = question.get("image").and_then(name_of);
            let (Some(id), Some(image)) = (id, image) else {
                let found = found(Some(&question));
                return Err(wrong(place(), "fields question_id and image", found));
            };
            pictures.insert(id, image);
        }
        for (name, _) in &mut self.entries {
            let image = pictures.get(name).ok_or_else(|| {
                wrong(
                    format!("question_id {name}"),
                    "the question of every answer",
                    "none".to_owned(),
                )
            })?;
            name.clone_from(image);
        }
        Ok(self)
    }
}

/// Makes the error of a malformed place of a file.
fn wrong_in(path: &Path) -> impl Fn(String, &'static str, String) -> EvalError + '_ {
    |place, expected, found| EvalError::Predictions {
        path: path.to_owned(),
        place,
        expected,
        found,
    }
}

/// Indices of the paintings of a test set, by their possible names.
struct Places {
    names: BTreeMap<String, usize>,
    /// Names without folder and extension; `None` if two paintings share one.
    stems: BTreeMap<String, Option<usize>>,
    numbers: Option<usize>,
}

impl Places {
    fn new(paintings: &[TestPainting], numbers_are_places: bool) -> Self {
        let mut places = Self {
            names: BTreeMap::new(),
            stems: BTreeMap::new(),
            numbers: numbers_are_places.then_some(paintings.len()),
        };
        for (at, painting) in paintings.iter().enumerate() {
            let name = painting_name(painting);
            if painting.image.is_some() {
                let shared = places.stems.entry(stem(&name).to_owned());
                shared.and_modify(|at| *at = None).or_insert(Some(at));
            }
            places.names.insert(name, at);
        }
        places
    }

    fn get(&self, name: &str) -> Option<usize> {
        if let Some(count) = self.numbers {
            return name.parse().ok().filter(|at| *at < count);
        }
        // `images/7.png` and `7.png` are the same picture.
        let short = file_name(name);
        let named = self.names.get(name).or_else(|| self.names.get(short));
        let stem = || self.stems.get(stem(name)).copied().flatten();
        named.copied().or_else(stem)
    }
}

fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn stem(name: &str) -> &str {
    let name = file_name(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The entries of a file that is a single object of texts by name; `None` for any other file, also
/// one with a single record.
fn one_object(text: &str) -> Option<serde_json::Map<String, Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return None;
    };
    let is_field = |key: &str| NAMES.contains(&key) || TEXTS.contains(&key);
    (!object.keys().any(|key| is_field(key))).then_some(object)
}

/// A text, or the only text of a list, as captioning tools write it.
fn text_alone(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(texts) => match texts.as_slice() {
            [Value::Object(record)] => record.get("caption")?.as_str(),
            [text] => text.as_str(),
            _ => None,
        },
        _ => None,
    }
}

fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn entry(record: &Value) -> Result<(String, String), (&'static str, String)> {
    let mut names = NAMES.iter().filter_map(|name| record.get(name));
    let Some(name) = names.clone().find_map(name_of) else {
        let expected = "a field image, file_name, image_id, id, question_id, index or name";
        return Err((expected, found(names.next())));
    };
    match TEXTS.iter().find_map(|name| record.get(name)) {
        Some(Value::String(text)) => Ok((name, text.clone())),
        other => Err((
            "a field text, caption, prediction, answer, formal_analysis, response, output or generated_text",
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

/// A file of predictions that a run appends to, so that an interrupted run can resume.
#[derive(Debug)]
pub struct PredictionsFile {
    lines: JsonLinesFile,
    done: Predictions,
}

impl PredictionsFile {
    /// Opens a file with its predictions so far. An incomplete last line does not count.
    ///
    /// # Errors
    /// It cannot be read or written, or does not contain predictions.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, EvalError> {
        let (lines, found) = JsonLinesFile::resume(path)?;
        let mut done = Predictions::default();
        for (line, object) in found {
            let (name, text) =
                entry(&object.into()).map_err(|(expected, found)| EvalError::Predictions {
                    path: lines.path().to_owned(),
                    place: format!("line {line}"),
                    expected,
                    found,
                })?;
            done.push(name, text);
        }
        Ok(Self { lines, done })
    }

    /// The predictions in the file.
    #[must_use]
    pub fn done(&self) -> &Predictions {
        &self.done
    }

    /// Whether the file has the text of a painting.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.done.iter().any(|(done, _)| done == name)
    }

    /// Appends a text and syncs it to the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, name: &str, text: &str) -> Result<(), EvalError> {
        self.lines.push(&json!({ "image": name, "text": text }))?;
        self.done.push(name, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painting(index: usize, image: &str) -> TestPainting {
        TestPainting {
            index,
            image: Some(image.to_owned()),
            references: vec!["a".to_owned()],
        }
    }

    fn load(text: &str) -> Result<Predictions, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.json");
        std::fs::write(&path, text).unwrap();
        Predictions::load(path)
    }

    fn aligned(text: &str, images: [&str; 2]) -> Result<Vec<Option<String>>, EvalError> {
        let paintings = [painting(0, images[0]), painting(1, images[1])];
        let predictions = load(text)?;
        let aligned = predictions.align(&paintings, "file", OnUnscorable::Fail);
        aligned.map(|(texts, _)| texts)
    }

    #[test]
    fn files_of_many_tools_mean_the_same() {
        let texts = [Some("A".to_owned()), Some("B".to_owned())];
        for file in [
            r#"[{"image": "images/x.jpg", "text": "A"}, {"image": "y.jpg", "text": "B"}]"#,
            "{\"image_id\": 0, \"caption\": \"A\"}\n{\"image_id\": 1, \"caption\": \"B\"}\n",
            r#"[{"file_name": "x.jpg", "caption": "A"}, {"file_name": "y.jpg", "caption": "B"}]"#,
            "{\"question_id\": 1, \"prompt\": \"?\", \"text\": \"B\"}\n{\"question_id\": 0, \"text\": \"A\"}",
            "{\"question_id\": 7, \"image\": \"y.jpg\", \"text\": \"B\"}\n{\"question_id\": 0, \"image\": \"x.jpg\", \"text\": \"A\"}",
            "{\n \"y.jpg\": \"B\",\n \"x.jpg\": \"A\"\n}\n",
            r#"{"x": ["A"], "y": [{"caption": "B"}]}"#,
            r#"[{"image": "art\\x.png", "text": "A"}, {"image": "y", "text": "B"}]"#,
        ] {
            let found = aligned(file, ["x.jpg", "y.jpg"]);
            assert_eq!(found.unwrap(), texts, "{file}");
        }
        let one = r#"{"image": "x.jpg", "text": "A"}"#;
        assert_eq!(load(one).unwrap().iter().count(), 1);
    }

    #[test]
    fn numbers_are_names_of_pictures_before_they_are_places() {
        let file = "{\"id\": 1, \"text\": \"A\"}\n{\"id\": 0, \"text\": \"B\"}";
        let texts = [Some("A".to_owned()), Some("B".to_owned())];
        assert_eq!(aligned(file, ["1.png", "0.png"]).unwrap(), texts);
        let paintings = [painting(0, "1.png"), painting(1, "0.png")];
        assert_eq!(load(file).unwrap().naming(&paintings), Naming::Stems);
        let paintings = [painting(0, "a.png"), painting(1, "b.png")];
        assert_eq!(load(file).unwrap().naming(&paintings), Naming::Places);
        // Indices from 1 are rejected, not shifted: the last is out of range.
        let shifted = "{\"id\": 1, \"text\": \"A\"}\n{\"id\": 2, \"text\": \"B\"}";
        let error = aligned(shifted, ["a.png", "b.png"]).unwrap_err();
        assert!(matches!(error, EvalError::Unscorable { .. }), "{error}");
    }

    #[test]
    fn questions_say_which_picture_an_answer_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.jsonl");
        let questions = "{\"question_id\": 0, \"image\": \"y.jpg\", \"text\": \"?\"}\n{\"question_id\": 1, \"image\": \"x.jpg\", \"text\": \"?\"}\n";
        std::fs::write(&path, questions).unwrap();
        let file = "{\"question_id\": 0, \"text\": \"B\"}\n{\"question_id\": 1, \"text\": \"A\"}";
        let named = load(file).unwrap().with_questions(&path).unwrap();
        assert_eq!(
            named.iter().collect::<Vec<_>>(),
            [("y.jpg", "B"), ("x.jpg", "A")]
        );
        let other = load("{\"question_id\": 5, \"text\": \"B\"}").unwrap();
        let error = other.with_questions(&path).unwrap_err().to_string();
        assert!(error.contains("question_id 5"), "{error}");
    }

    #[test]
    fn an_object_that_is_no_texts_by_name_is_told() {
        let error = load(r#"{"x.jpg": {"score": 1}}"#).unwrap_err().to_string();
        assert!(
            error.contains("key `x.jpg`") && error.contains("one object"),
            "{error}"
        );
        let error = aligned(r#"{"q.jpg": "A"}"#, ["x.jpg", "y.jpg"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("q.jpg"), "{error}");
    }
}
