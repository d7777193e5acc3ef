//! The flags, with the names of the original's script.

use std::path::PathBuf;

use anyhow::bail;
use clap::{ArgAction::Set, Parser, ValueEnum};
use gallery_gpt::{
    data::Order,
    model::Packing,
    prelude::*,
    text::UnknownName,
    train::{
        LossMean, MicroBatches, OnBadRecord, Recompute, ReportTo, SchedulerType, ScriptArguments,
        TrainableParts, deepspeed_clipping,
    },
};

use crate::{
    args::{
        TrainingTemplate, cached_folder,
        sample::{SAMPLE, TINY_BASE, TRAINING_RECORDS},
    },
    command_line::spelling::boolean,
};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt finetune
  gallery-gpt finetune --preset gallery_gpt --base llava-1.5-7b-hf --device cuda:0,cuda:1 \\
      --data train_samples_tuning.json --images art_images_data
  gallery-gpt finetune --resume runs/finetune-1";

/// Finetunes a base model with LoRA on records of paintings.
#[derive(Parser)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Resume the run in this folder, with the flags it began with. Flags may be given to train longer (`--num_train_epochs`,
    /// `--max_steps`), to save at other steps, on other devices, or in less memory (`--gradient_checkpointing`, `--packing`); a flag that
    /// would make it another training is refused.
    #[arg(long, visible_alias = "resume_from_checkpoint")]
    pub(crate) resume: Option<PathBuf>,
    /// Folder of the base model, in any layout, with its tokenizer; or its name on the hub, if it is in the hub's cache.
    #[arg(long, visible_aliases = ["model_name_or_path", "model_base"], default_value = TINY_BASE, value_parser = cached_folder)]
    pub(crate) base: PathBuf,
    /// Training records (`train_samples_tuning.json`).
    #[arg(long, visible_alias = "data_path", default_value = TRAINING_RECORDS)]
    pub(crate) data: PathBuf,
    /// Folder that the records' picture paths are relative to.
    #[arg(long, visible_alias = "image_folder", default_value = SAMPLE)]
    pub(crate) images: PathBuf,
    /// Folder of the run; by default the first free runs/finetune-N.
    #[arg(long, help_heading = "Run")]
    pub(crate) output_dir: Option<PathBuf>,
    /// cpu, cuda or cuda:N; several, separated by commas, share the micro-batches of every step.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Devices,
    /// Seconds that each of several devices may take for a step; then the run ends and names the device.
    #[arg(long)]
    pub(crate) ddp_timeout: Option<f64>,
    /// Print what the training will need, in parameters, memory and steps, and exit; no weight is read.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Plan for a GPU with this many GB, with fused attention and 16-bit weights; without it, for the CPU and its free memory.
    #[arg(long, requires = "plan")]
    pub(crate) device_memory: Option<f64>,
    /// Show the training on the whole screen; q leaves the view, and the training continues.
    #[arg(long)]
    pub(crate) full_screen: bool,
    /// Dtype of the frozen weights: f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the stored dtype
    /// for large ones.
    #[arg(long)]
    pub(crate) dtype: Option<TensorDtype>,
    /// Frozen weights in bf16, as with `--dtype bf16`; a preset sets it on GPUs only.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub(crate) bf16: Option<bool>,
    /// Frozen weights in f16, as with `--dtype f16`.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub(crate) fp16: Option<bool>,
    /// Let GPUs round the factors of f32 matrix products to TF32.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub(crate) tf32: Option<bool>,
    /// Folder of the vision tower, in place of the one that the base names.
    #[arg(long)]
    pub(crate) vision_tower: Option<PathBuf>,
    /// The projector that the base must have, such as `mlp2x_gelu`.
    #[arg(long)]
    pub(crate) mm_projector_type: Option<String>,
    /// The hidden state of the vision tower that the base must use.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) mm_vision_select_layer: Option<i64>,
    /// Only False is supported.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = Set)]
    pub(crate) mm_use_im_start_end: bool,
    /// Only False is supported.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = Set)]
    pub(crate) mm_use_im_patch_token: bool,
    /// How the base must make pictures square (pad).
    #[arg(long)]
    pub(crate) image_aspect_ratio: Option<String>,
    /// Only True is supported: records are prepared when their batch is due.
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = Set)]
    pub(crate) lazy_preprocess: bool,
    /// none or wandb; nothing is sent either way, the run folder has the whole log.
    #[arg(long)]
    pub(crate) report_to: Option<ReportTo>,
    /// A DeepSpeed config: as there, gradients are clipped only if it has `gradient_clipping`.
    #[arg(long)]
    pub(crate) deepspeed: Option<PathBuf>,
    /// Defaults of the other flags: for the sample, those of the original's script (`gallery_gpt`), or those of Qwen-VL's
    /// (`qwen_vl_chat`); their help gives all.
    #[arg(long, value_enum, default_value_t = Preset::Sample)]
    pub(crate) preset: Preset,
    #[command(flatten)]
    pub(crate) template: TrainingTemplate,
    /// Folder of an adapter to train further, PEFT's or the original's, in place of a new one. It keeps its rank, alpha and dropout.
    #[arg(long, conflicts_with_all = ["lora_r", "lora_alpha", "lora_dropout"])]
    pub(crate) lora_path: Option<PathBuf>,
    /// Train LoRA adapters of the decoder, and the projector; False trains the whole decoder.
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = Set)]
    pub(crate) lora_enable: bool,
    /// Train the projector only.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = Set)]
    pub(crate) tune_mm_mlp_adapter: bool,
    /// Rank of the adapters.
    #[arg(long)]
    pub(crate) lora_r: Option<usize>,
    /// Alpha of the adapters: their scale is alpha / rank.
    #[arg(long)]
    pub(crate) lora_alpha: Option<f64>,
    /// Dropout of the adapters' inputs.
    #[arg(long)]
    pub(crate) lora_dropout: Option<f64>,
    /// Peak learning rate.
    #[arg(long, visible_alias = "lr")]
    pub(crate) learning_rate: Option<f64>,
    /// Peak learning rate of the projector; if not set, `--learning_rate`.
    #[arg(long)]
    pub(crate) mm_projector_lr: Option<f64>,
    /// Weight decay; norms and biases are never decayed.
    #[arg(long)]
    pub(crate) weight_decay: Option<f64>,
    /// Fraction of the steps over which the learning rate rises.
    #[arg(long)]
    pub(crate) warmup_ratio: Option<f64>,
    /// Schedule of the learning rate: cosine, linear, `constant_with_warmup` or constant.
    #[arg(long)]
    pub(crate) lr_scheduler_type: Option<SchedulerType>,
    /// Global norm that gradients are clipped to; 0 is off.
    #[arg(long)]
    pub(crate) max_grad_norm: Option<f64>,
    /// Epochs; 0.5 is half of the records.
    #[arg(long, visible_alias = "epochs")]
    pub(crate) num_train_epochs: Option<f64>,
    /// Stop after this many steps; -1 is no limit.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) max_steps: Option<i64>,
    /// Records per micro-batch.
    #[arg(long)]
    pub(crate) per_device_train_batch_size: Option<usize>,
    /// Micro-batches per step.
    #[arg(long)]
    pub(crate) gradient_accumulation_steps: Option<usize>,
    /// What the loss of a step is averaged over: its supervised tokens (step), or the means of its micro-batches (`micro_batches`), as
    /// in the original.
    #[arg(long)]
    pub(crate) loss_mean: Option<LossMean>,
    /// Order of the records: sequential, shuffled, `group_by_length`, or `gallery_gpt` (the original's, which never shuffles).
    #[arg(long)]
    pub(crate) order: Option<Order>,
    /// True groups records of similar length (with the preset `gallery_gpt` in the original's order), False shuffles them.
    #[arg(long, conflicts_with = "order", num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub(crate) group_by_modality_length: Option<bool>,
    /// Pack the records of a micro-batch into one row, without padding: off or `one_row`.
    #[arg(long, num_args = 0..=1, default_missing_value = "one_row", value_parser = packing)]
    pub(crate) packing: Option<Packing>,
    /// Pad lengths to a multiple of this; by default 64 on GPUs, and 1 on a CPU.
    #[arg(long)]
    pub(crate) pad_to_multiple_of: Option<usize>,
    /// Records per validation batch.
    #[arg(long)]
    pub(crate) per_device_eval_batch_size: Option<usize>,
    /// Threads that decode pictures ahead of the step; 0 uses the step's own.
    #[arg(long)]
    pub(crate) dataloader_num_workers: Option<usize>,
    /// Steps between lines of the log.
    #[arg(long)]
    pub(crate) logging_steps: Option<usize>,
    /// Peak TFLOP/s of the device; with it the log has the model FLOPs utilization.
    #[arg(long)]
    pub(crate) peak_tflops: Option<f64>,
    /// steps validates every `--eval_steps`, no never does.
    #[arg(long, visible_alias = "eval_strategy", value_enum)]
    pub(crate) evaluation_strategy: Option<Strategy>,
    /// steps saves every `--save_steps`, no never does.
    #[arg(long, value_enum)]
    pub(crate) save_strategy: Option<Strategy>,
    /// Recompute the decoder's blocks in the backward pass: off or False, blocks or True, or a number for so many of the first blocks.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = recompute)]
    pub(crate) gradient_checkpointing: Option<Recompute>,
    /// Validation records, in the form of the training records.
    #[arg(long)]
    pub(crate) eval_data: Option<PathBuf>,
    /// Pictures that the model describes during the training, for the run's page; by default some test paintings of the sample.
    #[arg(long, num_args = 1..)]
    pub(crate) sample_images: Vec<PathBuf>,
    /// Steps between validations, and between descriptions of the sample pictures; 0 has both at the end only.
    #[arg(long)]
    pub(crate) eval_steps: Option<usize>,
    /// Stop after this many validations without a new best loss.
    #[arg(long, requires = "eval_data")]
    pub(crate) early_stopping_patience: Option<usize>,
    /// Steps between checkpoints; 0 writes none.
    #[arg(long)]
    pub(crate) save_steps: Option<usize>,
    /// Checkpoints to keep: the newest.
    #[arg(long)]
    pub(crate) save_total_limit: Option<usize>,
    /// Maximum length of a record in tokens, those of its pictures included.
    #[arg(long, default_value_t = 2048)]
    pub(crate) model_max_length: usize,
    /// What to do about a record that cannot be used: end the run, or skip it and list it in the run folder.
    #[arg(long, value_enum, default_value_t = BadRecordPolicy::Fail)]
    pub(crate) on_bad_record: BadRecordPolicy,
    /// Maximum number of records to skip.
    #[arg(long, default_value_t = 100)]
    pub(crate) max_bad_records: usize,
    /// Seed of new adapters, of the order and of dropout.
    #[arg(long, help_heading = "Optimizer", default_value_t = 42)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Preset {
    Sample,
    GalleryGpt,
    QwenVlChat,
}

