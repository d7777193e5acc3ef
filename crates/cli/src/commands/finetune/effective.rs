//! The values of a training that come from its preset, as flags.

use std::collections::BTreeSet;

use clap::{Arg, Command};
use gallery_gpt::{llama::LoraConfig, train::TrainingConfig};
use serde_json::{Map, Value as Json, to_value};
use toml::{Table, Value};

use super::arguments::{Arguments, Preset};

impl Arguments {
    /// The values of the flags that were left to the preset.
    ///
    /// # Errors
    /// Flags that exclude each other.
    pub(super) fn effective(&self) -> anyhow::Result<Table> {
        let (mut training, lora) = self.settings()?;
        if !self.device.first().is_cpu() {
            training = training.on_gpu();
        }
        let mut values = as_flags(&training, &lora)?;
        // The script's values depend on other flags too; reading the preset back sets them again.
        for name in fields(to_value(&training.script)?)?.keys() {
            values.remove(name);
        }
        if self.lora_path.is_some() {
            values.retain(|name, _| !name.starts_with("lora_"));
        }
        if self.group_by_modality_length.is_some() {
            values.remove("order");
        }
        Ok(values)
    }
}

/// Settings by the names of their flags. Settings without a flag are among them, and are never looked up.
fn as_flags(training: &TrainingConfig, lora: &LoraConfig) -> anyhow::Result<Table> {
    let mut values = Table::new();
    for (name, value) in fields(to_value(training)?)? {
        let value = match (name.as_str(), value) {
            ("max_grad_norm" | "save_steps", Json::Null) => Value::Integer(0),
            ("pad_to_multiple_of", Json::Null) => Value::Integer(1),
            ("max_steps", Json::Null) => Value::Integer(-1),
            (_, Json::Null | Json::Object(_)) => continue,
            (_, value) => Value::try_from(value)?,
        };
        values.insert(name, value);
    }
    values.insert("lora_r".to_owned(), Value::try_from(lora.rank)?);
    values.insert("lora_alpha".to_owned(), lora.alpha.into());
    values.insert("lora_dropout".to_owned(), lora.dropout.into());
    Ok(values)
}

fn fields(settings: Json) -> anyhow::Result<Map<String, Json>> {
    match settings {
        Json::Object(fields) => Ok(fields),
        other => anyhow::bail!("expected settings with names, found {other}"),
    }
}

/// The command with the defaults of all presets in the help of its flags.
pub(crate) fn with_preset_defaults(command: Command) -> Command {
    let of = |preset: Preset| {
        let (mut training, lora) = preset.settings();
        // No file is read because of a preset.
        (training.script.vision_tower, training.script.deepspeed) = (None, None);
        as_flags(&training, &lora).unwrap_or_default()
    };
    let presets = [Preset::Sample, Preset::GalleryGpt, Preset::QwenVlChat];
    let names = ["default", "gallery_gpt", "qwen_vl_chat"];
    let values = presets.map(of);
    let of_sample = &values[0];
    let named: BTreeSet<String> = values.iter().flat_map(Table::keys).cloned().collect();
    command.mut_args(|arg| {
        let name = arg.get_long().unwrap_or_default().to_owned();
        // One default depends on the device, and its help says so.
        if !named.contains(&name) || has_default(&arg) || name == "pad_to_multiple_of" {
            return arg;
        }
        let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let of_presets = names.iter().zip(&values);
        let mut defaults: Vec<String> = Vec::new();
        for (preset, values) in of_presets {
            // A preset with the first one's value is not named.
            if let Some(value) = values
                .get(&name)
                .filter(|&value| defaults.is_empty() || Some(value) != of_sample.get(&name))
            {
                defaults.push(format!("{preset}: {}", text(value)));
            }
        }
        let defaults = defaults.join(", ");
        let help = arg.get_help().cloned().unwrap_or_default();
        arg.help(format!("{help} [{defaults}]"))
    })
}

fn has_default(arg: &Arg) -> bool {
    !arg.get_default_values().is_empty()
}
