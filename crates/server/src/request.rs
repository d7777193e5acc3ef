//! The JSON of a request, read within bounds: nothing is built that is not used, and nothing in it is believed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{buffer::Buffer, data_uri, neutral};

/// Levels of brackets in a request; OpenAI's own shapes have seven.
const DEPTH: usize = 64;
/// Bytes of a field's name.
const NAME: usize = 256;
/// Fields of an object.
const FIELDS: usize = 256;
/// Messages of a request, and parts of a message.
const ITEMS: usize = 4096;
/// Stop texts of a request, and bytes of each.
const STOPS: (usize, usize) = (16, 256);
/// JSON writes a character of one byte with six at most (`\u0041`).
const LONGEST_ESCAPE: usize = 6;

/// What a request may hold.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of all its texts.
    pub text: usize,
    /// Pictures.
    pub pictures: usize,
}

/// What is wrong with a request.
#[derive(Debug, PartialEq)]
pub struct Invalid {
    /// The field at fault; none where the whole is.
    pub param: Option<String>,
    /// What is wrong, in a sentence that begins with the field's name.
    pub message: String,
    /// There is more text than the context can hold.
    pub too_long: bool,
}

impl Invalid {
    fn whole(message: impl Into<String>) -> Self {
        Self {
            param: None,
            message: message.into(),
            too_long: false,
        }
    }

    pub(crate) fn field(name: impl Into<String>, message: impl fmt::Display) -> Self {
        let name = name.into();
        Self {
            message: format!("{name}: {message}"),
            param: Some(name),
            too_long: false,
        }
    }

    fn expected(name: impl Into<String>, expected: &str, found: &RawValue) -> Self {
        Self::field(
            name,
            format_args!("expected {expected}, found {}", shown(found)),
        )
    }
}

/// A request for an answer.
#[derive(Debug, Default)]
pub struct ChatRequest {
    /// The name asked for; it is not compared with the name of the model that answers.
    pub model: Option<String>,
    /// The conversation so far, in order.
    pub messages: Vec<Message>,
    /// Whether the answer is to come in pieces, as it is generated.
    pub stream: bool,
    /// Whether the last chunk of a stream counts tokens.
    pub include_usage: bool,
    /// None where the server's default holds, here and below.
    pub temperature: Option<f32>,
    /// Most likely tokens whose probabilities add up to this are kept.
    pub top_p: Option<f32>,
    /// How many of the most likely tokens are kept; 0 is all.
    pub top_k: Option<usize>,
    /// Divides the scores of tokens that have occurred.
    pub repetition_penalty: Option<f32>,
    /// Runs of so many tokens occur once; 0 is off.
    pub no_repeat_ngram_size: Option<usize>,
    /// Most tokens of the answer; none where the client does not say.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The seed of sampling; none where each answer may be another.
    pub seed: Option<u64>,
    /// Words of the last message, where attention is asked for.
    pub phrase: Option<String>,
}

/// Something said, with the files of its pictures.
#[derive(Debug)]
pub struct Message {
    /// `system`, `developer`, `user` or `assistant`; not checked yet.
    pub role: String,
    /// Its text parts, joined by line breaks.
    pub text: String,
    /// The files of its pictures, decoded from their `data:` URIs.
    pub pictures: Vec<Buffer>,
}

