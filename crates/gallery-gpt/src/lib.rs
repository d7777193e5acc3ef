//! Finetune and run a multimodal model that reads paintings.
//!
//! GalleryGPT (Bin et al. 2024, <https://arxiv.org/abs/2408.00491>) is LLaVA-1.5 finetuned with
//! LoRA to write formal analyses of paintings. This crate re-exports the library crates under one
//! name:
//!
//! | what you want | type | example |
//! | --- | --- | --- |
//! | ask about a picture, or many | [`GalleryGpt`] | `caption`, `chat`, `serve` |
//! | check whether a device can be used, and where it falls back | [`DeviceReport`], [`check_device`] | `inspect` |
//! | a file of answers that an interrupted run resumes | [`AnswersFile`] | `caption`, `answer-questions` |
//! | see the model's attention to a picture | [`AttentionMap`] | `caption`, `serve` |
//! | finetune on records, and resume | [`GalleryGpt::finetune`], [`Finetune`] | `finetune` |
//! | a training loop of your own | [`train::TrainState`], [`train::Trainer`] | |
//! | a model of your own size | [`model::GalleryModelConfig`] | `train_tiny_base` |
//! | text to token ids and labels | [`text::Tokenizer`], [`text::encode_conversation`] | |
//! | pictures to pixels | [`vision::ImageProcessor`] | |
//! | a decoder with adapters | [`llama::LlamaModel`], [`llama::LoraConfig`] | |
//! | training records and batches | [`data::PaintingForm`], [`data::Batcher`] | `check` |
//! | load and save checkpoints | [`checkpoint::load_model`], [`checkpoint::save_adapter`] | `inspect`, `merge`, `convert` |
//! | score texts | [`Evaluator`], [`eval::SystemScores`], [`eval::SacreBleu`], [`eval::Meteor`], [`eval::Rouge`] | `evaluate` |
//!
//! ```
//! use gallery_gpt::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let datasets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
//! # std::env::set_current_dir(datasets)?;
//! let gallery = GalleryGpt::load("tiny-base", &Device::flex())?;
//! let answer = gallery.describe(
//!     "painting-form-mini/images/test_0.jpg",
//!     "Describe the painting.",
//!     &GenerationConfig::greedy(12),
//! )?;
//! assert!(!answer.is_empty());
//! # Ok(()) }
//! ```
//!
//! # Features
//! - `flex` (default): the CPU, pure Rust.
//! - `cuda`: NVIDIA GPUs. Kernels are CUDA C++ compiled at run time; building needs no toolkit.
//! - `cuda-no-fusion`: the same without kernel fusion, for comparison.

pub mod prelude;

/// The book's page of examples and this crate's README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/library.md")]
#[doc = include_str!("../README.md")]
struct Documentation;

// First, so that the documentation lists loading and asking first.
mod pipeline;
mod text_stream;

mod answers_file;
mod attention_figure;
mod attention_map;
mod batched_answers;
mod device;
mod error;
mod evaluator;
mod finetune;
mod lettering;
mod picture;
mod quantize;
mod region_figure;

pub use answers_file::{AnswersFile, WrittenBy};
pub use attention_map::AttentionMap;
pub use batched_answers::{Answer, Answered, BatchedAnswers};
pub use device::{
    Check, DeviceError, DeviceKind, DeviceReport, Devices, Finding, Verdict, check_device,
};
pub use error::{AnswersError, GalleryError};
pub use evaluator::Evaluator;
pub use finetune::{
    Finetune, FinetuneBuilder, FinetuneError, FinetuneRun, Finetuned, TrainingRecords,
};
pub use gallery_gpt_checkpoint as checkpoint;
pub use gallery_gpt_data as data;
pub use gallery_gpt_eval as eval;
pub use gallery_gpt_llama as llama;
pub use gallery_gpt_model as model;
pub use gallery_gpt_projector as projector;
pub use gallery_gpt_report as report;
pub use gallery_gpt_text as text;
pub use gallery_gpt_train as train;
pub use gallery_gpt_vision as vision;
pub use picture::Picture;
pub use pipeline::{GalleryGpt, default_template};
pub use region_figure::draw_regions;
pub use text_stream::TextStream;
// Their types are in this crate's signatures: programs need the same versions.
pub use {burn, image};
