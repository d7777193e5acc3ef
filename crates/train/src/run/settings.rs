//! The settings of a run, written as `config.json` before anything else and compared when it resumes.

use std::{collections::BTreeMap, path::Path};

use gallery_gpt_checkpoint::write_file;
use gallery_gpt_model::{GalleryModel, GalleryModelConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::RecordDigest;
use crate::{TrainError, TrainingConfig};

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Arguments with which the command `finetune` resumes the run; empty if another program began it.
    pub flags: Vec<String>,
    /// SHA-256 of the base's weights and of the files beside them, if they were given to the trainer.
    pub base: BTreeMap<String, String>,
    /// Dtype of the frozen weights.
    pub dtype: String,
    /// Sizes and constants of the model.
    pub model: Value,
    /// Settings of the adapters; empty without adapters.
    pub lora: Vec<LoraSettings>,
    /// Settings of the image processor.
    pub image_processor: String,
    /// The conversation template.
    pub template: String,
    /// Longest record in tokens, pictures expanded.
    pub model_max_length: usize,
    /// The settings of the training.
    pub training: TrainingConfig,
    /// Number of devices.
    pub world_size: usize,
    /// Number of threads.
    pub threads: usize,
    /// Digests of the records.
    pub records: RecordDigest,
    /// Digests of the validation records, if there are any.
    pub validation: Option<RecordDigest>,
}

/// Settings of adapters, under PEFT's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Rank.
    pub r: usize,
    /// Numerator of the scaling factor.
    pub lora_alpha: f64,
    /// Whether it is divided by the square root of the rank instead of the rank.
    pub use_rslora: bool,
    /// Dropout probability of the inputs.
    pub lora_dropout: f64,
    /// Seed of their initialization.
    pub seed: u64,
    /// Adapted linears.
    pub target_modules: Vec<String>,
    /// Their number in all blocks.
    pub linears: usize,
}

impl LoraSettings {
    /// Those of a model. Usually all adapters share the same settings.
    pub(crate) fn of(model: &GalleryModel) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (_, target, adapter) in model.language_model.adapters() {
            let lora = adapter.config();
            let same = |other: &&mut Self| {
                (
                    other.r,
                    other.lora_alpha,
                    other.use_rslora,
                    other.lora_dropout,
                    other.seed,
                ) == (
                    lora.rank,
                    lora.alpha,
                    lora.use_rslora,
                    lora.dropout,
                    lora.seed,
                )
            };
            let name = target.name().to_owned();
            if let Some(settings) = all.iter_mut().find(same) {
                settings.linears += 1;
                if !settings.target_modules.contains(&name) {
                    settings.target_modules.push(name);
                }
            } else {
                all.push(Self {
                    r: lora.rank,
                    lora_alpha: lora.alpha,
                    use_rslora: lora.use_rslora,
                    lora_dropout: lora.dropout,
                    seed: lora.seed,
                    target_modules: vec![name],
                    linears: 1,
                });
            }
        }
        all
    }
}

/// Name of their file in the run folder.
pub(super) const SETTINGS: &str = "config.json";

/// Settings that may differ when a run resumes: they do not change the training, or only its length.
const MAY_DIFFER: [&str; 23] = [
    "training.num_train_epochs",
    "training.max_steps",
    "training.save_steps",
    "training.save_total_limit",
    "training.on_bad_record",
    "training.early_stopping_patience",
    "training.dataloader_num_workers",
    // Ways to compute the same step, as remedies for a run that went out of memory.
    "training.micro_batches",
    "training.gradient_checkpointing",
    "training.packing",
    "training.pad_to_multiple_of",
    "training.ddp_timeout",
    "training.tf32",
    // Compared together with the number of devices, as micro-batches per step.
    "training.gradient_accumulation_steps",
    "training.peak_tflops",
    "training.report_to",
    // Paths: the contents are compared.
    "training.model_name_or_path",
    "training.data_path",
    "training.image_folder",
    "training.vision_tower",
    "training.deepspeed",
    // The effective length and dtype are compared as fields of their own.
    "training.model_max_length",
    "training.bf16",
];

