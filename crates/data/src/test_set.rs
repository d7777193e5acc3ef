//! PaintingForm's test files, in both versions of their format.
//!
//! The current version is an array of `{image, formal_analysis}`. The first one has an object per line
//! with `gemini_formal`, in the file of GPT's texts too. Files with texts of different authors are
//! aligned: record N of every file is about the same painting.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    BadRecord, DatasetError, RecordError,
    formats::id_text,
    json::{Element, for_each_element, json_kind, open},
    painting_form::mostly_unusable,
};

/// A painting with its references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestPainting {
    /// Index of its record, from 0.
    pub index: usize,
    /// The picture's file name, if a file has one.
    pub image: Option<String>,
    /// The text of each file, in the order of the files, at least one. Unusable texts are left out
    /// ([`TestSet::incomplete`]).
    pub references: Vec<String>,
}

/// A test set.
#[derive(Debug, Default)]
pub struct TestSet {
    /// Paintings with at least one usable reference.
    pub paintings: Vec<TestPainting>,
    /// Records without a usable reference, each with the cause of its first file.
    pub bad: Vec<BadRecord>,
    /// Unusable references of paintings that have a usable one.
    pub incomplete: Vec<MissingReference>,
}

/// An unusable reference of a painting that has a usable one.
#[derive(Debug, thiserror::Error)]
#[error("{path}, {bad}")]
pub struct MissingReference {
    /// The file.
    pub path: PathBuf,
    /// The record and the cause.
    #[source]
    pub bad: BadRecord,
}

impl TestSet {
    /// Reads one or several aligned files.
    ///
    /// # Errors
    /// A file cannot be read or is not a test file, no painting has a usable reference, or the files
    /// are not aligned.
    pub fn load(paths: &[PathBuf]) -> Result<Self, DatasetError> {
        let mut set = Self::default();
        let mut columns: Vec<Vec<Reference>> = Vec::new();
        for path in paths {
            let column = references(path)?;
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
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        for index in 0..count {
            let mut image: Option<(usize, String)> = None;
            let mut references = Vec::new();
            let mut unusable = Vec::new();
            for (number, column) in columns.iter_mut().enumerate() {
                let Some(reference) = column.next() else {
                    continue;
                };
                match (&image, reference.image) {
                    (Some((first, expected)), Some(found)) if *expected != found => {
                        return Err(DatasetError::DifferentPictures {
                            index,
                            path: paths[number].clone(),
                            found,
                            first: paths[*first].clone(),
                            expected: expected.clone(),
                        });
                    }
                    (None, Some(found)) => image = Some((number, found)),
                    _ => {}
                }
                match reference.text {
                    Ok(text) => references.push(text),
                    Err((id, cause)) => unusable.push(MissingReference {
                        path: paths[number].clone(),
                        bad: BadRecord { index, id, cause },
                    }),
                }
            }
            if references.is_empty() {
                let first = unusable.into_iter().next();
                set.bad.extend(first.map(|missing| missing.bad));
            } else {
                set.incomplete.append(&mut unusable);
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

/// A record of one file.
struct Reference {
    /// The picture's file name, if it has one.
    image: Option<String>,
    /// The text, or the record's id and why the text is unusable.
    text: Result<String, (String, RecordError)>,
}

fn references(path: &Path) -> Result<Vec<Reference>, DatasetError> {
    let mut references = Vec::new();
    let mut bad = 0;
    for_each_element(path, open(path)?, &mut |element| {
        let field = if element.in_array {
            "formal_analysis"
        } else {
            "gemini_formal"
        };
        let read = reference(&element, field);
        bad += usize::from(read.text.is_err());
        let usable = references.len() + 1 - bad;
        match read.text {
            Err((id, cause)) if mostly_unusable(usable, bad) => Err(DatasetError::MostlyUnusable {
                path: path.to_owned(),
                bad,
                records: usable + bad,
                one: Box::new(BadRecord {
                    index: references.len(),
                    id,
                    cause,
                }),
            }),
            text => {
                references.push(Reference { text, ..read });
                Ok(())
            }
        }
    })?;
    Ok(references)
}

fn reference(element: &Element, field: &str) -> Reference {
    let schema = |expected, found| RecordError::Schema { expected, found };
    let value = match element.parse() {
        Ok(value) => value,
        Err(cause) => {
            return Reference {
                image: None,
                text: Err(("none".to_owned(), cause)),
            };
        }
    };
    let id = id_text(&value);
    let image = value
        .get("image")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let text = value
        .get(field)
        .or_else(|| value.get("formal_analysis"))
        .or_else(|| value.get("gemini_formal"));
    let text = match text {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Some(Value::String(_)) => Err((id, schema("a text", "an empty one".to_owned()))),
        other => Err((
            id,
            schema(
                "`formal_analysis` or `gemini_formal`, a text",
                json_kind(other),
            ),
        )),
    };
    Reference { image, text }
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
    fn an_empty_reference_does_not_drop_a_painting() {
        let folder = tempfile::tempdir().unwrap();
        let one = r#"[{"image":"1.png","formal_analysis":"A"},{"image":"2.png","formal_analysis":" "},{"image":"3.png","formal_analysis":""}]"#;
        let two = "{\"gemini_formal\":\"C\"}\n{\"gemini_formal\":\"D\"}\n{\"id\":7}\n";
        let one = write(folder.path(), "one.json", one);
        let two = write(folder.path(), "two.json", two);
        let set = TestSet::load(&[one, two]).unwrap();
        assert_eq!(set.paintings.len(), 2);
        assert_eq!(set.paintings[1].references, ["D"]);
        assert_eq!(set.paintings[1].image.as_deref(), Some("2.png"));
        assert_eq!(set.incomplete.len(), 1);
        let missing = set.incomplete[0].to_string();
        assert!(missing.contains("one.json, record 1"), "{missing}");
        assert_eq!(set.bad.len(), 1);
        assert_eq!(set.bad[0].index, 2);
    }

    #[test]
    fn one_set_is_read_in_every_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let one = r#"{"image":"1.png","score":NaN,"formal_analysis":"A"}"#;
        let two = r#"{"image":"/pictures/2.png","formal_analysis":"B"}"#;
        let array = format!("\u{FEFF}[{one},\n{two}]");
        let utf16: Vec<u8> = array.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            array.into_bytes(),
            format!("{one}\r\n\n{two}").into_bytes(),
            utf16,
        ] {
            let path = folder.path().join("set");
            std::fs::write(&path, bytes).unwrap();
            let set = TestSet::load(&[path]).unwrap();
            let told: Vec<_> = set
                .paintings
                .iter()
                .map(|painting| (painting.image.as_deref(), &*painting.references[0]))
                .collect();
            assert_eq!(told, [(Some("1.png"), "A"), (Some("/pictures/2.png"), "B")]);
        }
        let path = write(
            folder.path(),
            "zeros",
            &format!("[0{}]", ",0".repeat(1_000_000)),
        );
        let error = TestSet::load(&[path]).unwrap_err();
        assert!(
            matches!(error, DatasetError::MostlyUnusable { .. }),
            "{error}"
        );
    }

    #[test]
    fn both_versions_are_read_and_aligned() {
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
