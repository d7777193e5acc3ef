//! Writing a model as a folder that transformers or the original's code opens.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::{
    module::Param,
    tensor::{DType, Tensor},
};
use gallery_gpt_model::{
    GalleryModel, GalleryModelConfig, ModelFamily, ParamVisitor, visit_params,
};
use gallery_gpt_projector::ProjectorKind;
use serde_json::json;

use crate::{
    AtomicFolder, CheckpointError, Destination, Layout, LazyTensor, TensorDtype, checkpoint_key,
    config::{
        json::{llava_hf_json, llava_json, vision_json},
        named_ids::GENERATION_CONFIG,
        qwen_vl::{POSITION_GRID, QUERIES, qwen_vl_json},
    },
    file::json::write_json,
    format::safetensors::write_weights,
};

/// Default size limit of a file in bytes, as in transformers.
const SHARD: u64 = 5_000_000_000;

/// Files beside a model's weights that are copied along.
const COMPANIONS: [&str; 16] = [
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    GENERATION_CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "qwen.tiktoken",
    "configuration_qwen.py",
    "modeling_qwen.py",
    "qwen_generation_utils.py",
    "tokenization_qwen.py",
    "visual.py",
    "SimSun.ttf",
];

/// How to save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Dtype of the tensors; the model's by default.
    pub dtype: Option<TensorDtype>,
    /// Layout to write.
    pub layout: Layout,
    /// Size limit of a file in bytes; a larger model is written in shards. A tensor is never split.
    pub max_shard_size: u64,
    /// Folder whose tokenizer, image processor and generation config are copied, if it has them.
    pub companions: Option<PathBuf>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            dtype: None,
            layout: Layout::LlavaHf,
            max_shard_size: SHARD,
            companions: None,
        }
    }
}

/// Writes a model's folder: `config.json` and the weights, in shards with an index if they are large. Adapters are left out: merge them
/// first, or save them with [`crate::save_adapter`].
///
/// In the llava-hf layout the embedding and the head get rows for the image and padding tokens, up to a multiple of 64. Each is the
/// mean of the real rows, so that none can be the most likely token. In the original's layout the vision tower is in a folder of its
/// own, `vision_tower`, which the config names.
///
/// # Errors
/// The layout cannot store the model, its weights are quantized, the folder is the companions' or has files that this library did not
/// write, or it cannot be written.
pub fn save_model(
    model: &GalleryModel,
    folder: impl Into<Destination>,
    options: &SaveOptions,
) -> Result<(), CheckpointError> {
    let folder = folder.into().apart_from(&options.companions);
    // Refused before the work is done.
    folder.check()?;
    if model.language_model.is_quantized() {
        return Err(CheckpointError::Quantized);
    }
    let config = model.config();
    options.layout.ensure_stores(config.family)?;
    if options.layout == Layout::QwenVl {
        ensure_fixed_sizes(config)?;
    }
    let is_hub = matches!(options.layout, Layout::LlavaHf | Layout::LlavaHfNested);
    if is_hub && config.projector != (ProjectorKind::MlpGelu { depth: 2 }) {
        return Err(CheckpointError::CannotStore {
            layout: options.layout,
            part: format!("a projector of kind {}", config.projector),
            instead: "the original's (llava)",
        });
    }
    if model.language_model.has_added_bias() {
        return Err(CheckpointError::DecoderBias);
    }
    let rows = config.llama.vocab_size;
    let stored_rows = if is_hub {
        let reserved = if config.reserved.is_some() { 0 } else { 2 };
        (rows + reserved).next_multiple_of(64)
    } else {
        rows
    };
    let mut collector = Collector {
        dtype: options.dtype,
        new_rows: stored_rows - rows,
        tensors: Vec::new(),
    };
    visit_params(model, &mut collector);
    let dtype = options
        .dtype
        .or(TensorDtype::from_burn(model.dtype()))
        .unwrap_or(TensorDtype::F32)
        .torch();
    let target = AtomicFolder::new(folder)?;
    let config = if is_hub {
        llava_hf_json(config, stored_rows, dtype)
    } else if options.layout == Layout::QwenVl {
        let companions = options.companions.as_ref();
        let mut json = qwen_vl_json(config, dtype);
        if !companions.is_some_and(|folder| folder.join(GENERATION_CONFIG).is_file()) {
            json["eos_token_id"] = json!(config.end_ids);
        }
        json
    } else {
        let (tower, rest) = collector
            .tensors
            .into_iter()
            .partition(|(key, _)| key.starts_with("vision_tower."));
        collector.tensors = rest;
        let tower: Vec<(String, LazyTensor)> = tower;
        let names = tower
            .into_iter()
            .map(|(key, tensor)| (key.trim_start_matches("vision_tower.").to_owned(), tensor));
        let tower_folder = target.folder("vision_tower")?;
        write_shards(&tower_folder, names.collect(), options.max_shard_size)?;
        write_json(
            &tower_folder.join("config.json"),
            &vision_json(&config.vision, dtype),
        )?;
        llava_json(config, "vision_tower", dtype)
    };
    let tensors = collector.tensors.into_iter();
    let tensors = tensors.map(|(key, tensor)| (options.layout.key_of(&key), tensor));
    write_shards(&target.file(""), tensors.collect(), options.max_shard_size)?;
    write_json(&target.file("config.json"), &config)?;
    if let Some(source) = &options.companions {
        for name in COMPANIONS {
            let from = source.join(name);
            if from.is_file() {
                let to = target.file(name);
                std::fs::copy(&from, &to)
                    .map_err(|source| CheckpointError::Write { path: to, source })?;
            }
        }
    }
    target.commit()
}

