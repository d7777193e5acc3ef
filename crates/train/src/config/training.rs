//! Settings of a training, with the names of the original's script.

use std::str::FromStr;

use gallery_gpt_data::Order;
use gallery_gpt_model::Packing;
use serde::{Deserialize, Serialize};

use super::{Recompute, SchedulerType, ScriptArguments, TrainableParts};
use crate::TrainingConfigError;

/// How the micro-batches of a step are computed. The sum of their gradients is the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MicroBatches {
    /// One after the other: the memory of one at a time.
    #[default]
    OneByOne,
    /// Side by side on the threads of the pool, with more threads than micro-batches in parts of a micro-batch. On a CPU and at
    /// small sizes, where one operation is too small for several threads.
    InParallel,
}

/// What the loss of a step is a mean of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossMean {
    /// The supervised tokens of the step: the same however the step is cut into micro-batches, on however many devices, as in
    /// transformers since 4.46.
    #[default]
    Step,
    /// The means of its micro-batches, as in the original: a token of a micro-batch with few supervised tokens counts for more.
    MicroBatches,
}

impl FromStr for LossMean {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "step" => Ok(Self::Step),
            "micro_batches" => Ok(Self::MicroBatches),
            other => Err(format!(
                "unknown loss mean `{other}`, expected step or micro_batches"
            )),
        }
    }
}

/// What to do about a record that cannot be used: its picture is broken, or its conversation has no label mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    /// End the run with its name.
    #[default]
    Fail,
    /// Leave it out and note it in the run folder.
    Skip {
        /// More than so many end the run.
        most: usize,
    },
}

/// Settings of a training, under the names of the original's script where it has one. What it says in several arguments is one typed
/// field here: `lora_enable` and `tune_mm_mlp_adapter` are `parts`, `group_by_modality_length` is `order`, `save_strategy` is `save_steps`,
/// and `evaluation_strategy` is whether the trainer has validation records; `lora_r`, `lora_alpha` and `lora_dropout` are the
/// [`LoraConfig`](gallery_gpt_llama::LoraConfig) beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// What is trained.
    pub parts: TrainableParts,
    /// Peak rate of everything but the projector.
    pub learning_rate: f64,
    /// Peak rate of the projector; `learning_rate` by default.
    pub mm_projector_lr: Option<f64>,
    /// Decoupled decay of weights; norms and biases are never decayed.
    pub weight_decay: f64,
    /// Decay of the gradient's mean.
    pub adam_beta1: f64,
    /// Decay of the gradient's mean square.
    pub adam_beta2: f64,
    /// Added to its root.
    pub adam_epsilon: f64,
    /// Share of the steps over which the rate rises from 0.
    pub warmup_ratio: f64,
    /// How the rate goes on after its peak.
    pub lr_scheduler_type: SchedulerType,
    /// Gradients are scaled down to this global norm; `None` leaves them, as the original's DeepSpeed setting does.
    pub max_grad_norm: Option<f64>,
    /// Times over the data; a last one may be a part.
    pub num_train_epochs: f64,
    /// Stops after so many steps, if sooner.
    pub max_steps: Option<usize>,
    /// Records of a micro-batch.
    pub per_device_train_batch_size: usize,
    /// Validation records that are looked at together.
    pub per_device_eval_batch_size: usize,
    /// Threads that decode pictures ahead; 0 shares those of the step.
    pub dataloader_num_workers: usize,
    /// Seconds that each of several devices may take to answer before the run ends with its name.
    pub ddp_timeout: f64,
    /// Steps between lines of the log.
    pub logging_steps: usize,
    /// Most operations a second of the device, in 10^12, if known: the log then has the model FLOPs utilization.
    pub peak_tflops: Option<f64>,
    /// Micro-batches of a step.
    pub gradient_accumulation_steps: usize,
    /// How they are computed.
    pub micro_batches: MicroBatches,
    /// What the loss of a step is a mean of.
    pub loss_mean: LossMean,
    /// How the conversations of a micro-batch are laid out. Off, they are padded to the longest; in one row they are not, which
    /// changes the speed and nothing else.
    pub packing: Packing,
    /// Lengths of rows are padded to a multiple of this; `None` is 1, but see [`TrainingConfig::on_gpu`]. Changes the speed and nothing
    /// else.
    pub pad_to_multiple_of: Option<usize>,
    /// Whether the decoder's blocks are run again in the backward pass instead of keeping what they computed.
    pub gradient_checkpointing: Recompute,
    /// Order of the records.
    pub order: Order,
    /// What to do about a record that cannot be used.
    pub on_bad_record: OnBadRecord,
    /// Seed of the order and of dropout.
    pub seed: u64,
    /// Steps between looks at the validation records, if the trainer has any, and at the sample paintings; there is one at the end
    /// too, and with 0 there alone.
    pub eval_steps: usize,
    /// Ends the training after so many looks that were no better than the best; `None` never does.
    pub early_stopping_patience: Option<usize>,
    /// Steps between checkpoints; `None` writes none but when the training is asked to stop. There is one before the first step
    /// too, and one at the end.
    pub save_steps: Option<usize>,
    /// Checkpoints that are kept, the newest.
    pub save_total_limit: usize,
    /// The rest of the script.
    #[serde(flatten)]
    pub script: ScriptArguments,
}

