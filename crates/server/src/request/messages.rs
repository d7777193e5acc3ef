//! The messages of a request: roles, texts and the files of pictures.

use serde_json::value::RawValue;

use super::{
    invalid::{Invalid, shown},
    json::{fields, items, string},
};
use crate::{buffer::Buffer, data_uri, neutral};

/// JSON writes a character of one byte with six at most (`\u0041`).
const LONGEST_ESCAPE: usize = 6;

/// A message, with the files of its pictures.
#[derive(Debug)]
pub struct Message {
    /// `system`, `developer`, `user` or `assistant`; it is checked later.
    pub role: String,
    /// Its text parts, joined by line breaks.
    pub text: String,
    /// The files of its pictures, decoded from their `data:` URIs.
    pub pictures: Vec<Buffer>,
}

/// Reads the messages, with at most so many pictures in all.
pub(super) fn messages(
    value: &RawValue,
    most: usize,
    texts: &mut Texts,
) -> Result<Vec<Message>, Invalid> {
    let mut pictures = 0;
    let items = items("messages", value)?;
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(number, item)| {
            let at = format!("messages[{number}]");
            let (mut role, mut content) = (None, None);
            for (name, value) in fields(item, &at)? {
                match name.as_str() {
                    "role" => role = Some(value),
                    "content" => content = Some(value),
                    "tool_calls" | "function_call" | "tool_call_id" | "audio"
                        if !neutral::is_empty(value.get()) =>
                    {
                        let message = format_args!("{} is not supported here", shown(value));
                        return Err(Invalid::field(format!("{at}.{name}"), message));
                    }
                    _ => {}
                }
            }
            let missing = |name| Invalid::field(format!("{at}.{name}"), "it is missing");
            let role = string(&format!("{at}.role"), role.ok_or_else(|| missing("role"))?)?;
            let content = content.ok_or_else(|| missing("content"))?;
            let mut message = Message {
                role,
                text: String::new(),
                pictures: Vec::new(),
            };
            message.read(&format!("{at}.content"), content, texts, |file| {
                pictures += 1;
                if pictures > most {
                    let message =
                        format_args!("more than the {most} pictures this server takes a request");
                    return Err(Invalid::field("messages", message));
                }
                file()
            })?;
            Ok(message)
        })
        .collect()
}

impl Message {
    /// Reads the content: a text, or parts. `counted` reads a picture if one more is allowed.
    fn read(
        &mut self,
        at: &str,
        content: &RawValue,
        texts: &mut Texts,
        mut counted: impl FnMut(&dyn Fn() -> Result<Buffer, Invalid>) -> Result<Buffer, Invalid>,
    ) -> Result<(), Invalid> {
        if content.get().starts_with('"') {
            self.text = texts.take(at, content)?;
            return Ok(());
        }
        if !content.get().starts_with('[') {
            return Err(Invalid::expected(at, "a text or a list of parts", content));
        }
        let mut lines = Vec::new();
        for (number, part) in items(at, content)?.into_iter().enumerate() {
            let at = format!("{at}[{number}]");
            let part = fields(part, &at)?;
            let value = |name: &str| {
                let found = part.iter().find(|(found, _)| found == name);
                found
                    .map(|(_, value)| *value)
                    .ok_or_else(|| Invalid::field(format!("{at}.{name}"), "it is missing"))
            };
            match string(&format!("{at}.type"), value("type")?)?.as_str() {
                "text" => lines.push(texts.take(&format!("{at}.text"), value("text")?)?),
                "image_url" => {
                    let name = format!("{at}.image_url");
                    let mut url = value("image_url")?;
                    // Most clients send an object, some the URL only.
                    if url.get().starts_with('{') {
                        let inner = fields(url, &name)?;
                        let found = inner.into_iter().find(|(name, _)| name == "url");
                        url = found
                            .ok_or_else(|| Invalid::field(format!("{name}.url"), "it is missing"))?
                            .1;
                    }
                    if !url.get().starts_with('"') {
                        return Err(Invalid::expected(name, "a URL", url));
                    }
                    self.pictures.push(counted(&|| {
                        data_uri::file(url.get())
                            .map_err(|reason| Invalid::field(name.as_str(), reason))
                    })?);
                }
                other => {
                    let shown: String = other.chars().take(40).collect();
                    let message = format_args!("expected text or image_url, found {shown:?}");
                    return Err(Invalid::field(format!("{at}.type"), message));
                }
            }
        }
        self.text = lines.join("\n");
        Ok(())
    }
}

/// The room that is left for texts. The length of a text is checked before anything is built of it.
pub(super) struct Texts {
    left: usize,
}

impl Texts {
    /// Room for so many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self { left: bytes }
    }

    /// Reads a text.
    pub(super) fn take(&mut self, at: &str, value: &RawValue) -> Result<String, Invalid> {
        let too_long = || Invalid {
            too_long: true,
            ..Invalid::field(at, "the texts are longer than the model's context can hold")
        };
        if value.get().len() / LONGEST_ESCAPE > self.left + 1 {
            return Err(too_long());
        }
        let text: String = serde_json::from_str(value.get())
            .map_err(|_| Invalid::expected(at, "a text", value))?;
        self.left = self.left.checked_sub(text.len()).ok_or_else(too_long)?;
        Ok(text)
    }
}
