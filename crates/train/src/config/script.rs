//! The other arguments of the original's script: paths, settings of the model, and of its launcher.

use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Read},
    path::PathBuf,
    str::FromStr,
};

use gallery_gpt_model::GalleryModelConfig;
use gallery_gpt_text::UnknownName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TrainError, error::read_error};

/// Largest DeepSpeed config. Those in use are a few kilobytes.
const MAX_DEEPSPEED: u64 = 1 << 20;

/// Arguments of `finetune_task_lora.sh`, under their names. [`Trainer`](crate::Trainer) is given a model and records, so it uses none of
/// them; the command `finetune` does, and they are recorded in the run's `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptArguments {
    /// Folder of the base.
    pub model_name_or_path: PathBuf,
    /// Conversation template.
    pub version: String,
    /// Training records.
    pub data_path: PathBuf,
    /// Folder that their picture paths are relative to.
    pub image_folder: PathBuf,
    /// Folder of the run; `None` takes the first free one.
    pub output_dir: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the base names.
    pub vision_tower: Option<PathBuf>,
    /// Expected kind of the base's projector (`mlp2x_gelu`).
    pub mm_projector_type: Option<String>,
    /// Expected hidden state of the tower that the base uses.
    pub mm_vision_select_layer: Option<i64>,
    /// Expected way of making pictures square (`pad`).
    pub image_aspect_ratio: Option<String>,
    /// Tokens around a picture; only `false` is supported.
    pub mm_use_im_start_end: bool,
    /// A token for patches; only `false` is supported.
    pub mm_use_im_patch_token: bool,
    /// Longest record in tokens, pictures expanded.
    pub model_max_length: usize,
    /// Frozen weights in bf16. On a CPU, where that is slower than f32, `finetune` leaves them as they are stored.
    pub bf16: bool,
    /// Lets GPUs use TF32 in f32 matrix products.
    pub tf32: bool,
    /// Records are preprocessed when their batch is needed; only `true` is supported.
    pub lazy_preprocess: bool,
    /// Where the log is sent, beside the run folder.
    pub report_to: ReportTo,
    /// A DeepSpeed config: its clipping is used ([`deepspeed_clipping`]), its sharding is not.
    pub deepspeed: Option<PathBuf>,
}

/// Where a log is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportTo {
    /// Nowhere; the run folder has the log.
    #[default]
    None,
    /// Weights & Biases, as in the original. Nothing is sent by this library; `log.jsonl` can be uploaded.
    Wandb,
}

impl FromStr for ReportTo {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "wandb" => Ok(Self::Wandb),
            _ => Err(UnknownName::new("report_to", name, "none or wandb")),
        }
    }
}

impl Default for ScriptArguments {
    /// The sample and the base that come with the project, in the base's dtype.
    fn default() -> Self {
        Self {
            model_name_or_path: "datasets/tiny-base".into(),
            version: "v1".into(),
            data_path: "datasets/painting-form-mini/train_samples_tuning.json".into(),
            image_folder: "datasets/painting-form-mini".into(),
            output_dir: None,
            vision_tower: None,
            mm_projector_type: None,
            mm_vision_select_layer: None,
            image_aspect_ratio: None,
            mm_use_im_start_end: false,
            mm_use_im_patch_token: false,
            model_max_length: 2048,
            bf16: false,
            tf32: false,
            lazy_preprocess: true,
            report_to: ReportTo::None,
            deepspeed: None,
        }
    }
}

impl ScriptArguments {
    /// The values in the script.
    #[must_use]
    pub fn gallery_gpt() -> Self {
        Self {
            model_name_or_path: "./share4v/llava-7b".into(),
            version: "v1".into(),
            data_path: "./train_samples_tuning.json".into(),
            image_folder: "./art_images_data".into(),
            output_dir: Some("./checkpoints/llava-share4v-lora".into()),
            vision_tower: Some("Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12".into()),
            mm_projector_type: Some("mlp2x_gelu".into()),
            mm_vision_select_layer: Some(-2),
            image_aspect_ratio: Some("pad".into()),
            bf16: true,
            tf32: true,
            report_to: ReportTo::Wandb,
            deepspeed: Some("scripts/zero3.json".into()),
            ..Self::default()
        }
    }

