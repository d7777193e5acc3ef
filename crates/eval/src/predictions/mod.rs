//! Predictions: a system's texts about the paintings of a test set, read from the usual file
//! formats.
//!
//! JSON lines or an array of objects: one of [`NAMES`] names the painting, one of [`TEXTS`] is the
//! text. LLaVA's answer files and COCO's results have this form. A single object that maps names to
//! texts is read too, each text alone or as the only one of a list.

mod file;
mod names;
mod read;

use gallery_gpt_data::TestPainting;

pub use file::PredictionsFile;
use names::Indices;
pub use names::{Naming, painting_name};

use crate::{EvalError, Exclusion, ExclusionCause, MAX_PREDICTION_BYTES};

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

/// Texts by the name of their painting, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    entries: Vec<(String, String)>,
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

impl Predictions {
    /// Texts by the name of their painting.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.entries.iter();
        entries.map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Adds a prediction.
    pub fn push(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.entries.push((name.into(), text.into()));
    }

    /// The same with every text replaced by what `map` makes of it.
    #[must_use]
    pub fn map_texts(mut self, mut map: impl FnMut(String) -> String) -> Self {
        for (_, text) in &mut self.entries {
            *text = map(std::mem::take(text));
        }
        self
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
        let by_name = Indices::new(paintings, self.naming(paintings) == Naming::Indices);
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
                Some(text) if text.len() > MAX_PREDICTION_BYTES => {
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
        let by_name = Indices::new(paintings, false);
        let all = |is_so: &dyn Fn(&str) -> bool| self.entries.iter().all(|(name, _)| is_so(name));
        if self.entries.is_empty() || !all(&|name| name.parse::<usize>().is_ok()) {
            Naming::Pictures
        } else if all(&|name| by_name.get(name).is_none()) {
            Naming::Indices
        } else if all(&|name| !by_name.names.contains_key(name)) {
            Naming::Stems
        } else {
            Naming::Pictures
        }
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
    fn files_of_different_tools_give_the_same_predictions() {
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
    fn numbers_are_file_names_before_they_are_indices() {
        let file = "{\"id\": 1, \"text\": \"A\"}\n{\"id\": 0, \"text\": \"B\"}";
        let texts = [Some("A".to_owned()), Some("B".to_owned())];
        assert_eq!(aligned(file, ["1.png", "0.png"]).unwrap(), texts);
        let paintings = [painting(0, "1.png"), painting(1, "0.png")];
        assert_eq!(load(file).unwrap().naming(&paintings), Naming::Stems);
        let paintings = [painting(0, "a.png"), painting(1, "b.png")];
        assert_eq!(load(file).unwrap().naming(&paintings), Naming::Indices);
        // Indices from 1 are rejected, not shifted: the last is out of range.
        let shifted = "{\"id\": 1, \"text\": \"A\"}\n{\"id\": 2, \"text\": \"B\"}";
        let error = aligned(shifted, ["a.png", "b.png"]).unwrap_err();
        assert!(matches!(error, EvalError::Unscorable { .. }), "{error}");
    }

    #[test]
    fn questions_give_the_pictures_of_answers() {
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
    fn an_object_without_texts_by_name_is_rejected() {
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
