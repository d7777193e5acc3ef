//! Going on with a run: with the flags it began with, and never as another training.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

pub(crate) const SETTINGS: &str = "config.json";

/// The flags that a run began with.
pub(crate) fn began_with(folder: &Path) -> anyhow::Result<Vec<String>> {
    let settings = settings(folder)?;
    let flags = settings["flags"].as_array().map(|flags| {
        let flags = flags.iter().filter_map(Value::as_str);
        flags.map(str::to_owned).collect()
    });
    flags.with_context(|| format!("{} names no flags", folder.join(SETTINGS).display()))
}

fn settings(folder: &Path) -> anyhow::Result<Value> {
    let path = folder.join(SETTINGS);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("no run to go on with: cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Refuses to go on with what would be another training.
pub(crate) fn ensure_same_training(folder: &Path, now: &Value) -> anyhow::Result<()> {
    const MAY_DIFFER: [&str; 17] = [
        "num_train_epochs",
        "max_steps",
        "save_steps",
        "save_total_limit",
        "micro_batches",
        "on_bad_record",
        "early_stopping_patience",
        "dataloader_num_workers",
        // Ways to compute the same step: what helps after a run without memory has to be allowed.
        "gradient_checkpointing",
        "packing",
        "pad_to_multiple_of",
        "ddp_timeout",
        "tf32",
        // As many micro-batches in a step, by whatever devices, are the same training.
        "gradient_accumulation_steps",
        "peak_tflops",
        "report_to",
        "output_dir",
    ];
    let then = settings(folder)?;
    let per_step = |settings: &Value| {
        let accumulated = settings["training"]["gradient_accumulation_steps"].as_u64();
        accumulated.unwrap_or(1) * settings["world_size"].as_u64().unwrap_or(1)
    };
    ensure!(
        per_step(&then) == per_step(now),
        "a step had {} micro-batches on all devices together when the run began and has {} now; set --gradient_accumulation_steps so that \
         it has as many",
        per_step(&then),
        per_step(now)
    );
    for part in [
        "base",
        "data",
        "model_max_length",
        "template",
        "lora",
        "training",
    ] {
        let (then, now) = (&then[part], &now[part]);
        let Some(fields) = now.as_object() else {
            ensure!(
                then == now,
                "{part} was {then} when the run began and is {now} now"
            );
            continue;
        };
        for (field, now) in fields
            .iter()
            .filter(|(field, _)| !MAY_DIFFER.contains(&field.as_str()))
        {
            let then = &then[field];
            ensure!(
                then == now,
                "{part}.{field} was {then} when the run began and is {now} now; go on with what it began with, or begin another run"
            );
        }
    }
    Ok(())
}
