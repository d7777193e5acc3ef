//! How flags may be spelled: with hyphens as well as underscores, and booleans as Python writes them.

use std::{env::args_os, ffi::OsString};

/// The arguments of this program, its name first, for `Parser::parse_from`: flags are in underscores, however they were typed.
pub(crate) fn arguments() -> Vec<OsString> {
    underscored(args_os())
}

/// Arguments with the hyphens inside of flags' names as underscores: `--max-new-tokens` is `--max_new_tokens`. Values stay as
/// they are, and so does everything behind a `--` that stands alone.
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
