//! What a base consists of, by the SHA-256 of its weights and of the files beside them.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{CheckpointError, sha256_file};

/// What a base consists of, to compare it with a later one: the SHA-256 of its weights (one for all tensors, whatever files they are
/// in) and of each file beside them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseIdentity {
    /// `weights`, and the names of the files in the base's folder; those of a vision tower in another folder begin with
    /// `vision_tower/`.
    pub files: BTreeMap<String, String>,
}

/// Files beside a model's weights that change what it computes.
const BESIDE: [&str; 10] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "qwen.tiktoken",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

impl BaseIdentity {
    /// Made of the weights' fingerprint and the files beside them.
    pub(crate) fn new(
        weights: Option<&str>,
        folder: &Path,
        tower: &Path,
    ) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        if let Some(weights) = weights {
            files.insert("weights".to_owned(), weights.to_owned());
        }
        let mut add = |folder: &Path, prefix: &str| -> Result<(), CheckpointError> {
            for name in BESIDE {
                let path = folder.join(name);
                if path.is_file() {
                    files.insert(format!("{prefix}{name}"), sha256_file(path)?);
                }
            }
            Ok(())
        };
        add(folder, "")?;
        if tower != folder {
            add(tower, "vision_tower/")?;
        }
        Ok(Self { files })
    }

    /// The differences from an earlier identity, a sentence each.
    #[must_use]
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let names = self.files.keys().chain(earlier.files.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        let differences = names.into_iter().filter_map(|name| {
            match (earlier.files.get(name), self.files.get(name)) {
                (Some(then), Some(now)) if then == now => None,
                (Some(_), Some(_)) if name == "weights" => {
                    Some("the base's weights are not the same".to_owned())
                }
                (Some(_), Some(_)) => Some(format!("the base's {name} is not the same")),
                (Some(_), None) => Some(format!("the base no longer has {name}")),
                (None, _) => Some(format!("the base had no {name}")),
            }
        });
        differences.collect()
    }
}
