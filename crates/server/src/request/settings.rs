//! Settings of a request whose values are more than a number or a text.

use serde_json::value::RawValue;

use super::{
    invalid::{Invalid, shown},
    json::{boolean, fields, items, string, whole_number},
};
use crate::neutral;

/// Stop texts of a request, and bytes of each.
const STOPS: (usize, usize) = (16, 256);

pub(super) fn stops(value: &RawValue) -> Result<Vec<String>, Invalid> {
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

pub(super) fn include_usage(value: &RawValue) -> Result<bool, Invalid> {
    let mut include = false;
    for (name, value) in fields(value, "stream_options")? {
        let at = format!("stream_options.{name}");
        match name.as_str() {
            "include_usage" if value.get() != "null" => include = boolean(&at, value)?,
            // Padding that hides the length of chunks from eavesdroppers; the answer is the same without.
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

/// The maximum number of tokens. Negative means no limit to llama.cpp and its clients.
pub(super) fn most_tokens(name: &str, value: &RawValue) -> Result<Option<usize>, Invalid> {
    match whole_number(name, value)? {
        0 => Err(Invalid::expected(name, "1 or more", value)),
        most => Ok(most.try_into().ok()),
    }
}

/// -1 is a random seed to llama.cpp and its clients; other negative numbers are seeds like any.
pub(super) fn seed(value: &RawValue) -> Result<Option<u64>, Invalid> {
    let seed = whole_number("seed", value)?;
    Ok((seed != -1).then_some(seed as u64))
}
