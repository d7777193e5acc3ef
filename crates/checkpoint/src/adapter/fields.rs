//! The fields of an adapter's config, read one by one, with errors that name the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    initialization::Initialization,
    module_rule::{ModuleNames, ModulePattern, NamedBy},
};
use crate::CheckpointError;

/// Most expressions of a config.
const MAX_EXPRESSIONS: usize = 512;

/// The fields of one file.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) json: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn wrong(&self, field: &str, expected: impl Into<String>) -> CheckpointError {
        let found = match self.json.get(field) {
            None => "missing".to_owned(),
            Some(value) => shortened(value),
        };
        CheckpointError::Adapter {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found,
            expected: expected.into(),
        }
    }

    /// A field that is neither missing nor null.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.json.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn bool(&self, field: &str) -> Result<bool, CheckpointError> {
        self.get(field).map_or(Ok(false), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(field, "true or false"))
        })
    }

    pub(super) fn count(&self, field: &str, value: &Value) -> Result<usize, CheckpointError> {
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong(field, "integers from 0 on"))
    }

    pub(super) fn number(&self, field: &str, value: &Value) -> Result<f64, CheckpointError> {
        value.as_f64().ok_or_else(|| self.wrong(field, "numbers"))
    }

    pub(super) fn text(&self, field: &str, value: &Value) -> Result<String, CheckpointError> {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| self.wrong(field, "strings"))
    }

    /// A list, or a single value as a list of one.
    pub(super) fn list<T>(
        &self,
        field: &str,
        read: impl Fn(&Self, &str, &Value) -> Result<T, CheckpointError>,
    ) -> Result<Option<Vec<T>>, CheckpointError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Array(values)) => {
                let values = values.iter().map(|value| read(self, field, value));
                values.collect::<Result<_, _>>().map(Some)
            }
            Some(value) => Ok(Some(vec![read(self, field, value)?])),
        }
    }

    pub(super) fn pattern(
        &self,
        field: &str,
        text: &str,
        named: NamedBy,
    ) -> Result<ModulePattern, CheckpointError> {
        ModulePattern::new(text, named).map_err(|reason| {
            self.wrong(
                field,
                format!("names or regular expressions; {text:?}: {reason}"),
            )
        })
    }

    /// Values by module pattern, in the order of the file: the first pattern that matches a module counts.
    pub(super) fn by_module<T>(
        &self,
        field: &str,
        read: impl Fn(&Self, &str, &Value) -> Result<T, CheckpointError>,
    ) -> Result<Vec<(ModulePattern, T)>, CheckpointError> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let entries = value
            .as_object()
            .ok_or_else(|| self.wrong(field, "an object of modules"))?;
        let mut patterns = Vec::new();
        let mut expressions = 0;
        for (name, value) in entries {
            let pattern = self.pattern(field, name, NamedBy::End)?;
            expressions += usize::from(pattern.is_expression());
            if expressions > MAX_EXPRESSIONS {
                return Err(self.wrong(field, format!("at most {MAX_EXPRESSIONS} expressions")));
            }
            patterns.push((pattern, read(self, field, value)?));
        }
        Ok(patterns)
    }

    /// `target_modules` or `exclude_modules`: a regular expression for the whole name, or a list of names.
    pub(super) fn modules(&self, field: &str) -> Result<Option<ModuleNames>, CheckpointError> {
        Ok(match self.get(field) {
            None => None,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => {
                Some(ModuleNames::AllLinear)
            }
            Some(Value::String(text)) => Some(ModuleNames::Pattern(self.pattern(
                field,
                text,
                NamedBy::Whole,
            )?)),
            Some(_) => self
                .list(field, Self::text)?
                .map(|names| ModuleNames::List(names.into_iter().collect())),
        })
    }

    pub(super) fn saved_rows(&self) -> Result<Vec<(String, Vec<usize>)>, CheckpointError> {
        let field = "trainable_token_indices";
        let wrong = || {
            self.wrong(
                field,
                "a list of token ids, or an object with one for each embedding",
            )
        };
        let rows = |value: &Value| -> Result<Vec<usize>, CheckpointError> {
            let values = value.as_array().ok_or_else(wrong)?.iter();
            values.map(|value| self.count(field, value)).collect()
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Object(entries)) => {
                let entries = entries.iter();
                let entries = entries.map(|(name, value)| Ok((name.clone(), rows(value)?)));
                entries.collect()
            }
            Some(value) => Ok(vec![("embed_tokens".to_owned(), rows(value)?)]),
        }
    }

    pub(super) fn initialization(&self) -> Result<Initialization, CheckpointError> {
        let field = "init_lora_weights";
        match self.get(field) {
            None | Some(Value::Bool(_)) => Ok(Initialization::KeepsBase),
            Some(value) => {
                let name = value.as_str().unwrap_or_default();
                Initialization::of(name).map_err(|expected| self.wrong(field, expected))
            }
        }
    }
}

/// A value as JSON, truncated if it is long.
pub(super) fn shortened(value: &Value) -> String {
    const SHOWN: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
