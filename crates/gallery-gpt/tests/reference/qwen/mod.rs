//! The stages of Qwen-VL-Chat's variants, against the original's own code.

mod generation;
mod images;
mod lora;
mod model;
mod tokenizer;
mod train;

use crate::case::Stage;

/// The stages, the folder of a variant that each needs, and its cases.
pub(crate) const STAGES: [Stage; 6] = [
    Stage::new("tokenizer", "tokenizer", tokenizer::cases),
    Stage::new("images", "images", images::cases),
    Stage::new("model", "expected", model::cases),
    Stage::new("generation", "expected", generation::cases),
    Stage::new("lora", "lora", lora::cases),
    Stage::new("train", "train", train::cases),
];
