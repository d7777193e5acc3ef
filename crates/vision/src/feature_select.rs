//! Which hidden state of the vision tower, and which of its tokens, become picture features.

use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::VisionConfigError;

/// The selected tokens (`mm_vision_select_feature`; `vision_feature_select_strategy` in llava-hf).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureSelect {
    /// The patches, without the class token.
    #[default]
    Patch,
    /// The class token and the patches.
    ClsPatch,
}

impl FromStr for FeatureSelect {
    type Err = VisionConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "patch" | "default" => Ok(Self::Patch),
            "cls_patch" | "full" => Ok(Self::ClsPatch),
            other => Err(VisionConfigError::Unknown {
                field: "select_feature",
                found: other.to_owned(),
                expected: "patch (default) or cls_patch (full)",
            }),
        }
    }
}

impl FeatureSelect {
    /// # Shapes
    /// - `hidden_states`: `[batch, 1 + patches, hidden]`
    /// - output: `[batch, patches, hidden]`, or unchanged
    #[must_use]
    pub fn apply(self, hidden_states: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Patch => hidden_states.slice_dim(1, 1..),
            Self::ClsPatch => hidden_states,
        }
    }

    /// Number of tokens selected from a picture of `patches` patches.
    #[must_use]
    pub fn tokens(self, patches: usize) -> usize {
        match self {
            Self::Patch => patches,
            Self::ClsPatch => patches + 1,
        }
    }
}

/// The selected hidden state (`mm_vision_select_layer`), indexed as in Python: 0 is the input of
/// the first block, `k` the output of block `k - 1`, `-1` the output of the last block, `-2` that
/// of the block before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SelectLayer(pub i64);

impl Default for SelectLayer {
    fn default() -> Self {
        Self(-2)
    }
}

impl SelectLayer {
    /// Number of blocks to run, of `num_hidden_layers`.
    ///
    /// # Errors
    /// The hidden state does not exist.
    pub fn blocks(self, num_hidden_layers: usize) -> Result<usize, VisionConfigError> {
        let states = num_hidden_layers + 1;
        let index = if self.0 < 0 {
            states as i64 + self.0
        } else {
            self.0
        };
        usize::try_from(index)
            .ok()
            .filter(|&index| index < states)
            .ok_or(VisionConfigError::SelectLayer {
                found: self.0,
                states,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_two_leaves_out_the_last_block() {
        assert_eq!(SelectLayer(-2).blocks(24), Ok(23));
        assert_eq!(SelectLayer(-1).blocks(24), Ok(24));
        assert_eq!(SelectLayer(0).blocks(24), Ok(0));
        assert!(SelectLayer(25).blocks(24).is_err());
        assert!(SelectLayer(-26).blocks(24).is_err());
    }
}