impl ChatRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not JSON, not of the shape of OpenAI's, holds more than `limits`, or asks for something there is not.
    pub fn parse(body: &[u8], limits: &RequestLimits) -> Result<Self, Invalid> {
        bounded_shape(body)?;
        let text = std::str::from_utf8(body)
            .map_err(|error| Invalid::whole(format!("the request is not UTF-8: {error}")))?;
        let whole: &RawValue = serde_json::from_str(text)
            .map_err(|error| Invalid::whole(format!("the request is not JSON: {error}")))?;
        let mut request = Self::default();
        let mut texts = Texts { left: limits.text };
        let mut has_messages = false;
        // `max_completion_tokens` is the newer name and goes before the older one.
        let mut older = None;
        for (name, value) in fields(whole, "the request")? {
            if value.get() == "null" {
                continue;
            }
            let name = name.as_str();
            match name {
                "model" => request.model = Some(string(name, value)?),
                "messages" => {
                    has_messages = true;
                    request.messages = messages(value, limits, &mut texts)?;
                }
                "stream" => request.stream = boolean(name, value)?,
                "stream_options" => request.include_usage = include_usage(value)?,
                "temperature" => request.temperature = Some(number(name, value)? as f32),
                "top_p" => request.top_p = Some(number(name, value)? as f32),
                "top_k" => request.top_k = Some(whole_number(name, value)?.try_into().unwrap_or(0)),
                "repetition_penalty" => {
                    request.repetition_penalty = Some(number(name, value)? as f32);
                }
                "no_repeat_ngram_size" => {
                    let size = whole_number(name, value)?.try_into();
                    request.no_repeat_ngram_size = Some(size.unwrap_or(0));
                }
                "max_completion_tokens" => request.max_tokens = most_tokens(name, value)?,
                "max_tokens" => older = most_tokens(name, value)?,
                "stop" => request.stop = stops(value)?,
                "seed" => request.seed = seed(value)?,
                "phrase" => request.phrase = Some(texts.take(name, value)?),
                _ if neutral::changes_nothing(name, value.get()) => {}
                _ => {
                    let message = format_args!("{} is not supported here", shown(value));
                    return Err(Invalid::field(name, message));
                }
            }
        }
        if !has_messages {
            return Err(Invalid::field("messages", "expected some, found none"));
        }
        request.max_tokens = request.max_tokens.or(older);
        Ok(request)
    }
}