impl Layout {
    /// Checks that models of a family, and their adapters, can be saved in this layout.
    ///
    /// # Errors
    /// It is another family's.
    pub fn ensure_stores(self, family: ModelFamily) -> Result<(), CheckpointError> {
        if self.family() == family {
            return Ok(());
        }
        Err(CheckpointError::CannotStore {
            layout: self,
            part: format!("a model of {family}"),
            instead: match family {
                ModelFamily::QwenVl => "its own (qwen_vl)",
                _ => "llava-hf's (llava_hf)",
            },
        })
    }
}

/// Refuses sizes that Qwen-VL's code has in it, and that its config cannot say.
fn ensure_fixed_sizes(config: &GalleryModelConfig) -> Result<(), CheckpointError> {
    let grid = config.vision.position_grid;
    for (part, found, fixed) in [
        ("tokens a picture", config.tokens_per_picture(), QUERIES),
        (
            "rows of vision positions",
            grid.unwrap_or_default(),
            POSITION_GRID,
        ),
    ] {
        if found != fixed {
            return Err(CheckpointError::FixedSize {
                layout: Layout::QwenVl,
                part,
                found,
                fixed,
            });
        }
    }
    Ok(())
}

/// Writes `model.safetensors`, or shards of at most `limit` bytes and their index.
fn write_shards(
    folder: &Path,
    tensors: Vec<(String, LazyTensor)>,
    limit: u64,
) -> Result<(), CheckpointError> {
    let total: u64 = tensors.iter().map(|(_, tensor)| tensor.size()).sum();
    let mut shards: Vec<Vec<(String, LazyTensor)>> = vec![Vec::new()];
    let mut size = 0;
    for (key, tensor) in tensors {
        if size > 0 && size + tensor.size() > limit {
            shards.push(Vec::new());
            size = 0;
        }
        size += tensor.size();
        if let Some(last) = shards.last_mut() {
            last.push((key, tensor));
        }
    }
    let count = shards.len();
    if count == 1 {
        return write_weights(&folder.join("model.safetensors"), shards.remove(0));
    }
    let mut weight_map = BTreeMap::new();
    for (number, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        for (key, _) in &shard {
            weight_map.insert(key.clone(), name.clone());
        }
        write_weights(&folder.join(&name), shard)?;
    }
    write_json(
        &folder.join("model.safetensors.index.json"),
        &json!({ "metadata": { "total_size": total }, "weight_map": weight_map }),
    )
}

struct Collector {
    dtype: Option<TensorDtype>,
    new_rows: usize,
    /// By hub name.
    tensors: Vec<(String, LazyTensor)>,
}

impl ParamVisitor for Collector {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(wanted) = checkpoint_key(path) else {
            return;
        };
        let mut value = param.val();
        // The dimension of the parameter that runs over the vocabulary.
        let vocab_dim = match wanted.key.as_str() {
            "language_model.model.embed_tokens.weight" => Some(0),
            "language_model.lm_head.weight" => Some(1),
            _ => None,
        };
        if let Some(dim) = vocab_dim.filter(|_| self.new_rows > 0) {
            let dtype = value.dtype();
            let mean = value.clone().cast(DType::F32).mean_dim(dim).cast(dtype);
            value = Tensor::cat(vec![value, mean.repeat_dim(dim, self.new_rows)], dim);
        }
        self.tensors.push((
            wanted.key,
            LazyTensor::new(value, wanted.placement, self.dtype),
        ));
    }
}
