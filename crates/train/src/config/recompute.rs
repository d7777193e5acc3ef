//! Activation checkpointing: which blocks the backward pass recomputes.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the backward pass computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing: fastest, most memory.
    #[default]
    Off,
    /// The decoder's blocks, one at a time: a third more work, least memory.
    Blocks,
    /// The first so many of them; what the others compute is kept. As few as the memory allows are the fastest.
    First(usize),
}

impl Recompute {
    /// Blocks that are run again, of so many.
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
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "off" | "false" => Ok(Self::Off),
            "blocks" | "true" => Ok(Self::Blocks),
            other => other.parse().map(Self::First).map_err(|_| {
                format!("unknown recompute `{other}`, expected off, blocks or a number of blocks")
            }),
        }
    }
}
