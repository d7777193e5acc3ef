//! Arguments of the original's `train.py` and of transformers' trainer that have only one meaning here: accepted with that value, and
//! refused with a reason otherwise.

use std::ffi::OsString;

use anyhow::bail;

/// A name, the accepted values (case is ignored; an empty list accepts any), and why others are refused.
type Fixed = (&'static str, &'static [&'static str], &'static str);

const BOTH: &[&str] = &["True", "False"];
const ONLY_TRUE: &[&str] = &["True"];
const ONLY_FALSE: &[&str] = &["False"];

const FIXED: &[Fixed] = &[
    ("adafactor", ONLY_FALSE, "AdamW is the only optimizer"),
    ("attn_implementation", &[], ""),
    (
        "auto_find_batch_size",
        ONLY_FALSE,
        "the batch size is never changed; --plan tells what fits",
    ),
    (
        "average_tokens_across_devices",
        ONLY_TRUE,
        "--loss_mean sets what a loss is averaged over",
    ),
    (
        "bf16_full_eval",
        ONLY_FALSE,
        "validation runs in the dtypes of the training",
    ),
    (
        "bits",
        &["16"],
        "a base in 8 or 4 bits cannot be trained; --dtype sets the dtype of its weights",
    ),
    ("cache_dir", &[], ""),
    (
        "dataloader_drop_last",
        ONLY_FALSE,
        "the last batch is never left out",
    ),
    ("dataloader_persistent_workers", BOTH, ""),
    ("dataloader_pin_memory", BOTH, ""),
    ("ddp_find_unused_parameters", BOTH, ""),
    ("disable_tqdm", BOTH, ""),
    ("do_eval", BOTH, ""),
    (
        "do_predict",
        ONLY_FALSE,
        "evaluate does it, on a finished adapter",
    ),
    ("do_train", ONLY_TRUE, "training is what this program does"),
    ("double_quant", BOTH, ""),
    (
        "fp16_full_eval",
        ONLY_FALSE,
        "validation runs in the dtypes of the training",
    ),
    (
        "freeze_backbone",
        ONLY_FALSE,
        "leave out --lora_enable, or take --tune_mm_mlp_adapter True to train the projector alone",
    ),
    (
        "freeze_mm_mlp_adapter",
        ONLY_FALSE,
        "the projector is always trained",
    ),
    (
        "is_multimodal",
        ONLY_TRUE,
        "the model always has a vision tower",
    ),
    (
        "load_best_model_at_end",
        ONLY_FALSE,
        "the best adapter is in best/, the last in adapter/",
    ),
    ("local_rank", &[], ""),
    ("logging_dir", &[], ""),
    ("logging_first_step", BOTH, ""),
    (
        "logging_strategy",
        &["steps"],
        "--logging_steps sets how often",
    ),
    ("lora_bias", &["none"], "biases are not trained"),
    (
        "lora_weight_path",
        &[""],
        "--lora_path gives an adapter to train further",
    ),
    (
        "mm_patch_merge_type",
        &["flat"],
        "the patches of a picture are in row order",
    ),
    (
        "mm_vision_select_feature",
        &["patch"],
        "the features of the patches are what the base was trained with",
    ),
    (
        "optim",
        &["adamw_torch", "adamw_torch_fused", "adamw_hf"],
        "AdamW is the only optimizer",
    ),
    (
        "overwrite_output_dir",
        ONLY_FALSE,
        "a run is never overwritten; name another folder",
    ),
    (
        "pretrain_mm_mlp_adapter",
        &[""],
        "the projector is the base's; convert it into the base first",
    ),
    ("prediction_loss_only", BOTH, ""),
    ("push_to_hub", ONLY_FALSE, "nothing is sent anywhere"),
    (
        "quant_type",
        &["nf4", "fp4"],
        "--bits is 16, so nothing is quantized",
    ),
    ("remove_unused_columns", BOTH, ""),
    ("run_name", &[], ""),
    (
        "save_only_model",
        ONLY_FALSE,
        "a checkpoint always has what --resume needs",
    ),
    (
        "save_safetensors",
        ONLY_TRUE,
        "adapters are written as safetensors; convert writes other layouts",
    ),
    ("torch_compile", ONLY_FALSE, "PyTorch is not used"),
    (
        "unfreeze_mm_vision_tower",
        ONLY_FALSE,
        "the vision tower is never trained",
    ),
    ("use_cache", BOTH, ""),
    (
        "warmup_steps",
        &["0"],
        "give the fraction of all steps as --warmup_ratio",
    ),
];

/// The arguments of a command line without them. Names of flags have underscores here.
///
/// # Errors
/// One of them has a value that is not accepted.
pub(super) fn without_fixed(arguments: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let mut kept = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let flag = argument.to_str().and_then(|text| text.strip_prefix("--"));
        let (name, given) = match flag.map(|flag| flag.split_once('=').unwrap_or((flag, ""))) {
            Some((name, given)) => (name, given.to_owned()),
            None => ("", String::new()),
        };
        let Some((name, values, reason)) = FIXED.iter().find(|(fixed, ..)| *fixed == name) else {
            kept.push(argument);
            continue;
        };
        let value = match arguments.peek().and_then(|next| next.to_str()) {
            Some(next) if given.is_empty() && !next.starts_with("--") => {
                let value = next.to_owned();
                arguments.next();
                value
            }
            _ if given.is_empty() && values.contains(&"True") => "True".to_owned(),
            _ => given,
        };
        let taken = values
            .iter()
            .any(|taken| taken.eq_ignore_ascii_case(&value));
        if !values.is_empty() && !taken {
            bail!("--{name} {value}: {reason}");
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn without(line: &str) -> anyhow::Result<String> {
        let kept = without_fixed(line.split(' ').map(OsString::from).collect())?;
        let kept: Vec<_> = kept.iter().map(|text| text.to_string_lossy()).collect();
        Ok(kept.join(" "))
    }

    #[test]
    fn one_value_is_accepted_and_others_are_refused_with_a_reason() {
        let line = "finetune --bits 16 --base b --optim adamw_torch --do_train --run_name x --seed 3 --lora_bias=none";
        assert_eq!(without(line).unwrap(), "finetune --base b --seed 3");
        for (line, reason) in [
            (
                "finetune --bits 4 --seed 3",
                "--bits 4: a base in 8 or 4 bits",
            ),
            ("finetune --optim sgd", "AdamW is the only optimizer"),
            ("finetune --freeze_backbone true", "tune_mm_mlp_adapter"),
            ("finetune --overwrite_output_dir", "never overwritten"),
        ] {
            let error = without(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
