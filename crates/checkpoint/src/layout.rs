//! Whose names the tensors of a checkpoint have.
//!
//! Every layout is turned into one set of names, the one of the `llava-hf` hub checkpoints; a further layout is a further
//! variant here.

use std::path::Path;

use crate::CheckpointError;

/// A way to name the tensors of a LLaVA model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `llava-hf` on the hub, and what transformers save: `language_model.model.layers...`.
    LlavaHf,
    /// What transformers keep in memory since 4.52: `model.language_model.layers...`.
    LlavaHfNested,
}

impl Layout {
    /// Tells the layout from the names.
    ///
    /// # Errors
    /// The names are of no known layout.
    pub fn detect<'a>(
        folder: &Path,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CheckpointError> {
        let mut first = None;
        for key in keys {
            if key.starts_with("language_model.model.") {
                return Ok(Self::LlavaHf);
            }
            if key.starts_with("model.language_model.") {
                return Ok(Self::LlavaHfNested);
            }
            first.get_or_insert(key);
        }
        Err(CheckpointError::UnknownLayout {
            folder: folder.to_owned(),
            first: first.unwrap_or("(none)").to_owned(),
        })
    }

    /// The hub name of a tensor, or nothing for a buffer that every reader ignores.
    #[must_use]
    pub fn hub_key(self, key: &str) -> Option<String> {
        if key.ends_with("rotary_emb.inv_freq") || key.ends_with("embeddings.position_ids") {
            return None;
        }
        Some(match self {
            // Transformers 5 saves the tower without the `vision_model` level.
            Self::LlavaHf => match key.strip_prefix("vision_tower.") {
                Some(rest) if !rest.starts_with("vision_model.") => {
                    format!("vision_tower.vision_model.{rest}")
                }
                _ => key.to_owned(),
            },
            Self::LlavaHfNested => {
                if let Some(rest) = key.strip_prefix("model.language_model.") {
                    format!("language_model.model.{rest}")
                } else if key.starts_with("lm_head.") {
                    format!("language_model.{key}")
                } else if let Some(rest) = key.strip_prefix("model.vision_tower.") {
                    let rest = rest.strip_prefix("vision_model.").unwrap_or(rest);
                    format!("vision_tower.vision_model.{rest}")
                } else {
                    key.strip_prefix("model.").unwrap_or(key).to_owned()
                }
            }
        })
    }
}
