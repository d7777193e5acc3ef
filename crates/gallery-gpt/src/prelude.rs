//! The names most programs need.

pub use burn::tensor::Device;

pub use crate::{
    DeviceKind, DeviceReport, Devices, Evaluator, GalleryError, GalleryGpt,
    checkpoint::{LoadOptions, TensorDtype, load_model, save_adapter},
    data::{Batcher, PaintingForm, TestSet},
    llama::LoraConfig,
    model::{GalleryModelConfig, GenerationConfig, Generator, Prompt},
    text::{Conversation, TemplateKind, Tokenizer},
    train::{RunFolder, TrainEvent, Trainer, TrainingConfig},
    vision::{ImageProcessor, ImageProcessorConfig},
};
