//! Which heading of the help a flag is listed under.

use clap::Arg;

/// The flags under each heading. A name that means something else in one command has its heading there.
const HEADINGS: [(&str, &[&str]); 13] = [
    (
        "Model",
        &[
            "base",
            "adapter",
            "vision_tower",
            "device",
            "ddp_timeout",
            "dtype",
            "bf16",
            "fp16",
            "tf32",
            "load_8bit",
            "load_4bit",
            "template",
        ],
    ),
    (
        "Data",
        &[
            "data",
            "image",
            "images",
            "together",
            "apply_orientation",
            "question",
            "questions",
            "num_chunks",
            "chunk_idx",
            "model_max_length",
            "order",
            "group_by_modality_length",
            "on_bad_record",
            "max_bad_records",
            "references",
            "predictions",
        ],
    ),
    (
        "Output",
        &[
            "output",
            "output_dir",
            "overwrite",
            "layout",
            "max_shard_size",
            "attention",
            "boxes",
            "phrase",
            "show",
            "shown",
            "tensors",
        ],
    ),
    (
        "Run",
        &["resume", "preset", "full_screen", "plan", "device_memory"],
    ),
    (
        "What is trained",
        &[
            "lora_path",
            "lora_enable",
            "lora_r",
            "lora_alpha",
            "lora_dropout",
            "tune_mm_mlp_adapter",
        ],
    ),
    (
        "Optimizer",
        &[
            "learning_rate",
            "mm_projector_lr",
            "weight_decay",
            "warmup_ratio",
            "lr_scheduler_type",
            "max_grad_norm",
            "num_train_epochs",
            "max_steps",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "loss_mean",
        ],
    ),
    (
        "Memory and speed",
        &[
            "gradient_checkpointing",
            "packing",
            "pad_to_multiple_of",
            "dataloader_num_workers",
            "per_device_eval_batch_size",
            "peak_tflops",
        ],
    ),
    (
        "Log, validation and checkpoints",
        &[
            "logging_steps",
            "evaluation_strategy",
            "eval_data",
            "eval_steps",
            "sample_images",
            "early_stopping_patience",
            "save_strategy",
            "save_steps",
            "save_total_limit",
        ],
    ),
    (
        "Compatibility with the original's script",
        &[
            "mm_projector_type",
            "mm_vision_select_layer",
            "mm_use_im_start_end",
            "mm_use_im_patch_token",
            "image_aspect_ratio",
            "lazy_preprocess",
            "report_to",
            "deepspeed",
        ],
    ),
    (
        "Generation",
        &[
            "temperature",
            "top_p",
            "top_k",
            "num_beams",
            "length_penalty",
            "early_stopping",
            "repetition_penalty",
            "no_repeat_ngram_size",
            "stop_strings",
            "max_new_tokens",
            "batch_size",
            "seed",
        ],
    ),
    (
        "Scores",
        &["tokenize", "wordnet", "on_bad_prediction", "resamples"],
    ),
    (
        "Server",
        &[
            "host",
            "port",
            "served_model_name",
            "allow_host",
            "allow_origin",
            "log_requests",
        ],
    ),
    (
        "Limits of the server",
        &[
            "queue",
            "connections",
            "body_limit",
            "in_flight_limit",
            "pictures",
            "deadline",
        ],
    ),
];

/// The flag under its heading, unless it has one already.
pub(super) fn under_its_heading(arg: Arg) -> Arg {
    let name = arg.get_long().unwrap_or_default();
    let heading = HEADINGS.iter().find(|(_, names)| names.contains(&name));
    match heading {
        Some((heading, _)) if arg.get_help_heading().is_none() => arg.help_heading(*heading),
        _ => arg,
    }
}

/// Every heading and name that is listed.
#[cfg(test)]
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let headings = HEADINGS.iter();
    headings.flat_map(|(heading, names)| names.iter().map(|name| (*heading, *name)))
}
