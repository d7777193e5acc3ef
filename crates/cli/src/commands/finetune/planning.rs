//! What a training will need in parameters, memory and steps.

use gallery_gpt::{
    checkpoint::{Checkpoint, inspect_adapter},
    default_template,
    prelude::*,
    train::{AttentionMemory, AvailableMemory, PlannedModel, memory_saving_options},
};

use super::{arguments::Arguments, checked_records, parts_of, resume::in_flags};

/// `--plan`: from the base's config, its tokenizer and the records. Of the weights only names and shapes are read.
pub(crate) fn show_plan(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut training, mut lora) = arguments.settings()?;
    if attention(arguments) == AttentionMemory::Fused {
        training = training.on_gpu();
    }
    training.validate()?;
    let options = arguments.load_options(&training.script);
    let checkpoint = Checkpoint::open(&arguments.base, &options)?;
    let config = checkpoint.config().clone();
    training.parts = parts_of(training.parts, config.family);
    training.script.check(&config)?;
    if let Some(path) = &arguments.lora_path {
        lora = inspect_adapter(config.init(&Device::flex()), path)?.lora;
    }
    lora.validate()?;
    let template = arguments.template.template;
    let template = template.unwrap_or(default_template(config.family));
    let batcher = Batcher::new(
        Tokenizer::from_folder(&arguments.base)?,
        template.template(),
        checkpoint.image_processor().init(),
        &arguments.images,
        config.tokens_per_picture(),
        arguments.model_max_length,
    )
    .within_context(config.llama.max_position_embeddings);
    let records = checked_records(arguments, batcher)?;
    let left_out = records.bad().len();
    let records = records
        .allowed_by(training.on_bad_record)
        .map_err(in_flags)?;
    if left_out > 0 {
        say!("{left_out} records would be skipped");
    }
    let small = checkpoint.parameters() < 1_000_000_000;
    let bytes = match options.dtype {
        Some(TensorDtype::F32) => 4,
        None if attention(arguments) == AttentionMemory::Scores && small => 4,
        _ => 2,
    };
    let others = vec![Device::flex(); arguments.device.others().len()];
    let trainer = Trainer::new(training)?.with_devices(others);
    let model = PlannedModel {
        config: &config,
        lora: trainer.config().parts.saved_as_adapter().then_some(&lora),
        bytes,
        attention: attention(arguments),
        threads: rayon::current_num_threads(),
    };
    let plan = trainer.plan(&model, records.sizes());
    say!("{plan}");
    let there = match arguments.device_memory {
        Some(gigabytes) => Some(AvailableMemory {
            bytes: (gigabytes * 1e9) as u64,
            bound: "device_memory".to_owned(),
        }),
        None => free_memory(arguments),
    };
    let Some(memory) = there else {
        return Ok(());
    };
    let there = memory.bytes;
    let peak = plan.memory.peak;
    say!(
        "{:.2} GB of {memory}: {}",
        peak as f64 / 1e9,
        if peak <= there {
            "it fits"
        } else {
            "it does not fit"
        }
    );
    if peak > there {
        for option in memory_saving_options(trainer.config()) {
            say!("  {option}");
        }
    }
    // Every block that is recomputed costs time, so as few as the memory allows.
    match trainer.least_recompute(&model, records.sizes(), there) {
        Some(0) => say!("--gradient_checkpointing off fits, and is fastest"),
        Some(again) if again < config.llama.num_hidden_layers => {
            say!("--gradient_checkpointing {again} fits, and is fastest");
        }
        Some(_) => say!("--gradient_checkpointing blocks is needed"),
        None => say!("it does not fit with all blocks recomputed either"),
    }
    Ok(())
}

fn attention(arguments: &Arguments) -> AttentionMemory {
    if arguments.device.first().is_cpu() && arguments.device_memory.is_none() {
        AttentionMemory::Scores
    } else {
        AttentionMemory::Fused
    }
}

/// The memory that is free here, where the system tells it.
fn free_memory(arguments: &Arguments) -> Option<AvailableMemory> {
    let is_cpu = arguments.device.first().is_cpu();
    is_cpu.then(AvailableMemory::now).flatten()
}
