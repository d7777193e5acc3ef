//! Checkpoints of the 7B shapes with random bf16 weights, in shards on disk.

use std::{borrow::Cow, path::Path};

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use clap::ValueEnum;
use gallery_gpt::{
    checkpoint::{Layout, Placement, checkpoint_key},
    model::{GalleryModelConfig, ParamVisitor, visit_params},
};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, View};
use serde_json::{Value, json};

/// Whose shape.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Family {
    /// LLaVA-1.5-7B: 14 GB.
    Llava,
    /// Qwen-VL-Chat: 19 GB.
    QwenVl,
}

/// Bytes of a shard, about.
const SHARD: u64 = 5_000_000_000;

/// Shapes of all parameters by their names in a layout, as a file holds them.
struct Shapes {
    layout: Layout,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ParamVisitor for Shapes {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(key) = checkpoint_key(path) {
            let mut shape = param.lazy_shape().to_vec();
            if key.placement == Placement::Transposed {
                shape.reverse();
            }
            self.shapes.push((self.layout.key_of(&key.key), shape));
        }
    }
}

/// A tensor that is made up when it is written.
struct Random {
    shape: Vec<usize>,
    seed: u64,
}

impl View for &Random {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        ChaCha8Rng::seed_from_u64(self.seed).fill_bytes(&mut bytes);
        // Small finite numbers: the exponent is held near that of 0.01.
        for pair in bytes.chunks_exact_mut(2) {
            pair[1] = (pair[1] & 0x80) | 0x3c;
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}

/// Writes a checkpoint in the layout that its family has on the hub, with progress; returns the bytes of the weights.
pub fn write(folder: &Path, family: Family) -> anyhow::Result<u64> {
    let (config, layout) = match family {
        Family::Llava => (GalleryModelConfig::gallery_gpt_7b(), Layout::LlavaHf),
        Family::QwenVl => (GalleryModelConfig::qwen_vl_chat(), Layout::QwenVl),
    };
    let mut shapes = Shapes {
        layout,
        shapes: Vec::new(),
    };
    visit_params(&config.init(&Device::flex()), &mut shapes);
    let mut shards: Vec<Vec<(String, Random)>> = vec![Vec::new()];
    let (mut size, mut total) = (0, 0);
    for (seed, (key, shape)) in shapes.shapes.into_iter().enumerate() {
        let bytes = 2 * shape.iter().product::<usize>() as u64;
        if size + bytes > SHARD {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes;
        total += bytes;
        let seed = seed as u64;
        if let Some(shard) = shards.last_mut() {
            shard.push((key, Random { shape, seed }));
        }
    }
    let progress = ProgressBar::new(shards.len() as u64).with_style(ProgressStyle::with_template(
        "writing {bar:30} {pos}/{len} shards, {elapsed} gone, {eta} left",
    )?);
    let mut weight_map = serde_json::Map::new();
    let count = shards.len();
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        for (key, _) in shard {
            weight_map.insert(key.clone(), json!(name));
        }
        let tensors = shard.iter().map(|(key, tensor)| (key, tensor));
        safetensors::serialize_to_file(tensors, None, &folder.join(&name))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    std::fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )?;
    let config = match family {
        Family::Llava => llava_json(&config),
        Family::QwenVl => qwen_vl_json(&config),
    };
    std::fs::write(folder.join("config.json"), config.to_string())?;
    Ok(total)
}

fn qwen_vl_json(config: &GalleryModelConfig) -> Value {
    let (vision, llama) = (&config.vision, &config.llama);
    json!({
        "model_type": "qwen",
        "seq_length": 2048,
        "hidden_size": llama.hidden_size,
        "intermediate_size": 2 * llama.intermediate_size,
        "num_hidden_layers": llama.num_hidden_layers,
        "vocab_size": llama.vocab_size,
        "visual": {
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "heads": vision.num_attention_heads,
            "mlp_ratio": 4.9231,
            "output_dim": llama.hidden_size,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "image_start_id": 151_857,
        },
    })
}

fn llava_json(config: &GalleryModelConfig) -> Value {
    let (vision, llama) = (&config.vision, &config.llama);
    json!({
        "model_type": "llava",
        "image_token_index": llama.vocab_size,
        "text_config": llama,
        "vision_config": {
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
        },
    })
}
