//! Merges an adapter into its base and writes a model that needs no adapter.

use anyhow::Context;
use clap::Args;
use gallery_gpt::{
    checkpoint::{Layout, SaveOptions, save_model},
    prelude::*,
};
use gallery_gpt_scenes::{QUESTIONS, Scene, paint};

use crate::args::{ModelPaths, OutputModel};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt merge --adapter runs/finetune-1/adapter --output_dir merged
  gallery-gpt merge --base ShareGPT4V-7B --adapter share4v-lora --output_dir merged --dtype f16";

/// Merges an adapter into its base, and checks the result.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES, mut_arg("adapter", |adapter| adapter.required(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelPaths,
    #[command(flatten)]
    output: OutputModel,
    /// Names of the tensors: of a LLaVA `llava_hf`, `llava_hf_nested` (as transformers 5 names them in memory) or llava (the original's),
    /// of a Qwen-VL `qwen_vl` [default: `llava_hf`, or `qwen_vl`].
    #[arg(long)]
    layout: Option<Layout>,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let device = DeviceKind::Cpu.device()?;
    let paths = &arguments.model;
    let base = paths.base()?;
    let output = arguments.output.destination(&paths.inputs()?)?;
    let adapter = paths.adapter();
    let adapter = adapter.context("--adapter is a whole model: there is no adapter to merge")?;
    let gallery = GalleryGpt::load_with(base, &device, &paths.load_options(None))?;
    say!("{}", gallery.report());
    let family = gallery.model().config().family;
    let layout = arguments.layout.unwrap_or(Layout::default_of(family));
    layout.ensure_stores(family)?;
    let gallery = gallery.with_adapter(adapter)?;
    for note in gallery.notes() {
        note!("note: {note}");
    }
    let picture = paint(&Scene::sample(0, 0));
    let prompt = gallery.prompt(QUESTIONS[0], vec![gallery.processor().process(&picture)])?;
    let with_adapter = gallery.logits(&prompt)?;

    // The decoder's stored dtype, whatever dtype it is computed in here.
    let stored = gallery.report().used.iter();
    let mut stored = stored.filter(|used| used.hub_key.starts_with("language_model."));
    let options = SaveOptions {
        dtype: arguments
            .output
            .dtype
            .or(stored.next().map(|used| used.dtype)),
        layout,
        max_shard_size: arguments.output.max_shard_size,
        companions: Some(base.to_owned()),
    };
    let merged = gallery.model().clone().merge_lora();
    let output = output.apart_from([&gallery.report().tower.folder]);
    save_model(&merged, output, &options)?;
    drop(merged);
    let written = &arguments.output.output_dir;
    say!("written: {}", written.display());

    // The written files are checked, not the model in memory.
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
