//! Activation checkpointing: which blocks are recomputed in the backward pass.

use std::str::FromStr;

use gallery_gpt_text::UnknownName;
use serde::{Deserialize, Serialize};

/// What is recomputed in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing: fastest, with the most memory.
    #[default]
    Off,
    /// All blocks of the decoder, one at a time: a third more computation, with the least memory.
    Blocks,
    /// This number of blocks, the first ones; activations of the others are kept. The fewer, the faster.
    First(usize),
}

impl Recompute {
    /// The number of recomputed blocks of a decoder with `layers` blocks.
    #[must_use]
    pub fn blocks(self, layers: usize) -> usize {
        match self {
            Self::Off => 0,
            Self::Blocks => layers,
            Self::First(blocks) => blocks.min(layers),
        }
    }
}

impl FromStr for Recompute {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "off" | "false" => Ok(Self::Off),
            "blocks" | "true" => Ok(Self::Blocks),
            _ => name.parse().map(Self::First).map_err(|_| {
                UnknownName::new("recompute", name, "off, blocks or a number of blocks")
            }),
        }
    }
}
