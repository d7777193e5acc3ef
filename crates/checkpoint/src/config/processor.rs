//! The image processor's settings: `preprocessor_config.json`, and `processor_config.json`, which may repeat or replace them.

use std::path::{Path, PathBuf};

use gallery_gpt_model::{GalleryModelConfig, ModelFamily};
use gallery_gpt_vision::{AspectRatio, FeatureSelect, ImageProcessorConfig, PreprocessorConfig};
use serde_json::json;

use super::fields::Fields;
use crate::{CheckpointError, file::json::read_json};

const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";

/// The file with the image processor's settings, and the settings.
pub(crate) struct Pictures {
    /// `None` if there is no such file.
    found: Option<(PathBuf, PreprocessorConfig)>,
}

impl Pictures {
    /// Reads the files of a model's folder, or else the one in its tower's folder, where the original has it.
    pub(crate) fn read(
        folder: &Path,
        tower: &Path,
        model: &GalleryModelConfig,
        notes: &mut Vec<String>,
    ) -> Result<Self, CheckpointError> {
        // As in transformers, `processor_config.json` takes precedence.
        if let Some(found) = read_processor(folder, model, notes)? {
            return Ok(Self { found: Some(found) });
        }
        for folder in [folder, tower] {
            let path = folder.join(PREPROCESSOR);
            if path.is_file() {
                let config = PreprocessorConfig::new(&path, read_json(&path)?)?;
                return Ok(Self {
                    found: Some((path, config)),
                });
            }
        }
        // Qwen-VL's code has CLIP's numbers in it.
        if model.family == ModelFamily::QwenVl {
            return Ok(Self { found: None });
        }
        notes.push(format!(
            "{} has no {PREPROCESSOR}: pictures are normalised with CLIP's mean and standard deviation",
            folder.display()
        ));
        Ok(Self { found: None })
    }

    /// How pictures are made square, if the model's config does not say so.
    pub(crate) fn aspect_ratio(&self, notes: &mut Vec<String>) -> AspectRatio {
        let found = self.found.as_ref();
        match found.and_then(|(_, config)| config.do_pad) {
            Some(true) => AspectRatio::Pad,
            Some(false) => AspectRatio::CenterCrop,
            None => {
                notes.push(
                    "neither config.json (image_aspect_ratio) nor preprocessor_config.json (do_pad) says how pictures are made square: they are padded, as LLaVA-1.5 was trained; transformers would crop the center"
                        .to_owned(),
                );
                AspectRatio::Pad
            }
        }
    }

    /// The settings, checked against a model.
    pub(crate) fn config(
        self,
        model: &GalleryModelConfig,
        notes: &mut Vec<String>,
    ) -> Result<ImageProcessorConfig, CheckpointError> {
        let expected = model.vision.image_size;
        let Some((path, file)) = self.found else {
            return Ok(ImageProcessorConfig::new(expected).with_aspect_ratio(model.aspect_ratio));
        };
        if file.image_size != expected {
            return Err(CheckpointError::Config {
                path,
                reason: format!(
                    "pictures are resized to {} pixels, but the vision tower takes {expected}; the file belongs to another model",
                    file.image_size
                ),
            });
        }
        notes.extend(file.notes.iter().cloned());
        Ok(file.with_aspect_ratio(&path, model.aspect_ratio)?)
    }
}

/// Reads `processor_config.json`: checks its settings of tokens against the model and returns those of the image processor.
fn read_processor(
    folder: &Path,
    model: &GalleryModelConfig,
    notes: &mut Vec<String>,
) -> Result<Option<(PathBuf, PreprocessorConfig)>, CheckpointError> {
    let path = folder.join(PROCESSOR);
    if !path.is_file() {
        return Ok(None);
    }
    let mut fields = Fields::new(&path, "", read_json(&path)?)?;
    let strategy = match model.select_feature {
        FeatureSelect::Patch => ["default", "patch"],
        FeatureSelect::ClsPatch => ["full", "cls_patch"],
    };
    fields.only("patch_size", &[json!(model.vision.patch_size)])?;
    fields.only(
        "vision_feature_select_strategy",
        &strategy.map(|name| json!(name)),
    )?;
    fields.only("num_additional_image_tokens", &[json!(1)])?;
    fields.only("image_token", &[json!("<image>")])?;
    let pictures = fields.take("image_processor");
    fields.ignore(&[
        "processor_class",
        "chat_template",
        "video_processor",
        "tokenizer",
    ]);
    fields.note_rest(notes);
    match pictures {
        None => Ok(None),
        Some(json) => {
            let config = PreprocessorConfig::new(&path, json)?;
            Ok(Some((path, config)))
        }
    }
}