    /// Compares the arguments about the model with a model.
    ///
    /// # Errors
    /// An argument that contradicts the model, or that is not supported.
    pub fn check(&self, model: &GalleryModelConfig) -> Result<(), TrainError> {
        let found = [
            (
                "mm_projector_type",
                self.mm_projector_type.clone(),
                model.projector.to_string(),
            ),
            (
                "mm_vision_select_layer",
                self.mm_vision_select_layer.map(|layer| layer.to_string()),
                model.select_layer.0.to_string(),
            ),
            (
                "image_aspect_ratio",
                self.image_aspect_ratio.clone(),
                model.aspect_ratio.to_string(),
            ),
            (
                "mm_use_im_start_end",
                Some(self.mm_use_im_start_end.to_string()),
                false.to_string(),
            ),
            (
                "mm_use_im_patch_token",
                Some(self.mm_use_im_patch_token.to_string()),
                false.to_string(),
            ),
            (
                "lazy_preprocess",
                Some(self.lazy_preprocess.to_string()),
                true.to_string(),
            ),
        ];
        for (argument, wanted, has) in found {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != has) {
                return Err(TrainError::Argument {
                    argument,
                    wanted,
                    has,
                });
            }
        }
        Ok(())
    }
}

/// The clipping that results from `max_grad_norm` and a DeepSpeed config. The trainer of transformers leaves clipping to DeepSpeed, which
/// clips only if its config has `gradient_clipping`: to the number there, or to `max_grad_norm` if it is `auto`. The original's
/// `zero3.json` and `zero2.json` have no such entry, so nothing is clipped; `zero3_offload.json` has `auto`.
///
/// # Errors
/// The file cannot be read, is not a JSON object, or its entry is neither a number nor `auto`.
pub fn deepspeed_clipping(
    path: &std::path::Path,
    max_grad_norm: f64,
) -> Result<Option<f64>, TrainError> {
    let damaged = |found: String| TrainError::DeepSpeed {
        path: path.to_owned(),
        found,
    };
    let read = || {
        // Checked before it is opened: a pipe would wait for a writer.
        if !fs::metadata(path)?.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "not a file"));
        }
        let mut text = String::new();
        File::open(path)?
            .take(MAX_DEEPSPEED + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(read_error(path))?;
    if text.len() as u64 > MAX_DEEPSPEED {
        return Err(damaged("more than 1 MiB".to_owned()));
    }
    let file: Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if !file.is_object() {
        return Err(damaged("not a JSON object".to_owned()));
    }
    match &file["gradient_clipping"] {
        Value::Null => Ok(None),
        Value::String(auto) if auto == "auto" => Ok(Some(max_grad_norm)),
        Value::Number(number) => Ok(number.as_f64().filter(|norm| *norm > 0.0)),
        other => Err(damaged(format!(
            "gradient_clipping {other}, expected a number or \"auto\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn clipping_is_what_deepspeed_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zero.json");
        for (text, expected) in [
            (r#"{"zero_optimization": {"stage": 3}}"#, None),
            (r#"{"gradient_clipping": "auto"}"#, Some(0.7)),
            (r#"{"gradient_clipping": 2.5}"#, Some(2.5)),
            (r#"{"gradient_clipping": 0.0}"#, None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(deepspeed_clipping(&path, 0.7).unwrap(), expected, "{text}");
        }
        let large = " ".repeat(MAX_DEEPSPEED as usize + 1);
        for text in ["", "[]", r#"{"gradient_clipping": true}"#, &large] {
            fs::write(&path, text).unwrap();
            let error = deepspeed_clipping(&path, 0.7).unwrap_err().to_string();
            assert!(
                error.contains("zero.json is not a DeepSpeed config"),
                "{error}"
            );
        }
        assert!(deepspeed_clipping(&folder.path().join("none"), 1.0).is_err());
    }

    #[test]
    fn an_argument_the_model_does_not_have_is_named() {
        let model = GalleryModelConfig::gallery_gpt_7b();
        let script = ScriptArguments::gallery_gpt();
        script.check(&model).unwrap();
        ScriptArguments::default().check(&model).unwrap();
        let wrong = [
            ScriptArguments {
                mm_vision_select_layer: Some(-1),
                ..script.clone()
            },
            ScriptArguments {
                mm_projector_type: Some("linear".into()),
                ..script.clone()
            },
            ScriptArguments {
                mm_use_im_start_end: true,
                ..script
            },
        ];
        let names = [
            "mm_vision_select_layer",
            "mm_projector_type",
            "mm_use_im_start_end",
        ];
        for (script, name) in wrong.iter().zip(names) {
            let error = script.check(&model).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
