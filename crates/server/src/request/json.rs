//! Values of a request, read from their JSON text within bounds.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::invalid::{Invalid, shown};

/// Levels of brackets in a request; OpenAI's own shapes have seven.
const DEPTH: usize = 64;
/// Bytes of a field's name.
const NAME: usize = 256;
/// Fields of an object.
const FIELDS: usize = 256;
/// Messages of a request, and parts of a message.
const ITEMS: usize = 4096;

pub(super) fn number(name: &str, value: &RawValue) -> Result<f64, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::expected(name, "a number", value))
}

/// A number without a fraction; one beyond 64 bits becomes the largest.
pub(super) fn whole_number(name: &str, value: &RawValue) -> Result<i128, Invalid> {
    if let Ok(exact) = serde_json::from_str::<u64>(value.get()) {
        return Ok(exact.into());
    }
    let found = number(name, value)?;
    if found.fract() != 0.0 {
        return Err(Invalid::expected(name, "a whole number", value));
    }
    Ok((found as i128).min(u64::MAX.into()))
}

pub(super) fn boolean(name: &str, value: &RawValue) -> Result<bool, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::expected(name, "true or false", value))
}

/// A short text.
pub(super) fn string(name: &str, value: &RawValue) -> Result<String, Invalid> {
    let is_short = value.get().len() <= 4096;
    let text = is_short.then(|| serde_json::from_str(value.get()).ok());
    text.flatten()
        .ok_or_else(|| Invalid::expected(name, "a short text", value))
}

/// Refuses deep nesting and long names before anything is built, so that parsing takes no more memory than the request itself. If the
/// text is not JSON, the parser reports it.
pub(super) fn bounded_shape(body: &[u8]) -> Result<(), Invalid> {
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
pub(super) fn fields<'a>(
    object: &'a RawValue,
    at: &str,
) -> Result<Vec<(String, &'a RawValue)>, Invalid> {
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
pub(super) fn items<'a>(at: &str, list: &'a RawValue) -> Result<Vec<&'a RawValue>, Invalid> {
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
