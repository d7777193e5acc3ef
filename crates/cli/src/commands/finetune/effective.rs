//! The values of a training that come from its preset, as flags.

use gallery_gpt::{llama::LoraConfig, train::TrainingConfig};
use serde_json::{Value as Json, to_value};
use toml::{Table, Value};

use super::arguments::Arguments;

/// Settings of a training that are flags of the same name.
const SETTINGS: [&str; 19] = [
    "ddp_timeout",
    "learning_rate",
    "mm_projector_lr",
    "weight_decay",
    "warmup_ratio",
    "lr_scheduler_type",
    "max_grad_norm",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "loss_mean",
    "packing",
    "pad_to_multiple_of",
    "per_device_eval_batch_size",
    "dataloader_num_workers",
    "logging_steps",
    "eval_steps",
    "save_steps",
];

impl Arguments {
    /// The values of the flags that were left to the preset.
    ///
    /// # Errors
    /// Flags that do not go together.
    pub(super) fn effective(&self) -> anyhow::Result<Table> {
        let (mut training, lora) = self.settings()?;
        if !self.device.first().is_cpu() {
            training = training.on_gpu();
        }
        let mut values = as_flags(&training, &lora)?;
        if self.lora_path.is_some() {
            values.retain(|name, _| !name.starts_with("lora_"));
        }
        if self.group_by_modality_length.is_some() {
            values.remove("order");
        }
        Ok(values)
    }
}

/// Settings as flags.
fn as_flags(training: &TrainingConfig, lora: &LoraConfig) -> anyhow::Result<Table> {
    let settings = to_value(training)?;
    let mut values = Table::new();
    for name in SETTINGS
        .into_iter()
        .chain(["order", "gradient_checkpointing", "save_total_limit"])
    {
        let value = match (name, &settings[name]) {
            ("max_grad_norm" | "save_steps", Json::Null) => Value::Integer(0),
            ("pad_to_multiple_of", Json::Null) => Value::Integer(1),
            ("max_steps", Json::Null) => Value::Integer(-1),
            (_, Json::Null) => continue,
            (_, value) => Value::try_from(value)?,
        };
        values.insert(name.to_owned(), value);
    }
    values.insert("lora_r".to_owned(), Value::try_from(lora.rank)?);
    values.insert("lora_alpha".to_owned(), lora.alpha.into());
    values.insert("lora_dropout".to_owned(), lora.dropout.into());
    Ok(values)
}
