//! The command line of the original's training script.

use crate::program;

/// `finetune --plan` with the arguments of the original's script; only the paths differ.
fn plan_as_pasted(more: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let deepspeed = folder.path().join("zero3.json");
    std::fs::write(&deepspeed, r#"{"zero_optimization": {"stage": 3}}"#).unwrap();
    let script = "--lora_enable True --lora_r 8 --lora_alpha 16 --mm_projector_lr 2e-5 \
        --model_name_or_path datasets/tiny-base --version v1 \
        --data_path datasets/painting-form-mini/train_samples_tuning.json --image_folder datasets/painting-form-mini \
        --mm_projector_type mlp2x_gelu --mm_vision_select_layer -2 --mm_use_im_start_end False \
        --mm_use_im_patch_token False --image_aspect_ratio pad --group_by_modality_length True --bf16 True \
        --output_dir ./checkpoints/llava-share4v-lora --num_train_epochs 2 --per_device_train_batch_size 16 \
        --per_device_eval_batch_size 4 --gradient_accumulation_steps 1 --evaluation_strategy no --save_strategy steps \
        --save_steps 2810 --save_total_limit 10 --learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 \
        --lr_scheduler_type cosine --logging_steps 1 --tf32 True --model_max_length 2048 \
        --gradient_checkpointing True --dataloader_num_workers 4 --lazy_preprocess True --report_to wandb \
        --tune_mm_mlp_adapter False";
    let mut command = program("finetune");
    command.args(script.split_whitespace()).arg("--deepspeed");
    command.arg(&deepspeed).arg("--plan").args(more);
    command.output().unwrap()
}

#[test]
fn the_originals_command_line_runs_as_pasted() {
    let newer = [
        "--num-train-epochs",
        "0.5",
        "--max_steps",
        "-1",
        "--optim",
        "adamw_torch",
        "--fp16",
        "False",
        "--eval_strategy",
        "no",
        "--per-device-train-batch-size=8",
        "--remove_unused_columns",
        "False",
    ];
    for (more, steps) in [(&[][..], " 50 steps"), (&newer[..], " 25 steps")] {
        let output = plan_as_pasted(more);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains(steps), "{text}");
    }
    for (more, reason) in [
        (["--lazy_preprocess", "FALSE"], "lazy_preprocess is false"),
        (
            ["--mm_use_im_start_end", "True"],
            "mm_use_im_start_end is true",
        ),
        (["--lora_enable", "perhaps"], "expected True or False"),
        (["--optim", "adafactor"], "AdamW is the only optimizer"),
        (["--report_to", "tensorboard"], "expected none or wandb"),
    ] {
        let output = plan_as_pasted(&more);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains(reason),
            "{error}"
        );
    }
}
