//! Merges an adapter into its base and writes a model that needs no adapter.
//!
//! ```sh
//! gallery-gpt merge --adapter runs/finetune-1/adapter --output_dir merged
//! gallery-gpt merge --base ShareGPT4V-7B --adapter llava-share4v-lora --output_dir merged \
//!     --layout llava --dtype f16
//! ```

use std::path::PathBuf;

use clap::Args;
use gallery_gpt::{
    checkpoint::{Layout, SaveOptions, save_model},
    prelude::*,
};
use gallery_gpt_scenes::{QUESTIONS, Scene, paint};

use crate::args::{OutputFolder, model_folder, shard_size};

/// Merges an adapter into its base.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Arguments {
    /// Folder of the base, in any layout.
    #[arg(
        long,
        visible_aliases = ["model_base", "model_name_or_path"],
        default_value = "datasets/tiny-base",
        value_parser = model_folder
    )]
    base: PathBuf,
    /// Folder of the adapter, PEFT's or the original's.
    #[arg(long, visible_alias = "model_path")]
    adapter: PathBuf,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFolder,
    /// Whose names the tensors get: `llava_hf`, `llava_hf_nested` (transformers' in memory) or llava (the original's).
    #[arg(long, default_value = "llava_hf")]
    layout: Layout,
    /// f32, f16 or bf16; the base's by default.
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
    let device = DeviceKind::Cpu.device()?;
    let inputs = [&arguments.base, &arguments.adapter].into_iter();
    let inputs = inputs.chain(&arguments.vision_tower);
    let output = arguments.output.destination(inputs)?;
    let stored = LoadOptions {
        vision_tower: arguments.vision_tower.clone(),
        ..LoadOptions::default()
    };
    let gallery = GalleryGpt::load_with(&arguments.base, &device, &stored)?;
    say!("{}", gallery.report());
    let gallery = gallery.with_adapter(&arguments.adapter)?;
    for note in gallery.notes() {
        note!("note: {note}");
    }
    let picture = paint(&Scene::sample(0, 0));
    let prompt = gallery.prompt(QUESTIONS[0], vec![gallery.processor().process(&picture)])?;
    let with_adapter = gallery.logits(&prompt)?;

    // The decoder's, whatever it is computed in here.
    let stored = gallery.report().used.iter();
    let mut stored = stored.filter(|used| used.hub_key.starts_with("language_model."));
    let options = SaveOptions {
        dtype: arguments.dtype.or(stored.next().map(|used| used.dtype)),
        layout: arguments.layout,
        max_shard_size: arguments.max_shard_size,
        companions: Some(arguments.base.clone()),
    };
    let merged = gallery.model().clone().merge_lora();
    let output = output.apart_from([&gallery.report().tower.folder]);
    save_model(&merged, output, &options)?;
    drop(merged);
    let written = &arguments.output.output_dir;
    say!("written: {}", written.display());

    // The files themselves are checked, not what they were written from.
    let merged = GalleryGpt::load_with(written, &device, &LoadOptions::default())?;
    say!("{}", merged.report());
    let f32 = burn::tensor::DType::F32;
    let (a, b) = (with_adapter.cast(f32), merged.logits(&prompt)?.cast(f32));
    let largest = a.clone().abs().max().into_scalar::<f32>();
    let difference = (a.clone() - b.clone()).abs().max().into_scalar::<f32>();
    let same = a
        .argmax(2)
        .equal(b.argmax(2))
        .int()
        .sum()
        .into_scalar::<i64>();
    say!(
        "logits of {} tokens, adapter against merged: differ by at most {difference:.3e}, the largest is {largest:.3e}; the likeliest token is the same after {same}",
        prompt_len(&gallery, &prompt)
    );
    Ok(())
}

fn prompt_len(gallery: &GalleryGpt, prompt: &Prompt) -> usize {
    let per_picture = gallery.model().config().tokens_per_picture();
    prompt.input_ids.len() + prompt.pictures.len() * (per_picture - 1)
}
