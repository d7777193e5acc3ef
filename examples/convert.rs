//! Writes a checkpoint in another layout or number type; with `--adapter`, the adapter instead of the model.
//!
//! ```sh
//! cargo run --release --example convert -- --output_dir tiny-llava --layout llava --dtype f16
//! cargo run --release --example convert -- --base ShareGPT4V-7B --adapter llava-share4v-lora --output_dir adapter --layout llava_hf
//! ```

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::path::PathBuf;

use clap::Parser;
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, AdapterOrigin, Layout, SaveOptions, load_adapter, load_model, save_model,
    },
    prelude::*,
};

/// Writes a checkpoint in another layout.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder of the model, in any layout.
    #[arg(
        long,
        visible_alias = "model_base",
        default_value = "datasets/tiny-base"
    )]
    base: PathBuf,
    /// Folder of an adapter for it, PEFT's or the original's.
    #[arg(long, visible_alias = "model_path")]
    adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
    /// Folder to write.
    #[arg(long)]
    output_dir: PathBuf,
    /// Whose names the tensors get: `llava_hf` (for an adapter, PEFT's on it) or llava (the original's).
    #[arg(long)]
    layout: Layout,
    /// f32, f16 or bf16; the stored one by default.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// Largest file in bytes.
    #[arg(long, default_value_t = 5_000_000_000)]
    max_shard_size: u64,
}

fn main() -> anyhow::Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = LoadOptions {
        vision_tower: arguments.vision_tower.clone(),
        ..LoadOptions::default()
    };
    let (model, report) = load_model(&arguments.base, &DeviceKind::Cpu.device()?, &options)?;
    println!("{report}");
    let Some(adapter) = &arguments.adapter else {
        let options = SaveOptions {
            dtype: arguments.dtype,
            layout: arguments.layout,
            max_shard_size: arguments.max_shard_size,
            companions: Some(arguments.base.clone()),
        };
        save_model(&model, &arguments.output_dir, &options)?;
        println!("written: {}", arguments.output_dir.display());
        return Ok(());
    };
    let (model, file) = load_adapter(model, adapter, &options)?;
    let origin = file.origin.unwrap_or(AdapterOrigin {
        base_model: file
            .base_model
            .unwrap_or_else(|| arguments.base.display().to_string()),
        vision_tower: report.tower.named,
        ..AdapterOrigin::default()
    });
    let layout = match arguments.layout {
        Layout::Llava => AdapterLayout::LlavaLora,
        Layout::LlavaHf | Layout::LlavaHfNested => AdapterLayout::Peft,
    };
    save_adapter(&model, &file.lora, &origin, &arguments.output_dir, layout)?;
    println!("written: {}", arguments.output_dir.display());
    Ok(())
}
