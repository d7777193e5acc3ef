//! What is trained of each part of a model.

use serde::{Deserialize, Serialize};

/// What is trained of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trainable {
    /// Nothing: it keeps no activations and gets no gradients.
    Frozen,
    /// Its adapters only; a part without adapters is frozen.
    Lora,
    /// Everything.
    Full,
}

/// What is trained of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainableParts {
    /// The tower.
    pub vision_tower: Trainable,
    /// The projector.
    pub projector: Trainable,
    /// The decoder.
    pub language_model: Trainable,
}

impl TrainableParts {
    /// GalleryGPT: adapters of the decoder, the whole projector, nothing else.
    pub const LORA: Self = Self {
        vision_tower: Trainable::Frozen,
        projector: Trainable::Full,
        language_model: Trainable::Lora,
    };
    /// Qwen-VL-Chat with LoRA: adapters of the decoder, nothing else.
    pub const ADAPTERS: Self = Self {
        projector: Trainable::Frozen,
        ..Self::LORA
    };
    /// Everything, as in pretraining.
    pub const FULL: Self = Self {
        vision_tower: Trainable::Full,
        projector: Trainable::Full,
        language_model: Trainable::Full,
    };
    /// Decoder and projector, as in the original without `lora_enable`, where the tower is always frozen.
    pub const FULL_FINETUNE: Self = Self {
        vision_tower: Trainable::Frozen,
        ..Self::FULL
    };
    /// The projector alone (`tune_mm_mlp_adapter`).
    pub const PROJECTOR: Self = Self {
        vision_tower: Trainable::Frozen,
        projector: Trainable::Full,
        language_model: Trainable::Frozen,
    };

    /// Whether an adapter's folder can hold everything that is trained: adapters of the decoder, and the projector.
    #[must_use]
    pub fn saved_as_adapter(self) -> bool {
        self.language_model == Trainable::Lora && self.vision_tower == Trainable::Frozen
    }
}
