//! Finetuning.
//!
//! - [`TrainingConfig`] has the settings, named as in the original's script; [`Trainable`] says what is trained of each part.
//! - [`TrainState`] is the model with its optimizer; [`TrainState::step`] is one step: loss of each micro-batch, gradients
//!   (with or without recompute of the decoder's blocks), clipping by the global norm, AdamW with a learning rate of its own for the
//!   projector; [`TrainState::with_devices`] divides it over several devices.
//! - [`Trainer`] runs epochs over records, prefetches batches, evaluates on validation records, captions [`Samples`], reports to an
//!   observer, and writes a [`RunFolder`] with the adapter, the logs, the curve and a page.
//! - [`TrainingCheckpoint`] is a training on disk; a killed training resumes from it and ends with the same bytes.
//!
//! ```
//! use burn::tensor::Device;
//! use gallery_gpt_data::Batch;
//! use gallery_gpt_llama::LoraConfig;
//! use gallery_gpt_model::GalleryModelConfig;
//! use gallery_gpt_train::{TrainState, TrainingConfig};
//!
//! let device = Device::flex();
//! let model = GalleryModelConfig::tiny().init(&device).apply_lora(&LoraConfig::new(4, 8.0));
//! let mut state = TrainState::new(model, &TrainingConfig::lora(1e-3), 10)?;
//! let batch = Batch {
//!     input_ids: vec![vec![1, 7, 8, 9, 2]],
//!     labels: vec![vec![-100, -100, 8, 9, 2]],
//!     ..Batch::default()
//! };
//! let report = state.step(std::slice::from_ref(&batch))?;
//! assert!(report.loss.is_finite() && report.supervised_tokens == 3);
//! # Ok::<(), gallery_gpt_train::TrainError>(())
//! ```

mod config;
mod error;
mod event;
mod memory;
mod optim;
mod run;
mod step;
mod trainer;

pub use config::{
    LossMean, MicroBatches, OnBadRecord, Recompute, ReportTo, SchedulerType, ScriptArguments,
    Trainable, TrainableParts, TrainingConfig, deepspeed_clipping,
};
pub use error::{TrainError, TrainingConfigError};
pub use event::TrainEvent;
pub use gallery_gpt_report::CurvePoint;
pub use memory::{
    AttentionMemory, AvailableMemory, MemoryPlan, PlannedModel, TrainingPlan, flops_per_token,
    memory_saving_options,
};
pub use optim::{ParamGroups, Schedule, clip_global_norm, global_norm};
pub use run::{
    CheckpointState, EvaluationLine, LogLine, LogState, LoraSettings, PictureDigest,
    PictureEvidence, RecordDigest, RunFolder, RunSettings, SampleLine, SamplePainting, Samples,
    SpeedLine, TrainingCheckpoint, write_curve,
};
pub use step::{
    CrossEntropy, Dropout, GradientOptions, Gradients, StepReport, TrainState, evaluate_loss,
    gradients,
};
pub use trainer::Trainer;
