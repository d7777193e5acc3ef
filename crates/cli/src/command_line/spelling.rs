//! Spellings of flags: hyphens and underscores, and booleans as Python writes them.

use std::ffi::OsString;

/// Arguments with underscores for the hyphens in names of flags: `--max-new-tokens` becomes `--max_new_tokens`. Values stay as they
/// are, and so does everything after a lone `--`.
pub(crate) fn underscored(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut flags_end = false;
    let spelled = arguments.into_iter().map(|argument| {
        flags_end |= argument == "--";
        let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
            return argument;
        };
        if flags_end {
            return argument;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, format!("={value}")),
            None => (flag, String::new()),
        };
        format!("--{}{value}", name.replace('-', "_")).into()
    });
    spelled.collect()
}

/// Flags with `--template NAME` for `--version NAME`, the original's name of that flag. `--version` alone asks for the program's
/// version.
pub(super) fn template_named(flags: Vec<OsString>) -> Vec<OsString> {
    let mut flags = flags.into_iter().peekable();
    let mut named = Vec::new();
    while let Some(flag) = flags.next() {
        let text = flag.to_str().unwrap_or_default();
        let has_value = flags
            .peek()
            .is_some_and(|next| !next.to_string_lossy().starts_with('-'));
        named.push(match text.strip_prefix("--version") {
            Some("") if has_value => "--template".into(),
            Some(value) if value.starts_with('=') => format!("--template{value}").into(),
            _ => flag,
        });
    }
    named
}

/// Flags with `--name=True` for `--name True` if the name is that of a boolean. If the command takes arguments besides flags, only what
/// reads as a boolean is taken for the flag's value.
pub(super) fn joined_booleans(
    flags: Vec<OsString>,
    booleans: &[String],
    takes_words: bool,
) -> Vec<OsString> {
    let mut flags = flags.into_iter().peekable();
    let mut joined = Vec::new();
    while let Some(flag) = flags.next() {
        let name = flag.to_str().and_then(|text| text.strip_prefix("--"));
        let is_boolean = name.is_some_and(|name| booleans.iter().any(|boolean| boolean == name));
        let value = flags.peek().and_then(|next| next.to_str());
        let value = value
            .filter(|value| is_boolean && !value.starts_with("--"))
            .map(str::to_owned);
        joined.push(match value {
            Some(value) if !takes_words || boolean(&value).is_ok() => {
                flags.next();
                format!("--{}={value}", name.unwrap_or_default()).into()
            }
            _ => flag,
        });
    }
    joined
}

/// A boolean in the spellings that Hugging Face's argument parser takes: `True`, `true`, `yes`, `1` and so on.
///
/// # Errors
/// Any other text.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err("expected True or False".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyphens_in_names_are_underscores_and_values_stay() {
        let typed = [
            "caption",
            "--max-new-tokens",
            "5",
            "--top_k=3-4",
            "--image-file",
            "a-b.jpg",
            "-1",
            "--",
            "--x-y",
        ];
        let spelled = underscored(typed.map(OsString::from));
        let expected = [
            "caption",
            "--max_new_tokens",
            "5",
            "--top_k=3-4",
            "--image_file",
            "a-b.jpg",
            "-1",
            "--",
            "--x-y",
        ];
        assert_eq!(spelled, expected);
    }

    #[test]
    fn booleans_are_read_as_python_writes_them() {
        assert_eq!(["True", "true", "1"].map(boolean), [const { Ok(true) }; 3]);
        assert_eq!(["False", "no", "0"].map(boolean), [const { Ok(false) }; 3]);
        assert!(boolean("maybe").is_err());
    }
}
