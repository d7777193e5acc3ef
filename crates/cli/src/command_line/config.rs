//! A file of flags: read for `--config`, written by `--print_config`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use super::{CONFIG, flag_name, is_about_flags, is_boolean, names, spelling::boolean};

/// Least similarity of a key to the flag that is suggested for it, as in clap.
const ALIKE: f64 = 0.7;

/// Takes `--config FILE` out of flags.
pub(super) fn taken(flags: Vec<OsString>) -> (Option<PathBuf>, Vec<OsString>) {
    let mut file = None;
    let mut kept = Vec::with_capacity(flags.len());
    let mut words = flags.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        if flag_name(&word) != Some(CONFIG) {
            kept.push(word);
            continue;
        }
        let text = word.to_string_lossy().into_owned();
        match text.split_once('=') {
            Some((_, path)) => file = Some(path.into()),
            // Without a file, clap refuses it.
            None => match words.next() {
                Some(path) => file = Some(path.into()),
                None => kept.push(word),
            },
        }
    }
    (file, kept)
}

/// The flags that a file has for a command. A flag of several values that is given on the command line too is left out.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a key that is no flag of the command.
pub(super) fn flags(
    command: &Command,
    path: &Path,
    given: &[OsString],
) -> anyhow::Result<Vec<OsString>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = text.parse().with_context(|| path.display().to_string())?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        let name = key.replace('-', "_");
        let arg = flag(command, &name).with_context(|| {
            format!(
                "{}: {} has no flag `{key}`{}",
                path.display(),
                command.get_name(),
                nearest(command, &name)
            )
        })?;
        let is_given = || {
            let mut given = given.iter().filter_map(|word| flag_name(word));
            given.any(|given| names(arg).any(|name| name == given))
        };
        let values = match value {
            Value::Array(values) if takes_several(arg) => &values[..],
            value => std::slice::from_ref(value),
        };
        if takes_several(arg) && is_given() {
            continue;
        }
        for value in values {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(value) => value.to_string(),
                other => bail!(
                    "{}: `{key}` is {}, expected {}",
                    path.display(),
                    other.type_str(),
                    if takes_several(arg) {
                        "a list of texts or numbers"
                    } else {
                        "a text, a number or a boolean"
                    }
                ),
            };
            // A default is left out, so that it cannot conflict with another flag.
            let is_default = arg
                .get_default_values()
                .iter()
                .any(|default| *default == *value);
            if takes_several(arg) || !is_default {
                flags.push(format!("--{name}={value}").into());
            }
        }
    }
    Ok(flags)
}

/// A command's flag by any of its names.
fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut flags = settings(command);
    flags.find(|arg| names(arg).any(|own| own == name))
}

/// The flags of a command that are settings.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    let flags = command.get_arguments();
    flags.filter(|arg| arg.get_long().is_some() && !is_about_flags(arg.get_id()))
}

fn nearest(command: &Command, name: &str) -> String {
    let all = settings(command).flat_map(names);
    let scored = all.map(|own| (strsim::jaro(own, name), own));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > ALIKE)
        .map_or_else(String::new, |(_, own)| format!("; did you mean `{own}`?"))
}

fn takes_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// All flags of a command as a file. `others` has values for flags that were not given and have no default.
pub(crate) fn printed(command: &Command, matches: &ArgMatches, others: &Table) -> String {
    let mut text = String::new();
    for arg in settings(command) {
        let id = arg.get_id().as_str();
        let Some(name) = arg.get_long() else { continue };
        let raw = matches.get_raw(id).into_iter().flatten();
        let values: Vec<Value> = raw.map(|raw| value(arg, &raw.to_string_lossy())).collect();
        let value = match &values[..] {
            [] => others.get(name).cloned(),
            _ if takes_several(arg) => Some(Value::Array(values)),
            [.., last] => Some(last.clone()),
        };
        if let Some(value) = value {
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    text
}

/// A value as a boolean or a number if its flag takes one, else as a text.
fn value(arg: &Arg, text: &str) -> Value {
    use std::any::TypeId;
    let kind = arg.get_value_parser().type_id();
    let is = |types: &[TypeId]| types.iter().any(|of| kind == *of);
    let integers = [
        TypeId::of::<usize>(),
        TypeId::of::<i64>(),
        TypeId::of::<u64>(),
        TypeId::of::<u32>(),
        TypeId::of::<u16>(),
    ];
    let value = if is_boolean(arg) {
        boolean(text).ok().map(Value::Boolean)
    } else if is(&integers) {
        text.parse().ok().map(Value::Integer)
    } else if is(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
        text.parse().ok().map(Value::Float)
    } else {
        None
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}
