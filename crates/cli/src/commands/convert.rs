//! Writes a checkpoint in another layout or dtype; with `--adapter`, the adapter instead of the model.

use clap::Args;
use gallery_gpt::{
    checkpoint::{AdapterOrigin, Layout, SaveOptions, load_adapter, load_model, save_model},
    prelude::*,
};

use crate::args::{ModelPaths, OutputModel};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt convert --base llava-1.5-7b-hf --layout llava --dtype f16 --output_dir converted
  gallery-gpt convert --adapter llava-share4v-lora --layout llava_hf --output_dir adapter
  gallery-gpt convert --base Qwen-VL-Chat --dtype f16 --output_dir converted";

/// Writes a model, or with --adapter an adapter, in another layout or dtype.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelPaths,
    #[command(flatten)]
    output: OutputModel,
    /// Names of the tensors: of a LLaVA `llava_hf` (an adapter becomes one of PEFT's), `llava_hf_nested` (as transformers 5 names them in
    /// memory) or llava (the original's), of a Qwen-VL `qwen_vl` [default: `llava_hf`, or `qwen_vl`].
    #[arg(long)]
    layout: Option<Layout>,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = &arguments.model;
    let base = paths.base()?;
    let output = arguments.output.destination(&paths.inputs()?)?;
    let options = paths.load_options(None);
    let (model, report) = load_model(base, &DeviceKind::Cpu.device()?, &options)?;
    say!("{report}");
    let family = model.config().family;
    let layout = arguments.layout.unwrap_or(Layout::default_of(family));
    layout.ensure_stores(family)?;
    let output = output.apart_from([&report.tower.folder]);
    let written = arguments.output.output_dir.display();
    let Some(adapter) = paths.adapter() else {
        let options = SaveOptions {
            dtype: arguments.output.dtype,
            layout,
            max_shard_size: arguments.output.max_shard_size,
            companions: Some(base.to_owned()),
        };
        save_model(&model, output, &options)?;
        say!("written: {written}");
        return Ok(());
    };
    let (model, file) = load_adapter(model, adapter, &options)?;
    let origin = file.origin.unwrap_or(AdapterOrigin {
        base_model: file
            .base_model
            .unwrap_or_else(|| base.display().to_string()),
        vision_tower: report.tower.named,
        ..AdapterOrigin::default()
    });
    save_adapter(&model, &origin, output, layout.into())?;
    say!("written: {written}");
    Ok(())
}
