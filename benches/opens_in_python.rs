//! Writes a small random model of each family in every layout and lets transformers, peft and torch open it and compare logits.
//!
//! ```sh
//! python3 -m venv .venv && .venv/bin/pip install torch transformers peft safetensors
//! cargo bench -p gallery-gpt-benches --bench opens_in_python -- --python .venv/bin/python
//! ```

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use clap::Parser;
use gallery_gpt::{
    checkpoint::{AdapterLayout, Layout, SaveOptions, save_adapter, save_model},
    llama::LoraConfig,
    model::{GalleryModel, GalleryModelConfig},
    projector::ProjectorKind,
    vision::{ImageProcessorConfig, PixelValues, VisionConfig},
};
use gallery_gpt_scenes::{Scene, paint};
use serde_json::json;

/// Lets Python open what we write.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// A Python with torch, transformers, peft and safetensors.
    #[arg(long)]
    python: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    write(folder.path())?;
    write_qwen(folder.path())?;
    for script in ["opens_in_python.py", "opens_qwen_in_python.py"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let status = Command::new(&arguments.python)
            .arg(script)
            .arg(folder.path())
            .status()
            .with_context(|| arguments.python.display().to_string())?;
        ensure!(status.success(), "Python did not open everything");
    }
    Ok(())
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(7);
    let config = GalleryModelConfig::tiny();
    let base = config.init(&device);
    let picture = ImageProcessorConfig::new(config.vision.image_size)
        .init()
        .process(&paint(&Scene::sample(0, 0)));
    let ids = vec![1, 5, 6, -200, 7, 8, 9, 10];
    let pictures = [picture];
    let plan = base.plan(std::slice::from_ref(&ids), &pictures)?;
    let logits = |model: &GalleryModel| model.forward(&plan, model.pixel_values(&pictures));

    let shards = SaveOptions {
        max_shard_size: 40_000,
        ..SaveOptions::default()
    };
    let original = SaveOptions {
        layout: Layout::Llava,
        ..SaveOptions::default()
    };
    let before = logits(&base);
    save_model(&base, folder.join("base"), &SaveOptions::default())?;
    save_model(&base, folder.join("sharded"), &shards)?;
    save_model(&base, folder.join("original"), &original)?;
    let lora = LoraConfig::new(4, 8.0);
    let mut adapted = base.apply_lora(&lora);
    // B is zero at first; a step away from it, the adapter does something.
    adapted = burn::module::Module::map(adapted, &mut Nudge);
    save_adapter(
        &adapted,
        &"base".into(),
        folder.join("adapter"),
        AdapterLayout::Peft,
    )?;
    let path = folder.join("llava_lora");
    save_adapter(&adapted, &"base".into(), path, AdapterLayout::LlavaLora)?;
    let after = logits(&adapted);
    save_model(
        &adapted.merge_lora(),
        folder.join("merged"),
        &SaveOptions::default(),
    )?;

    let (words, patches) = (config.llama.vocab_size, config.tokens_per_picture());
    let expanded: Vec<i64> = ids
        .iter()
        .flat_map(|&id| match id {
            -200 => vec![words as i64; patches],
            id => vec![id],
        })
        .collect();
    let case = json!({
        "input_ids": [expanded],
        "words": words,
        "size": config.vision.image_size,
        "pixel_values": pictures[0].values(),
        "logits": numbers(before)?,
        "adapter_logits": numbers(after)?,
    });
    std::fs::write(folder.join("case.json"), case.to_string())?;
    Ok(())
}

/// The same of Qwen-VL-Chat's architecture, with a text that is short enough for every switch of its context to be off.
fn write_qwen(folder: &Path) -> anyhow::Result<()> {
    let device = Device::flex();
    let tiny = GalleryModelConfig::tiny_qwen_vl();
    let config = GalleryModelConfig {
        vision: VisionConfig {
            position_grid: Some(16),
            ..tiny.vision.clone()
        },
        projector: ProjectorKind::Resampler { queries: 256 },
        ..tiny
    };
    let base = config.init(&device);
    let ids = vec![5, 6, 7, 8, 9, 10, 300, 12];
    let pictures: [PixelValues; 0] = [];
    let plan = base.plan(std::slice::from_ref(&ids), &pictures)?;
    let logits = |model: &GalleryModel| model.forward(&plan, None);
    let options = SaveOptions {
        layout: Layout::QwenVl,
        max_shard_size: 400_000,
        ..SaveOptions::default()
    };
    let before = logits(&base);
    save_model(&base, folder.join("qwen"), &options)?;
    let lora = LoraConfig {
        rank: 4,
        ..LoraConfig::qwen_vl_chat()
    };
    let adapted = burn::module::Module::map(base.apply_lora(&lora), &mut Nudge);
    let path = folder.join("qwen_adapter");
    save_adapter(&adapted, &"qwen".into(), path, AdapterLayout::Peft)?;
    let after = logits(&adapted);
    save_model(&adapted.merge_lora(), folder.join("qwen_merged"), &options)?;
    let case = json!({
        "input_ids": [ids],
        "logits": numbers(before)?,
        "adapter_logits": numbers(after)?,
    });
    std::fs::write(folder.join("qwen.json"), case.to_string())?;
    Ok(())
}

fn numbers(tensor: Tensor<3>) -> anyhow::Result<Vec<f32>> {
    let data = tensor.into_data().try_into_vec();
    data.map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// Moves every adapter's B off zero.
struct Nudge;

impl burn::module::ModuleMapper for Nudge {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<Tensor<D>>,
    ) -> burn::module::Param<Tensor<D>> {
        param.map(|value| {
            if value.clone().abs().max().into_scalar::<f32>() == 0.0 && D == 2 {
                value + 0.03
            } else {
                value
            }
        })
    }
}
