//! Writes a checkpoint in another layout or number type; with `--adapter`, the adapter instead of the model.
//!
//! ```sh
//! gallery-gpt convert --output_dir tiny-llava --layout llava --dtype f16
//! gallery-gpt convert --base ShareGPT4V-7B --adapter llava-share4v-lora --output_dir adapter --layout llava_hf
//! ```

use std::path::PathBuf;

use clap::Args;
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, AdapterOrigin, Layout, SaveOptions, load_adapter, load_model, save_model,
    },
    prelude::*,
};

use crate::args::{OutputFolder, model_folder, shard_size};

/// Writes a checkpoint in another layout.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Arguments {
    /// Folder of the model, in any layout.
    #[arg(
        long,
        visible_aliases = ["model_base", "model_name_or_path"],
        default_value = "datasets/tiny-base",
        value_parser = model_folder
    )]
    base: PathBuf,
    /// Folder of an adapter for it, PEFT's or the original's.
    #[arg(long, visible_alias = "model_path")]
    adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFolder,
    /// Whose names the tensors get: `llava_hf` (for an adapter, PEFT's on it), `llava_hf_nested` (transformers' in memory) or llava (the
    /// original's).
    #[arg(long)]
    layout: Layout,
    /// f32, f16 or bf16; the stored one by default.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// Largest file: bytes, or as 5GB or 500MiB.
    #[arg(long, default_value = "5GB", value_parser = shard_size)]
    max_shard_size: u64,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = LoadOptions {
        vision_tower: arguments.vision_tower.clone(),
        ..LoadOptions::default()
    };
    let inputs = [&arguments.base].into_iter();
    let inputs = inputs
        .chain(&arguments.adapter)
        .chain(&arguments.vision_tower);
    let output = arguments.output.destination(inputs)?;
    let (model, report) = load_model(&arguments.base, &DeviceKind::Cpu.device()?, &options)?;
    say!("{report}");
    let output = output.apart_from([&report.tower.folder]);
    let written = arguments.output.output_dir.display();
    let Some(adapter) = &arguments.adapter else {
        let options = SaveOptions {
            dtype: arguments.dtype,
            layout: arguments.layout,
            max_shard_size: arguments.max_shard_size,
            companions: Some(arguments.base.clone()),
        };
        save_model(&model, output, &options)?;
        say!("written: {written}");
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
    save_adapter(&model, &origin, output, layout)?;
    say!("written: {written}");
    Ok(())
}
