//! `config.json`: transformers' LLaVA's, the original LLaVA's, or Qwen-VL-Chat's.
//!
//! Every field is read, refused by name if it asks for something that is not supported, or noted. Defaults are those of the
//! libraries' config classes, since the configs on the hub leave them out.

use std::path::Path;

use gallery_gpt_model::GalleryModelConfig;
use serde_json::Value;

use super::{
    fields::Fields,
    llava::{LlavaConfig, llava},
    llava_hf::{LlavaHfConfig, llava_hf},
    qwen_vl::qwen_vl,
};
use crate::{CheckpointError, file::json::read_json};

/// A `config.json`.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// The kind, with its settings.
    pub(crate) kind: ConfigKind,
    /// Remarks for the user, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// The kind of a config.
#[derive(Debug)]
pub(crate) enum ConfigKind {
    /// Transformers' LLaVA.
    LlavaHf(LlavaHfConfig),
    /// The original LLaVA's.
    Llava(LlavaConfig),
    /// Qwen-VL-Chat's.
    QwenVl(GalleryModelConfig),
}

/// Reads the `config.json` of a folder. `model_type` llava, `llava_llama`, share4v and qwen are accepted as they are.
pub(crate) fn read_config(folder: &Path) -> Result<ConfigFile, CheckpointError> {
    let path = folder.join("config.json");
    config_of(&path, read_json(&path)?)
}

fn config_of(path: &Path, json: Value) -> Result<ConfigFile, CheckpointError> {
    let mut fields = Fields::new(path, "", json)?;
    let mut notes = Vec::new();
    let is_qwen = match fields.text("model_type")?.as_deref() {
        None | Some("llava" | "llava_llama" | "share4v") => false,
        Some("qwen") => true,
        Some(kind) => {
            return Err(fields.wrong(
                "model_type",
                &format!("is `{kind}`, expected llava, llava_llama, share4v or qwen"),
            ));
        }
    };
    fields.refuse_quantized()?;
    let kind = if is_qwen {
        ConfigKind::QwenVl(qwen_vl(path, fields, &mut notes)?)
    } else if fields.has("text_config") || fields.has("vision_config") {
        ConfigKind::LlavaHf(llava_hf(path, fields, &mut notes)?)
    } else {
        ConfigKind::Llava(llava(path, fields, &mut notes)?)
    };
    Ok(ConfigFile { kind, notes })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::vision::vision_config_of, *};
    use crate::mutations::{self, Random, mutated};

    /// A value to put in place of one in a config.
    fn absurd(random: &mut Random) -> Value {
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1_u64 << 40),
            json!(65536),
            json!(1e300),
            json!(0.5),
            json!(""),
            json!("clip"),
            json!([]),
            json!([-2]),
            json!({}),
            json!({ "rope_type": "default" }),
        ];
        values[random.below(values.len())].clone()
    }

    fn replace_some(json: &mut Value, random: &mut Random) {
        let Value::Object(fields) = json else { return };
        for value in fields.values_mut() {
            match random.below(12) {
                0 => *value = absurd(random),
                _ => replace_some(value, random),
            }
        }
    }

    #[test]
    fn mutated_configs_are_read_or_refused() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = [
            "../datasets/tiny-base/config.json",
            "gallery-gpt/tests/goldens/gqa/model/hf_v5/config.json",
            "gallery-gpt/tests/goldens/gqa/model/llava_bin/config.json",
            "gallery-gpt/tests/goldens/qwen_basic/model/config.json",
            "gallery-gpt/tests/goldens/gqa/model/vision_tower/config.json",
            "gallery-gpt/tests/goldens/gqa/model/vision_tower_clipmodel/config.json",
        ];
        let files = files.map(|file| std::fs::read(crates.join(file)).unwrap());
        let path = Path::new("config.json");
        let mut taken = 0;
        let mut read = |json: &Value| {
            match config_of(path, json.clone()) {
                // No accepted config overflows when its sizes are multiplied.
                Ok(ConfigFile {
                    kind:
                        ConfigKind::LlavaHf(LlavaHfConfig { model, .. }) | ConfigKind::QwenVl(model),
                    ..
                }) => {
                    taken += 1;
                    assert!(model.llama.num_parameters() > 0 && model.vision.num_parameters() > 0);
                }
                Ok(_) => taken += 1,
                Err(error) => assert!(error.to_string().contains("config.json"), "{error}"),
            }
            let _ = vision_config_of(path, json.clone(), &mut Vec::new());
        };
        for number in 0..mutations::count() {
            if let Ok(json) = serde_json::from_slice(&mutated(&files, number)) {
                read(&json);
            }
            let mut random = Random::new(number);
            let mut json = serde_json::from_slice(&files[random.below(files.len())]).unwrap();
            replace_some(&mut json, &mut random);
            read(&json);
        }
        assert!(taken > 0, "no change was harmless");
    }
}