impl TrainingConfig {
    /// LoRA with sound defaults: one epoch, cosine with 3 % warm-up, global norm 1, shuffled.
    #[must_use]
    pub fn lora(learning_rate: f64) -> Self {
        Self {
            parts: TrainableParts::LORA,
            learning_rate,
            mm_projector_lr: None,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            warmup_ratio: 0.03,
            lr_scheduler_type: SchedulerType::Cosine,
            max_grad_norm: Some(1.0),
            num_train_epochs: 1.0,
            max_steps: None,
            per_device_train_batch_size: 16,
            per_device_eval_batch_size: 4,
            dataloader_num_workers: 0,
            ddp_timeout: 1800.0,
            logging_steps: 1,
            peak_tflops: None,
            gradient_accumulation_steps: 1,
            micro_batches: MicroBatches::OneByOne,
            loss_mean: LossMean::Step,
            packing: Packing::Off,
            pad_to_multiple_of: None,
            gradient_checkpointing: Recompute::Off,
            order: Order::Shuffled,
            on_bad_record: OnBadRecord::Fail,
            seed: 42,
            eval_steps: 500,
            early_stopping_patience: None,
            save_steps: Some(500),
            save_total_limit: 2,
            script: ScriptArguments::default(),
        }
    }

    /// `finetune_task_lora.sh` as it runs: two epochs of 16 records at 2e-5, recompute, no clipping, no shuffling, the mean over
    /// micro-batches, a checkpoint every 2810 steps of which ten are kept. The adapter that goes with it is `LoraConfig::gallery_gpt()`.
    #[must_use]
    pub fn gallery_gpt() -> Self {
        Self {
            mm_projector_lr: Some(2e-5),
            max_grad_norm: None,
            num_train_epochs: 2.0,
            loss_mean: LossMean::MicroBatches,
            gradient_checkpointing: Recompute::Blocks,
            order: Order::GalleryGpt,
            save_steps: Some(2810),
            save_total_limit: 10,
            dataloader_num_workers: 4,
            script: ScriptArguments::gallery_gpt(),
            ..Self::lora(2e-5)
        }
    }

    /// The same on a GPU, where a step's micro-batches run one by one, and lengths are multiples of 64 unless they were given: its kernels
    /// are tuned for each shape.
    #[must_use]
    pub fn on_gpu(mut self) -> Self {
        self.micro_batches = MicroBatches::OneByOne;
        self.pad_to_multiple_of.get_or_insert(64);
        self
    }

    /// Checks numbers that came from a user.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn validate(&self) -> Result<(), TrainingConfigError> {
        let wrong = |field, found, expected| {
            Err(TrainingConfigError {
                field,
                found,
                expected,
            })
        };
        let not_negative = [
            ("learning_rate", self.learning_rate),
            ("mm_projector_lr", self.mm_projector_lr.unwrap_or(0.0)),
            ("weight_decay", self.weight_decay),
        ];
        for (field, value) in not_negative {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(field, value, "0 or more");
            }
        }
        for (field, value) in [
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return wrong(field, value, "from 0 to below 1");
            }
        }
        if !(self.adam_epsilon > 0.0 && self.adam_epsilon.is_finite()) {
            return wrong("adam_epsilon", self.adam_epsilon, "a positive number");
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return wrong("warmup_ratio", self.warmup_ratio, "from 0 to 1");
        }
        if !(self.num_train_epochs > 0.0 && self.num_train_epochs <= 1e6) {
            let expected = "a number of epochs above 0";
            return wrong("num_train_epochs", self.num_train_epochs, expected);
        }
        if let Some(norm) = self
            .max_grad_norm
            .filter(|norm| !(*norm > 0.0 && norm.is_finite()))
        {
            return wrong("max_grad_norm", norm, "a positive number");
        }
        if let Some(peak) = self
            .peak_tflops
            .filter(|peak| !(*peak > 0.0 && peak.is_finite()))
        {
            return wrong("peak_tflops", peak, "a positive number");
        }
        if !(self.ddp_timeout > 0.0 && self.ddp_timeout <= 1e9) {
            return wrong(
                "ddp_timeout",
                self.ddp_timeout,
                "a positive number of seconds",
            );
        }
        for (field, value) in [
            ("max_steps", self.max_steps.unwrap_or(1)),
            (
                "early_stopping_patience",
                self.early_stopping_patience.unwrap_or(1),
            ),
            ("save_steps", self.save_steps.unwrap_or(1)),
            ("save_total_limit", self.save_total_limit),
            ("logging_steps", self.logging_steps),
            ("pad_to_multiple_of", self.pad_to_multiple_of.unwrap_or(1)),
            (
                "per_device_eval_batch_size",
                self.per_device_eval_batch_size,
            ),
            ("model_max_length", self.script.model_max_length),
            (
                "per_device_train_batch_size",
                self.per_device_train_batch_size,
            ),
            (
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps,
            ),
        ] {
            if value == 0 {
                return wrong(field, 0.0, "at least 1");
            }
        }
        Ok(())
    }
}
