//! The items that most programs need.

pub use burn::tensor::Device;

pub use crate::{
    DeviceKind, DeviceReport, Devices, Evaluator, Finetune, FinetuneError, Finetuned, GalleryError,
    GalleryGpt, Picture, TextStream, TrainingRecords,
    checkpoint::{
        AdapterLayout, AdapterOrigin, LoadOptions, TensorDtype, load_model, save_adapter,
    },
    data::{Batcher, PaintingForm, PictureFolder, Record, RecordPicture, TestSet},
    eval::{OnUnscorable, Predictions, Score, Scorer, SystemScores},
    llama::LoraConfig,
    model::{
        CancelToken, FinishReason, GalleryModelConfig, Generation, GenerationConfig, Generator,
        Prompt,
    },
    text::{Conversation, TemplateKind, Tokenizer},
    train::{OnBadRecord, RunFolder, TrainEvent, Trainer, TrainingConfig},
    vision::{ImageProcessor, ImageProcessorConfig},
};