fn messages(
    value: &RawValue,
    limits: &RequestLimits,
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
                if pictures > limits.pictures {
                    let most = limits.pictures;
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
    /// Reads the content: a text, or parts. `counted` runs the reading of a picture if one more is allowed.
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
                    // Most clients write an object, some the address alone.
                    if url.get().starts_with('{') {
                        let inner = fields(url, &name)?;
                        let found = inner.into_iter().find(|(name, _)| name == "url");
                        url = found
                            .ok_or_else(|| Invalid::field(format!("{name}.url"), "it is missing"))?
                            .1;
                    }
                    if !url.get().starts_with('"') {
                        return Err(Invalid::expected(name, "an address", url));
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

/// Takes texts as long as there is room for them, and looks at their length before anything is built of them.
struct Texts {
    left: usize,
}

impl Texts {
    fn take(&mut self, at: &str, value: &RawValue) -> Result<String, Invalid> {
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

fn stops(value: &RawValue) -> Result<Vec<String>, Invalid> {
    let (most, longest) = STOPS;
    let texts = if value.get().starts_with('[') {
        items("stop", value)?
    } else {
        vec![value]
    };
    if texts.len() > most {
        let message = format_args!("{} texts, this server takes {most}", texts.len());
        return Err(Invalid::field("stop", message));
    }
    texts
        .into_iter()
        .map(|text| {
            let stop = string("stop", text)?;
            if stop.is_empty() || stop.len() > longest {
                let message = format_args!(
                    "expected texts of 1 to {longest} bytes, found one of {}",
                    stop.len()
                );
                return Err(Invalid::field("stop", message));
            }
            Ok(stop)
        })
        .collect()
}

fn include_usage(value: &RawValue) -> Result<bool, Invalid> {
    let mut include = false;
    for (name, value) in fields(value, "stream_options")? {
        let at = format!("stream_options.{name}");
        match name.as_str() {
            "include_usage" if value.get() != "null" => include = boolean(&at, value)?,
            // Padding against eavesdroppers on the length of chunks; without it the answer is the same.
            "include_usage" | "include_obfuscation" => {}
            _ if neutral::is_empty(value.get()) || value.get() == "false" => {}
            _ => {
                let message = format_args!("{} is not supported here", shown(value));
                return Err(Invalid::field(at, message));
            }
        }
    }
    Ok(include)
}

/// The most tokens wished for. Negative is "as many as there are" to llama.cpp and its clients.
fn most_tokens(name: &str, value: &RawValue) -> Result<Option<usize>, Invalid> {
    match whole_number(name, value)? {
        0 => Err(Invalid::expected(name, "1 or more", value)),
        most => Ok(most.try_into().ok()),
    }
}

/// -1 is "another each time" to llama.cpp and its clients; other negative numbers are seeds like any.
fn seed(value: &RawValue) -> Result<Option<u64>, Invalid> {
    let seed = whole_number("seed", value)?;
    Ok((seed != -1).then_some(seed as u64))
}

fn number(name: &str, value: &RawValue) -> Result<f64, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::expected(name, "a number", value))
}

/// A number without a fraction; beyond 64 bits it is the last one there is.
fn whole_number(name: &str, value: &RawValue) -> Result<i128, Invalid> {
    if let Ok(exact) = serde_json::from_str::<u64>(value.get()) {
        return Ok(exact.into());
    }
    let found = number(name, value)?;
    if found.fract() != 0.0 {
        return Err(Invalid::expected(name, "a whole number", value));
    }
    Ok((found as i128).min(u64::MAX.into()))
}

fn boolean(name: &str, value: &RawValue) -> Result<bool, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::expected(name, "true or false", value))
}

/// A short text.
fn string(name: &str, value: &RawValue) -> Result<String, Invalid> {
    let is_short = value.get().len() <= 4096;
    let text = is_short.then(|| serde_json::from_str(value.get()).ok());
    text.flatten()
        .ok_or_else(|| Invalid::expected(name, "a short text", value))
}

/// A value as it stands in a message.
fn shown(value: &RawValue) -> String {
    let text = value.get();
    if text.len() <= 60 {
        return text.to_owned();
    }
    let begins: String = text.chars().take(40).collect();
    format!("{begins}...")
}

/// Refuses brackets in brackets without end and names without end, before anything is built: what is left costs no more memory
/// than the request itself. Where the text is no JSON, the parser will say so.
fn bounded_shape(body: &[u8]) -> Result<(), Invalid> {
    let mut depth = 0;
    let mut bytes = body.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH {
                    let message = format!("the request is nested more than {DEPTH} levels deep");
                    return Err(Invalid::whole(message));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                let mut end = at;
                while let Some((at, &byte)) = bytes.next() {
                    end = at;
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
                let mut after = body[end..].iter().skip(1);
                let next = after.find(|byte| !byte.is_ascii_whitespace());
                if end - at > NAME && next == Some(&b':') {
                    let message = format!("a field's name has more than {NAME} bytes");
                    return Err(Invalid::whole(message));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The fields of an object, each once.
fn fields<'a>(object: &'a RawValue, at: &str) -> Result<Vec<(String, &'a RawValue)>, Invalid> {
    let found: Fields<'a> = serde_json::from_str(object.get()).map_err(|_| {
        let message = format!("{at}: expected an object of at most {FIELDS} fields");
        Invalid::whole(format!("{message}, found {}", shown(object)))
    })?;
    for (number, (name, _)) in found.0.iter().enumerate() {
        if found.0[..number].iter().any(|(earlier, _)| earlier == name) {
            return Err(Invalid::whole(format!("{at}: {name} is given twice")));
        }
    }
    Ok(found.0)
}

/// The items of a list.
fn items<'a>(at: &str, list: &'a RawValue) -> Result<Vec<&'a RawValue>, Invalid> {
    let found: Items<'a> = serde_json::from_str(list.get())
        .map_err(|_| Invalid::expected(at, &format!("a list of at most {ITEMS} items"), list))?;
    Ok(found.0)
}

struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Fields<'de> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(field) = map.next_entry()? {
            if self.0.len() == FIELDS {
                return Err(serde::de::Error::custom("too many fields"));
            }
            self.0.push(field);
        }
        Ok(self)
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Items<'de> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(item) = list.next_element()? {
            if self.0.len() == ITEMS {
                return Err(serde::de::Error::custom("too many items"));
            }
            self.0.push(item);
        }
        Ok(self)
    }
}
