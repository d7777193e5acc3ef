//! The error of a choice whose name is unknown.

use std::borrow::Cow;

use crate::printable;

/// A name that none of the choices has.
///
/// ```
/// use gallery_gpt_text::TemplateKind;
///
/// let error = "v2".parse::<TemplateKind>().unwrap_err();
/// assert_eq!((error.what, &*error.found), ("conversation template", "v2"));
/// assert_eq!(
///     error.to_string(),
///     "unknown conversation template `v2`, expected vicuna_v1 (v1), llava_v1, llava_v0, plain or chatml (qwen)"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{}`, expected {expected}", printable(found))]
#[non_exhaustive]
pub struct UnknownName {
    /// What is chosen.
    pub what: &'static str,
    /// The name.
    pub found: String,
    /// The known names.
    pub expected: Cow<'static, str>,
}

impl UnknownName {
    /// The error of a name.
    #[must_use]
    pub fn new(what: &'static str, found: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what,
            found: found.to_owned(),
            expected: expected.into(),
        }
    }
}
