//! Shows what a checkpoint is and what would be loaded from it, without loading it; or what a device has, and which operations fall back
//! on it.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use gallery_gpt::{
    check_device,
    checkpoint::{
        AdapterFile, AdapterOrigin, ChatSettings, Checkpoint, Layout, LoadReport, inspect_adapter,
        verify_folder,
    },
    model::{GalleryModelConfig, ModelFamily},
    prelude::*,
};
use indicatif::HumanBytes;

use crate::args::ModelPaths;

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt inspect
  gallery-gpt inspect --base ShareGPT4V-7B --adapter llava-share4v-lora
  gallery-gpt inspect --device cuda";

/// Shows what a checkpoint is, or with --device what a device has and lacks.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelPaths,
    /// Show what this device (cpu, cuda or cuda:N) needs and what is there, and try it with small computations; no checkpoint is read.
    #[arg(long, conflicts_with_all = ["adapter", "vision_tower", "tensors"])]
    device: Option<DeviceKind>,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

/// Runs the command.
///
/// # Errors
/// A folder that is no model, or tensors that do not match.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.device {
        Some(device) => show_device(device),
        None => show_checkpoint(arguments),
    }
}

fn show_device(kind: DeviceKind) -> anyhow::Result<()> {
    say!("{}", DeviceReport::of(kind));
    for check in check_device(&kind.device()?) {
        say!("  {check}");
    }
    Ok(())
}

fn show_checkpoint(arguments: &Arguments) -> anyhow::Result<()> {
    let device = DeviceKind::Cpu.device()?;
    let base = arguments.model.base()?;
    let checkpoint = Checkpoint::open(base, &arguments.model.load_options(None))?;
    verify_folder(base)?;
    let report = checkpoint.check(&device);
    say!("{report}");
    show_model(&checkpoint, &report, arguments.tensors);
    let mut problems = report.problems.len();
    if let Some(folder) = arguments.model.adapter() {
        let adapter = inspect_adapter(checkpoint.config().init(&device), folder)?;
        say!(
            "
{}:",
            adapter.folder.display()
        );
        show_adapter(&adapter, checkpoint.layout());
        problems += adapter.problems.len();
    }
    if problems > 0 {
        bail!("{problems} tensors do not match");
    }
    Ok(())
}

fn show_model(checkpoint: &Checkpoint, report: &LoadReport, all: bool) {
    let mut files: BTreeMap<_, (usize, u64)> = BTreeMap::new();
    for used in &report.used {
        let (count, bytes) = files.entry(&used.file).or_default();
        *count += 1;
        *bytes += used.bytes;
        if all {
            say!(
                "  {} {} {}",
                used.key,
                used.dtype.torch(),
                used.parameters()
            );
        }
    }
    for (file, (count, bytes)) in files {
        say!(
            "  {count:>5} tensors, {} from {}",
            HumanBytes(bytes),
            file.display()
        );
    }
    for (part, parameters) in report.parts() {
        say!("  {parameters:>13} parameters in {part}");
    }
    let config = checkpoint.config();
    let (vision, llama) = (&config.vision, &config.llama);
    let features = match config.family {
        ModelFamily::QwenVl => "no class token, every layer used".to_owned(),
        _ => format!("select_layer {}", config.select_layer.0),
    };
    say!(
        "  tower {} wide, {} layers, {} px in patches of {}, {features}: {} tokens a picture",
        vision.hidden_size,
        vision.num_hidden_layers,
        vision.image_size,
        vision.patch_size,
        config.tokens_per_picture()
    );
    say!(
        "  decoder {} wide, {} layers, {} heads ({} for keys), {} words, context {}; projector {}; pictures {}",
        llama.hidden_size,
        llama.num_hidden_layers,
        llama.num_attention_heads,
        llama.num_key_value_heads,
        llama.vocab_size,
        llama.max_position_embeddings,
        config.projector,
        config.aspect_ratio
    );
    if let Some(chat) = checkpoint.chat_settings() {
        show_chat(config, chat);
    }
}

/// Prints what only a Qwen-VL has: its family, its context beyond the one of its training, and how it answers.
fn show_chat(config: &GalleryModelConfig, chat: &ChatSettings) {
    if let Some(long) = config.llama.long_context {
        let switch = |on| if on { "on" } else { "off" };
        say!(
            "  {}, trained on {} tokens; beyond them dynamic NTK is {} and log-n attention {}",
            config.family,
            long.seq_length,
            switch(long.dynamic_ntk),
            switch(long.log_n)
        );
    }
    let generation = &chat.generation;
    let sampling = if generation.do_sample() {
        let top_k = match generation.top_k {
            0 => "off".to_owned(),
            top_k => top_k.to_string(),
        };
        format!(
            "temperature {}, top_p {}, top_k {top_k}",
            generation.temperature, generation.top_p
        )
    } else {
        "greedy".to_owned()
    };
    say!(
        "  answers: {sampling}, at most {} tokens, ended by {:?}; earlier turns up to {} tokens",
        generation.max_new_tokens,
        config.end_ids,
        chat.max_window_size
    );
}

fn show_adapter(adapter: &AdapterFile, base: Layout) {
    let lora = &adapter.lora;
    let targets = lora.targets.iter();
    let targets: Vec<&str> = targets.map(|target| base.target_name(target)).collect();
    say!(
        "  {}: rank {}, alpha {}{}, dropout {}, on {}; {} tensors{}",
        adapter.layout,
        lora.rank,
        lora.alpha,
        if lora.use_rslora { " (rsLoRA)" } else { "" },
        lora.dropout,
        if targets.is_empty() {
            "nothing in the decoder's blocks".to_owned()
        } else {
            targets.join(" ")
        },
        adapter.used.len(),
        if adapter.has_projector {
            ", some of them the projector's"
        } else {
            ""
        }
    );
    if let Some(first) = adapter.changed_base.first() {
        say!(
            "  changes weights of the base when it is loaded: {} modules, the first is {first}",
            adapter.changed_base.len()
        );
    }
    if let Some(base) = &adapter.base_model {
        say!("  trained on {base}");
    }
    if let Some(origin) = &adapter.origin {
        show_origin(origin);
    }
    for problem in &adapter.problems {
        say!("  {problem}");
    }
}

/// Prints what an adapter records of its training.
fn show_origin(origin: &AdapterOrigin) {
    say!("  recorded at its training: base {}", origin.base_model);
    let size = origin.image_size.map(|size| format!("{size} px"));
    for (what, said) in [
        ("fingerprint of the base", &origin.base_fingerprint),
        ("vision tower", &origin.vision_tower),
        ("template", &origin.template),
        ("image_aspect_ratio", &origin.image_aspect_ratio),
        ("size of a picture", &size),
    ] {
        if let Some(said) = said {
            say!("    {what} {said}");
        }
    }
}