impl Preset {
    /// Its settings.
    pub(super) fn settings(self) -> (TrainingConfig, LoraConfig) {
        match self {
            Self::Sample => (
                TrainingConfig {
                    num_train_epochs: 8.0,
                    per_device_train_batch_size: 8,
                    gradient_accumulation_steps: 2,
                    micro_batches: MicroBatches::InParallel,
                    order: Order::GroupByLength,
                    eval_steps: 50,
                    save_steps: Some(100),
                    ..TrainingConfig::lora(4e-3)
                },
                LoraConfig::new(16, 32.0),
            ),
            Self::GalleryGpt => (TrainingConfig::gallery_gpt(), LoraConfig::gallery_gpt()),
            Self::QwenVlChat => (TrainingConfig::qwen_vl_chat(), LoraConfig::qwen_vl_chat()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Strategy {
    No,
    Steps,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum BadRecordPolicy {
    Fail,
    Skip,
}

/// `off`, `one_row`, or a boolean.
fn packing(text: &str) -> Result<Packing, UnknownName> {
    match boolean(text) {
        Ok(true) => Ok(Packing::OneRow),
        Ok(false) => Ok(Packing::Off),
        Err(_) => text.parse(),
    }
}

/// What [`Recompute`] reads, with True and False in any case.
fn recompute(text: &str) -> Result<Recompute, UnknownName> {
    text.to_ascii_lowercase().parse()
}

impl Arguments {
    /// Refuses default paths that do not exist, and says that they are defaults.
    pub(crate) fn ensure_defaults_are_there(&self) -> anyhow::Result<()> {
        for (path, default, flag) in [
            (&self.base, TINY_BASE, "--base"),
            (&self.images, SAMPLE, "--data and --images"),
        ] {
            if path.ends_with(default) && !path.exists() {
                bail!(
                    "no such folder: {} (the default); run in the repository, or give {flag}",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// The settings: the preset's, changed by the flags.
    ///
    /// # Errors
    /// Flags that do not go together, or a DeepSpeed file that cannot be read.
    pub(crate) fn settings(&self) -> anyhow::Result<(TrainingConfig, LoraConfig)> {
        let (mut training, mut lora) = self.preset.settings();
        let said = [
            ("--bf16 True", self.bf16 == Some(true)),
            ("--fp16 True", self.fp16 == Some(true)),
            ("--dtype", self.dtype.is_some()),
        ];
        let said: Vec<_> = said
            .iter()
            .filter(|(_, said)| *said)
            .map(|(flag, _)| *flag)
            .collect();
        if said.len() > 1 {
            bail!("{} both set the dtype; give one", said.join(" and "));
        }
        if self.tune_mm_mlp_adapter && self.lora_path.is_some() {
            bail!(
                "--tune_mm_mlp_adapter True trains the projector only, --lora_path an adapter; give one"
            );
        }
        fn set<T>(field: &mut T, flag: Option<T>) {
            if let Some(value) = flag {
                *field = value;
            }
        }
        set(&mut lora.rank, self.lora_r);
        set(&mut lora.alpha, self.lora_alpha);
        set(&mut lora.dropout, self.lora_dropout);
        lora.seed = self.seed;
        training.parts = match (self.tune_mm_mlp_adapter, self.lora_enable) {
            (true, _) => TrainableParts::PROJECTOR,
            (false, true) => TrainableParts::LORA,
            (false, false) => TrainableParts::FULL_FINETUNE,
        };
        set(&mut training.learning_rate, self.learning_rate);
        training.mm_projector_lr = self.mm_projector_lr.or(training.mm_projector_lr);
        set(&mut training.weight_decay, self.weight_decay);
        set(&mut training.warmup_ratio, self.warmup_ratio);
        set(&mut training.lr_scheduler_type, self.lr_scheduler_type);
        if let Some(norm) = self.max_grad_norm {
            training.max_grad_norm = (norm != 0.0).then_some(norm);
        }
        if let Some(file) = &self.deepspeed {
            training.max_grad_norm = deepspeed_clipping(file, self.max_grad_norm.unwrap_or(1.0))?;
        }
        set(&mut training.packing, self.packing);
        set(
            &mut training.per_device_eval_batch_size,
            self.per_device_eval_batch_size,
        );
        set(
            &mut training.dataloader_num_workers,
            self.dataloader_num_workers,
        );
        set(&mut training.ddp_timeout, self.ddp_timeout);
        set(&mut training.logging_steps, self.logging_steps);
        training.peak_tflops = self.peak_tflops;
        let order = self
            .group_by_modality_length
            .map(|group| match (group, self.preset) {
                (false, _) => Order::Shuffled,
                (true, Preset::Sample | Preset::QwenVlChat) => Order::GroupByLength,
                (true, Preset::GalleryGpt) => Order::GalleryGpt,
            });
        set(&mut training.order, self.order.or(order));
        set(&mut training.num_train_epochs, self.num_train_epochs);
        if let Some(steps) = self.max_steps {
            training.max_steps = match steps {
                -1 => None,
                1.. => Some(steps as usize),
                _ => bail!("--max_steps {steps}: expected at least 1, or -1 for no limit"),
            };
        }
        set(&mut training.loss_mean, self.loss_mean);
        set(
            &mut training.per_device_train_batch_size,
            self.per_device_train_batch_size,
        );
        set(
            &mut training.gradient_accumulation_steps,
            self.gradient_accumulation_steps,
        );
        set(
            &mut training.gradient_checkpointing,
            self.gradient_checkpointing,
        );
        if let Some(steps) = self.save_steps {
            training.save_steps = (steps != 0).then_some(steps);
        }
        set(&mut training.eval_steps, self.eval_steps);
        training.early_stopping_patience = self.early_stopping_patience;
        set(&mut training.save_total_limit, self.save_total_limit);
        match self.save_strategy {
            Some(Strategy::No) => training.save_steps = None,
            Some(Strategy::Steps) if training.save_steps.is_none() => {
                bail!("--save_strategy steps needs --save_steps of at least 1")
            }
            _ => {}
        }
        match (self.evaluation_strategy, &self.eval_data) {
            (Some(Strategy::Steps), None) => bail!("--evaluation_strategy steps needs --eval_data"),
            (Some(Strategy::No), Some(_)) => {
                bail!("--eval_data is given, but --evaluation_strategy is no")
            }
            _ => {}
        }
        self.script(&mut training.script);
        training.pad_to_multiple_of = self.pad_to_multiple_of;
        training.on_bad_record = match self.on_bad_record {
            BadRecordPolicy::Fail => OnBadRecord::Fail,
            BadRecordPolicy::Skip => OnBadRecord::Skip {
                max: self.max_bad_records,
            },
        };
        training.seed = self.seed;
        Ok((training, lora))
    }

    /// The arguments that are paths, or say how the model is read. Without a flag, the preset decides what the base must be and the dtype;
    /// it sets no path.
    fn script(&self, script: &mut ScriptArguments) {
        let preset = std::mem::take(script);
        *script = ScriptArguments {
            model_name_or_path: self.base.clone(),
            version: self.template.template.unwrap_or_default().to_string(),
            data_path: self.data.clone(),
            image_folder: self.images.clone(),
            output_dir: self.output_dir.clone(),
            vision_tower: self.vision_tower.clone(),
            mm_projector_type: self.mm_projector_type.clone().or(preset.mm_projector_type),
            mm_vision_select_layer: self
                .mm_vision_select_layer
                .or(preset.mm_vision_select_layer),
            image_aspect_ratio: self
                .image_aspect_ratio
                .clone()
                .or(preset.image_aspect_ratio),
            mm_use_im_start_end: self.mm_use_im_start_end,
            mm_use_im_patch_token: self.mm_use_im_patch_token,
            model_max_length: self.model_max_length,
            bf16: self
                .bf16
                .unwrap_or(preset.bf16 && self.fp16 != Some(true) && !self.device.first().is_cpu()),
            tf32: self.tf32.unwrap_or(preset.tf32),
            lazy_preprocess: self.lazy_preprocess,
            report_to: self.report_to.unwrap_or(preset.report_to),
            deepspeed: self.deepspeed.clone(),
        };
    }

    /// How the base is read.
    pub(crate) fn load_options(&self, script: &ScriptArguments) -> LoadOptions {
        let sixteen_bits = if self.fp16 == Some(true) {
            Some(TensorDtype::F16)
        } else {
            script.bf16.then_some(TensorDtype::BF16)
        };
        LoadOptions {
            dtype: self.dtype.or(sixteen_bits),
            vision_tower: self.vision_tower.clone(),
            ..LoadOptions::default()
        }
    }
}
