//! The flags, in the words of the original's script.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use gallery_gpt::{
    data::Order,
    prelude::*,
    train::{MicroBatches, OnBadRecord, Recompute, TrainableParts},
};

pub(crate) const SAMPLE: &str = "datasets/painting-form-mini";

/// Finetunes a base model with LoRA on records of paintings.
#[derive(Parser)]
#[command(rename_all = "snake_case", args_override_self = true)]
pub(crate) struct Arguments {
    /// Goes on with the run in this folder, with the flags it began with. Others may be given to train longer (`--num_train_epochs`,
    /// `--max_steps`), to save at other times, or on another device; what would make it another training is refused.
    #[arg(long, alias = "resume_from_checkpoint")]
    pub(crate) resume: Option<PathBuf>,
    /// Folder of the base model, in any layout, with its tokenizer.
    #[arg(
        long,
        alias = "model_name_or_path",
        default_value = "datasets/tiny-base"
    )]
    pub(crate) base: PathBuf,
    /// Training records (`train_samples_tuning.json`).
    #[arg(
        long,
        alias = "data_path",
        default_value = "datasets/painting-form-mini/train_samples_tuning.json"
    )]
    pub(crate) data: PathBuf,
    /// Folder that the records' picture paths start from.
    #[arg(long, alias = "image_folder", default_value = SAMPLE)]
    pub(crate) images: PathBuf,
    /// Folder of the run; by default the first free runs/finetune-N.
    #[arg(long)]
    pub(crate) output_dir: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceKind,
    /// Number type of the frozen weights: f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the
    /// stored one for large ones.
    #[arg(long)]
    pub(crate) dtype: Option<TensorDtype>,
    /// Defaults of the flags below: the sample's, or the original script's.
    #[arg(long, value_enum, default_value_t = Preset::Sample)]
    pub(crate) preset: Preset,
    /// Conversation template.
    #[arg(long, default_value = "v1")]
    pub(crate) version: TemplateKind,
    /// Adapter to go on training, in place of a new one: a folder of PEFT's or the original's. Its rank, alpha and dropout stay.
    #[arg(long, conflicts_with_all = ["lora_r", "lora_alpha", "lora_dropout"])]
    pub(crate) lora_path: Option<PathBuf>,
    /// Train adapters of the decoder beside the projector; without, the whole decoder.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) lora_enable: bool,
    /// Train the projector alone.
    #[arg(long, conflicts_with = "lora_path")]
    pub(crate) tune_mm_mlp_adapter: bool,
    /// Inner width of the adapters.
    #[arg(long)]
    pub(crate) lora_r: Option<usize>,
    /// Scale of the adapters times their rank.
    #[arg(long)]
    pub(crate) lora_alpha: Option<f64>,
    /// Share of the adapters' inputs that are dropped.
    #[arg(long)]
    pub(crate) lora_dropout: Option<f64>,
    /// Peak learning rate.
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,
    /// Peak learning rate of the projector.
    #[arg(long)]
    pub(crate) mm_projector_lr: Option<f64>,
    /// Weight decay.
    #[arg(long)]
    pub(crate) weight_decay: Option<f64>,
    /// Share of the steps over which the rate rises.
    #[arg(long)]
    pub(crate) warmup_ratio: Option<f64>,
    /// Global norm that gradients are scaled down to; 0 leaves them.
    #[arg(long)]
    pub(crate) max_grad_norm: Option<f64>,
    /// Times over the data.
    #[arg(long)]
    pub(crate) num_train_epochs: Option<usize>,
    /// Stops after so many steps.
    #[arg(long)]
    pub(crate) max_steps: Option<usize>,
    /// Records of a micro-batch.
    #[arg(long)]
    pub(crate) per_device_train_batch_size: Option<usize>,
    /// Micro-batches of a step.
    #[arg(long)]
    pub(crate) gradient_accumulation_steps: Option<usize>,
    /// Runs the decoder's blocks again in the backward pass: off or blocks.
    #[arg(long)]
    pub(crate) gradient_checkpointing: Option<Recompute>,
    /// Records that are not trained on, in the form of the training records, for a validation loss.
    #[arg(long)]
    pub(crate) eval_data: Option<PathBuf>,
    /// Pictures to ask about as the training goes on, for the run's page; by default some test paintings of the sample.
    #[arg(long, num_args = 1..)]
    pub(crate) sample_images: Vec<PathBuf>,
    /// Steps between validations, and between looks at the sample pictures.
    #[arg(long)]
    pub(crate) eval_steps: Option<usize>,
    /// Ends the training after so many validations that were no better than the best.
    #[arg(long, requires = "eval_data")]
    pub(crate) early_stopping_patience: Option<usize>,
    /// Steps between checkpoints; 0 writes none.
    #[arg(long)]
    pub(crate) save_steps: Option<usize>,
    /// Checkpoints that are kept, the newest.
    #[arg(long)]
    pub(crate) save_total_limit: Option<usize>,
    /// Longest record in tokens, pictures expanded.
    #[arg(long, default_value_t = 2048)]
    pub(crate) model_max_length: usize,
    /// What to do about a record that cannot be used: end the run, or leave it out and list it in the run folder.
    #[arg(long, value_enum, default_value_t = BadRecordPolicy::Fail)]
    pub(crate) on_bad_record: BadRecordPolicy,
    /// Most records that may be left out.
    #[arg(long, default_value_t = 100)]
    pub(crate) max_bad_records: usize,
    /// Seed of the adapters, the order and dropout.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Preset {
    Sample,
    GalleryGpt,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum BadRecordPolicy {
    Fail,
    Skip,
}

impl Arguments {
    /// The settings: the preset's, changed by the flags.
    pub(crate) fn settings(&self) -> (TrainingConfig, LoraConfig) {
        let (mut training, mut lora) = match self.preset {
            Preset::Sample => (
                TrainingConfig {
                    num_train_epochs: 8,
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
            Preset::GalleryGpt => (TrainingConfig::gallery_gpt(), LoraConfig::gallery_gpt()),
        };
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
        if let Some(norm) = self.max_grad_norm {
            training.max_grad_norm = (norm != 0.0).then_some(norm);
        }
        set(&mut training.num_train_epochs, self.num_train_epochs);
        training.max_steps = self.max_steps.or(training.max_steps);
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
        if self.device != DeviceKind::Cpu || lora.dropout > 0.0 {
            training.micro_batches = MicroBatches::OneByOne;
        }
        training.on_bad_record = match self.on_bad_record {
            BadRecordPolicy::Fail => OnBadRecord::Fail,
            BadRecordPolicy::Skip => OnBadRecord::Skip {
                most: self.max_bad_records,
            },
        };
        training.seed = self.seed;
        (training, lora)
    }
}
