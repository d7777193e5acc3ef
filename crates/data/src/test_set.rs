//! The test files of PaintingForm, both generations.
//!
//! The current ones are arrays of `{image, formal_analysis}`; the first ones hold one object per line with
//! `gemini_formal` (under that name in the GPT file too). Files of several writers are aligned record by record.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    BadRecord, DatasetError, RecordError,
    painting_form::{id_text, json_array, kind, stays_inside},
};

/// One text about a painting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The picture's file name, if the file has one (the first generation has none).
    pub image: Option<String>,
    /// The formal analysis.
    pub text: String,
}

/// A painting with its references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestPainting {
    /// Zero-based record.
    pub index: usize,
    /// The picture's file name, if a file has one.
    pub image: Option<String>,
    /// One text per file.
    pub references: Vec<String>,
}

/// A test set.
#[derive(Debug, Default)]
pub struct TestSet {
    /// Paintings whose every reference is usable.
    pub paintings: Vec<TestPainting>,
    /// Records that are not, each with its cause.
    pub bad: Vec<BadRecord>,
}

impl TestSet {
    /// Reads one or several aligned files.
    ///
    /// # Errors
    /// A file cannot be read or is no test file, or the files do not belong together.
    pub fn load(paths: &[PathBuf]) -> Result<Self, DatasetError> {
        let mut set = Self::default();
        let mut columns: Vec<Vec<Option<Reference>>> = Vec::new();
        for path in paths {
            let bytes = std::fs::read(path).map_err(|source| DatasetError::Read {
                path: path.clone(),
                source,
            })?;
            let mut column = Vec::new();
            for (index, record) in references(path, &bytes)?.into_iter().enumerate() {
                match record {
                    Ok(reference) => column.push(Some(reference)),
                    Err((id, cause)) => {
                        set.bad.push(BadRecord { index, id, cause });
                        column.push(None);
                    }
                }
            }
            if let Some(first) = columns.first()
                && first.len() != column.len()
            {
                return Err(DatasetError::NotAligned {
                    path: path.clone(),
                    found: column.len(),
                    first: paths[0].clone(),
                    expected: first.len(),
                });
            }
            columns.push(column);
        }
        let count = columns.first().map_or(0, Vec::len);
        for index in 0..count {
            let mut image: Option<(usize, String)> = None;
            let mut references = Vec::new();
            for (number, column) in columns.iter().enumerate() {
                let Some(reference) = &column[index] else {
                    continue;
                };
                match (&image, &reference.image) {
                    (Some((first, expected)), Some(found)) if expected != found => {
                        return Err(DatasetError::DifferentPictures {
                            index,
                            path: paths[number].clone(),
                            found: found.clone(),
                            first: paths[*first].clone(),
                            expected: expected.clone(),
                        });
                    }
                    (None, Some(found)) => image = Some((number, found.clone())),
                    _ => {}
                }
                references.push(reference.text.clone());
            }
            if references.len() == columns.len() {
                set.paintings.push(TestPainting {
                    index,
                    image: image.map(|(_, image)| image),
                    references,
                });
            }
        }
        if set.paintings.is_empty() {
            return Err(DatasetError::NothingUsable {
                path: paths.first().cloned().unwrap_or_default(),
                bad: set.bad.len(),
                first: set
                    .bad
                    .first()
                    .map(|bad| format!("; the first: {bad}"))
                    .unwrap_or_default(),
            });
        }
        Ok(set)
    }
}

type ReferenceOrCause = Result<Reference, (String, RecordError)>;

fn references(path: &Path, bytes: &[u8]) -> Result<Vec<ReferenceOrCause>, DatasetError> {
    let starts_with = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if starts_with == Some(&b'{') {
        let text = std::str::from_utf8(bytes).map_err(|error| DatasetError::Malformed {
            path: path.to_owned(),
            expected: "one JSON object per line",
            found: error.to_string(),
        })?;
        return Ok(text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| reference(line, "gemini_formal"))
            .collect());
    }
    Ok(json_array(path, bytes)?
        .into_iter()
        .map(|raw| reference(raw.get(), "formal_analysis"))
        .collect())
}

fn reference(json: &str, field: &'static str) -> ReferenceOrCause {
    let schema = |expected, found| RecordError::Schema { expected, found };
    let value: Value = serde_json::from_str(json).map_err(|error| {
        (
            "none".to_owned(),
            schema("a JSON object", error.to_string()),
        )
    })?;
    let id = id_text(&value);
    let image = value
        .get("image")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(image) = image.as_ref().filter(|image| !stays_inside(image)) {
        return Err((
            id,
            RecordError::Path {
                path: image.clone(),
            },
        ));
    }
    let text = value
        .get(field)
        .or_else(|| value.get("formal_analysis"))
        .or_else(|| value.get("gemini_formal"));
    match text {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Reference {
            image,
            text: text.trim().to_owned(),
        }),
        Some(Value::String(_)) => Err((id, schema("a text", "an empty one".to_owned()))),
        other => Err((
            id,
            schema("`formal_analysis` or `gemini_formal`, a text", kind(other)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn both_generations_are_read_and_aligned() {
        let folder = tempfile::tempdir().unwrap();
        let new =
            r#"[{"image":"1.png","formal_analysis":"A"},{"image":"2.png","formal_analysis":"B"}]"#;
        let old = "{\"id\":1,\"gemini_formal\":\"C\"}\n{\"id\":2,\"gemini_formal\":\"D\"}\n";
        let new = write(folder.path(), "new.json", new);
        let old = write(folder.path(), "old.json", old);
        let set = TestSet::load(&[new.clone(), old]).unwrap();
        assert_eq!(set.paintings[1].references, ["B", "D"]);
        assert_eq!(set.paintings[1].image.as_deref(), Some("2.png"));

        let short = write(
            folder.path(),
            "short.json",
            r#"[{"image":"1.png","formal_analysis":"A"}]"#,
        );
        let error = TestSet::load(&[new.clone(), short]).unwrap_err();
        assert!(matches!(error, DatasetError::NotAligned { .. }), "{error}");
        let other =
            r#"[{"image":"1.png","formal_analysis":"A"},{"image":"9.png","formal_analysis":"B"}]"#;
        let other = write(folder.path(), "other.json", other);
        let error = TestSet::load(&[new, other]).unwrap_err();
        assert!(
            matches!(error, DatasetError::DifferentPictures { index: 1, .. }),
            "{error}"
        );
    }
}