impl RunSettings {
    /// Reads the settings of the run in a folder.
    ///
    /// # Errors
    /// The folder holds no run, or its settings cannot be read.
    pub fn read(run: &Path) -> Result<Self, TrainError> {
        let none = |found: String| TrainError::NoRun {
            run: run.to_owned(),
            found,
        };
        let path = run.join(SETTINGS);
        let text = match std::fs::read(&path) {
            Err(_) if !run.exists() => return Err(none("there is no such folder".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(none(format!("it has no {SETTINGS}")));
            }
            Err(source) => return Err(TrainError::Read { path, source }),
            Ok(text) => text,
        };
        serde_json::from_slice(&text).map_err(|error| {
            none(format!(
                "its {SETTINGS} is damaged or of another version of this library ({error})"
            ))
        })
    }

    fn text(&self, run: &Path) -> Result<String, TrainError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| TrainError::Write {
            path: run.join(SETTINGS),
            source: error.into(),
        })?;
        Ok(format!("{text}\n"))
    }

    pub(super) fn write(&self, run: &Path) -> Result<(), TrainError> {
        Ok(write_file(&run.join(SETTINGS), self.text(run)?.as_bytes())?)
    }

    /// As they are after being written and read.
    pub(super) fn as_written(&self, run: &Path) -> Result<Self, TrainError> {
        serde_json::from_str(&self.text(run)?).map_err(|error| TrainError::NoRun {
            run: run.to_owned(),
            found: error.to_string(),
        })
    }

    /// Sizes and constants of a model as JSON.
    pub(crate) fn model(config: &GalleryModelConfig) -> Value {
        json!({
            "llama": config.llama,
            "vision": config.vision,
            "projector": config.projector.to_string(),
            "select_layer": format!("{:?}", config.select_layer),
            "select_feature": format!("{:?}", config.select_feature),
            "aspect_ratio": config.aspect_ratio.to_string(),
        })
    }

    /// Refuses settings that would change the training that was begun.
    ///
    /// # Errors
    /// The first setting that differs and may not, by its name.
    pub(super) fn ensure_same(&self, now: &Self, run: &Path) -> Result<(), TrainError> {
        let changed = |what: &str, then: String, now: String| TrainError::Changed {
            run: run.to_owned(),
            what: what.to_owned(),
            then,
            now,
        };
        let per_step =
            |settings: &Self| settings.training.gradient_accumulation_steps * settings.world_size;
        if per_step(self) != per_step(now) {
            return Err(changed(
                "the number of micro-batches of a step, gradient_accumulation_steps on all devices together,",
                per_step(self).to_string(),
                per_step(now).to_string(),
            ));
        }
        // Values first: they say more than the digests of files.
        let parts = |settings: &Self| {
            json!({
                "training": settings.training,
                "lora": settings.lora,
                "template": settings.template,
                "model_max_length": settings.model_max_length,
                "dtype": settings.dtype,
                "model": settings.model,
                "image_processor": settings.image_processor,
            })
        };
        if let Some((what, then, now)) = difference("", &parts(self), &parts(now)) {
            return Err(changed(&what, then.to_string(), now.to_string()));
        }
        let (then, here) = (&self.base, &now.base);
        for name in then.keys().chain(here.keys()) {
            let digest = |files: &BTreeMap<String, String>| {
                files
                    .get(name)
                    .map_or_else(|| "not there".to_owned(), |sha256| short(sha256))
            };
            if then.get(name) != here.get(name) {
                let what = format!("the base's {name}");
                return Err(changed(&what, digest(then), digest(here)));
            }
        }
        self.records
            .ensure_same("training", Some(&now.records), changed)?;
        match (&self.validation, &now.validation) {
            (Some(then), now) => then.ensure_same("validation", now.as_ref(), changed),
            (None, Some(now)) => Err(changed(
                "the set of validation records",
                "none".to_owned(),
                format!("one of {}", now.count),
            )),
            (None, None) => Ok(()),
        }
    }
}

impl RecordDigest {
    fn ensure_same(
        &self,
        which: &str,
        now: Option<&Self>,
        changed: impl Fn(&str, String, String) -> TrainError,
    ) -> Result<(), TrainError> {
        let Some(now) = now else {
            let what = format!("the set of {which} records");
            return Err(changed(
                &what,
                format!("one of {}", self.count),
                "none".to_owned(),
            ));
        };
        let say =
            |digest: &Self, sha256: &str| format!("{} records, {}", digest.count, short(sha256));
        for (what, part) in [
            (
                "texts of the",
                (|digest| &digest.texts) as fn(&Self) -> &String,
            ),
            ("tokens, by tokenizer and template, of the", |digest| {
                &digest.tokens
            }),
            ("pictures of the", |digest| &digest.pictures.sha256),
        ] {
            if part(self) != part(now) {
                let what = format!("the {what} {which} records");
                return Err(changed(&what, say(self, part(self)), say(now, part(now))));
            }
        }
        Ok(())
    }
}

/// A digest, shortened for messages.
fn short(sha256: &str) -> String {
    let digits = sha256.strip_prefix("sha256:").unwrap_or(sha256);
    format!("SHA-256 {}", digits.get(..12).unwrap_or(digits))
}

/// The first value that differs and must not, with its path.
fn difference(at: &str, then: &Value, now: &Value) -> Option<(String, Value, Value)> {
    if then == now || MAY_DIFFER.contains(&at) {
        return None;
    }
    if let (Value::Array(then), Value::Array(now)) = (then, now)
        && let ([then], [now]) = (&then[..], &now[..])
    {
        return difference(at, then, now);
    }
    let (Some(then_fields), Some(now_fields)) = (then.as_object(), now.as_object()) else {
        return Some((at.to_owned(), then.clone(), now.clone()));
    };
    let names = then_fields.keys().chain(now_fields.keys());
    names.into_iter().find_map(|name| {
        let inner = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        difference(&inner, &then[name], &now[name])
    })
}
