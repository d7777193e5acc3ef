//! Settings of a training, with the names of the original's script.

use std::str::FromStr;

use gallery_gpt_data::Order;
use gallery_gpt_model::Packing;
use gallery_gpt_text::UnknownName;
use serde::{Deserialize, Serialize};

use super::{Recompute, SchedulerType, ScriptArguments, TrainableParts};
use crate::TrainingConfigError;

/// How the micro-batches of a step are computed. Their gradients sum up to the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MicroBatches {
    /// One after the other, with the memory of one at a time.
    #[default]
    OneByOne,
    /// In parallel on the threads of the pool; micro-batches are split if there are more threads. For a CPU and small models, where one
    /// operation is too small for several threads.
    InParallel,
}

/// What the loss of a step is averaged over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossMean {
    /// The supervised tokens of the step, as in transformers since 4.46: the same however the step is divided into micro-batches and
    /// over devices.
    #[default]
    Step,
    /// The means of its micro-batches, as in the original: a token in a micro-batch with few supervised tokens has more weight.
    MicroBatches,
}

impl FromStr for LossMean {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "step" => Ok(Self::Step),
            "micro_batches" => Ok(Self::MicroBatches),
            _ => Err(UnknownName::new("loss mean", name, "step or micro_batches")),
        }
    }
}

/// What to do about a bad record: its picture cannot be decoded, or its conversation has no label mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    /// End the run with an error that names it.
    #[default]
    Fail,
    /// Skip it and list it in the run folder.
    Skip {
        /// How many may be skipped; one more ends the run.
        #[serde(alias = "most")]
        max: usize,
    },
}

/// Settings of a training, named as in the original's script where it has them. Several arguments of the script are one typed field
/// here: `lora_enable` and `tune_mm_mlp_adapter` are `parts`, `group_by_modality_length` is `order`, `save_strategy` is `save_steps`,
/// and `evaluation_strategy` is whether the trainer has validation records; `lora_r`, `lora_alpha` and `lora_dropout` are the
/// [`LoraConfig`](gallery_gpt_llama::LoraConfig) beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// What is trained.
    pub parts: TrainableParts,
    /// Peak learning rate of everything except the projector.
    pub learning_rate: f64,
    /// Peak learning rate of the projector; `learning_rate` by default.
    pub mm_projector_lr: Option<f64>,
    /// Decoupled weight decay; norms and biases are never decayed.
    pub weight_decay: f64,
    /// Adam's decay of the first moment.
    pub adam_beta1: f64,
    /// Adam's decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// Fraction of the steps over which the learning rate warms up from 0.
    pub warmup_ratio: f64,
    /// The learning-rate schedule after the warm-up.
    pub lr_scheduler_type: SchedulerType,
    /// Gradients are clipped to this global norm; `None` does not clip, as in the original with its DeepSpeed config.
    pub max_grad_norm: Option<f64>,
    /// Epochs; the last may be a fraction of one.
    pub num_train_epochs: f64,
    /// The training stops after this number of steps, if its epochs are longer.
    pub max_steps: Option<usize>,
    /// Records of a micro-batch.
    pub per_device_train_batch_size: usize,
    /// Validation records in a batch.
    pub per_device_eval_batch_size: usize,
    /// Threads that prefetch batches; 0 shares those of the step.
    pub dataloader_num_workers: usize,
    /// Seconds that each of several devices may take to reply before the run ends with an error that names it.
    pub ddp_timeout: f64,
    /// Steps between lines of the log.
    pub logging_steps: usize,
    /// Peak of the device in TFLOP/s, if known: the log then has the model FLOPs utilization.
    pub peak_tflops: Option<f64>,
    /// Micro-batches in a step of each device.
    pub gradient_accumulation_steps: usize,
    /// How they are computed.
    pub micro_batches: MicroBatches,
    /// What the loss of a step is averaged over.
    pub loss_mean: LossMean,
    /// Whether the conversations of a micro-batch are padded to the longest or packed into one row. Changes the speed and nothing else.
    pub packing: Packing,
    /// Row lengths are padded to a multiple of this; `None` is 1, but see [`TrainingConfig::on_gpu`]. Changes the speed and nothing else.
    pub pad_to_multiple_of: Option<usize>,
    /// Which of the decoder's blocks are recomputed in the backward pass instead of keeping their activations.
    pub gradient_checkpointing: Recompute,
    /// Order of the records.
    pub order: Order,
    /// What to do about a bad record.
    pub on_bad_record: OnBadRecord,
    /// Seed of the records' order and of dropout.
    pub seed: u64,
    /// Steps between evaluations on the validation records, if the trainer has any, and captions of the sample paintings. Both also
    /// happen at the end; with 0 only there.
    pub eval_steps: usize,
    /// Number of evaluations without improvement after which the training stops; `None` never stops early.
    pub early_stopping_patience: Option<usize>,
    /// Steps between checkpoints; one is also written before the first step and at the end. With `None` one is written only if the
    /// training is cancelled.
    pub save_steps: Option<usize>,
    /// Number of checkpoints that are kept, the newest ones.
    pub save_total_limit: usize,
    /// The other arguments of the script.
    #[serde(flatten)]
    pub script: ScriptArguments,
}

impl TrainingConfig {
    /// Defaults for LoRA: one epoch, cosine schedule with 3 % warm-up, gradients clipped to norm 1, shuffled.
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

    /// The settings that `finetune_task_lora.sh` results in: two epochs of micro-batches of 16 at 2e-5, recompute, no clipping, no
    /// shuffling, the mean over micro-batches, a checkpoint every 2810 steps, of which ten are kept. The matching adapter is
    /// `LoraConfig::gallery_gpt()`.
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

    /// The settings of `finetune_lora_single_gpu.sh` of Qwen-VL: adapters alone, five epochs of eight micro-batches of 1 at 1e-5, beta2
    /// 0.95, weight decay 0.1, 1 % warm-up, recompute, a checkpoint every 1000 steps, of which ten are kept, at most 2048 tokens a record.
    /// The matching adapter is `LoraConfig::qwen_vl_chat()`.
    #[must_use]
    pub fn qwen_vl_chat() -> Self {
        Self {
            parts: TrainableParts::ADAPTERS,
            weight_decay: 0.1,
            adam_beta2: 0.95,
            warmup_ratio: 0.01,
            num_train_epochs: 5.0,
            per_device_train_batch_size: 1,
            gradient_accumulation_steps: 8,
            loss_mean: LossMean::MicroBatches,
            gradient_checkpointing: Recompute::Blocks,
            save_steps: Some(1000),
            save_total_limit: 10,
            script: ScriptArguments {
                model_max_length: 2048,
                ..ScriptArguments::default()
            },
            ..Self::lora(1e-5)
        }
    }

    /// The same settings for a GPU: micro-batches run one by one, and row lengths are padded to multiples of 64 unless set otherwise,
    /// because kernels are autotuned for each shape.
    #[must_use]
    pub fn on_gpu(mut self) -> Self {
        self.micro_batches = MicroBatches::OneByOne;
        self.pad_to_multiple_of.get_or_insert(64);
        self
    }

    /// Checks that every setting is in range.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_former_name_of_a_limit_is_read() {
        let read = |json: &str| serde_json::from_str::<OnBadRecord>(json).ok();
        let expected = Some(OnBadRecord::Skip { max: 3 });
        assert_eq!(read(r#"{"skip": {"most": 3}}"#), expected);
        assert_eq!(read(r#"{"skip": {"max": 3}}"#), expected);
    }
}
