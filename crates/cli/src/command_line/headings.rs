//! Under which heading of the help a flag is: one name means one thing in every command.

use clap::Arg;

const HEADINGS: [(&str, &[&str]); 9] = [
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
            "template",
        ],
    ),
    (
        "Data",
        &[
            "data",
            "images",
            "model_max_length",
            "order",
            "group_by_modality_length",
            "on_bad_record",
            "max_bad_records",
            "references",
            "predictions",
            "questions",
        ],
    ),
    (
        "Run",
        &[
            "resume",
            "output_dir",
            "overwrite",
            "preset",
            "full_screen",
            "plan",
            "device_memory",
        ],
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
        ],
    ),
];

/// The flag under its heading; what is not listed stays under clap's own.
pub(super) fn under_its_heading(arg: Arg) -> Arg {
    let name = arg.get_long().unwrap_or_default();
    let heading = HEADINGS.iter().find(|(_, names)| names.contains(&name));
    match heading {
        Some((heading, _)) => arg.help_heading(*heading),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_flag_is_one() {
        let program = crate::commands::command();
        let flags: Vec<&str> = program
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter_map(Arg::get_long)
            .collect();
        for (heading, names) in HEADINGS {
            for name in names {
                assert!(flags.contains(name), "{heading}: {name}");
            }
        }
        let finetune = program.find_subcommand("finetune").expect("a command");
        for arg in finetune.get_arguments() {
            let name = arg.get_long().unwrap_or_default();
            assert!(
                arg.get_help_heading().is_some() || ["seed", "help", "version"].contains(&name),
                "{name} is under no heading"
            );
        }
    }
}
