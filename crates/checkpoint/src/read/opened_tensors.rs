//! The tensors of a checkpoint by their hub names, while it is opened.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use gallery_gpt_model::GalleryModelConfig;
use gallery_gpt_vision::VisionConfig;

use super::{
    options::LoadOptions,
    tower::{self, TowerSource},
    weight_files::WeightFiles,
};
use crate::{CheckpointError, StoredTensor, config::vision::read_vision_config};

/// Tensors by their hub names.
#[derive(Default)]
pub(super) struct OpenedTensors {
    pub(super) tensors: BTreeMap<String, (String, StoredTensor)>,
    pub(super) ignored: Vec<String>,
}

impl OpenedTensors {
    pub(super) fn add(&mut self, files: &WeightFiles, hub_key: impl Fn(&str) -> Option<String>) {
        for (key, tensor) in files.iter() {
            match hub_key(key) {
                Some(hub_key) => {
                    self.tensors
                        .insert(hub_key, (key.to_owned(), tensor.clone()));
                }
                None => self.ignored.push(key.to_owned()),
            }
        }
    }

    pub(super) fn get(&self, hub_key: &str) -> Option<&StoredTensor> {
        self.tensors.get(hub_key).map(|(_, tensor)| tensor)
    }

    pub(super) fn has(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|key| key.starts_with(prefix))
    }

    /// Adds the tower's tensors if they are in another folder. The config is that of the tower's folder, if there is one.
    pub(super) fn tower(
        &mut self,
        folder: &Path,
        named: Option<String>,
        options: &LoadOptions,
        notes: &mut Vec<String>,
    ) -> Result<(TowerSource, Option<VisionConfig>), CheckpointError> {
        let has_tower = self.has("vision_tower.");
        // A tower in the options comes first, then the checkpoint's own, then the one that its config names.
        let tower_folder = match (&options.vision_tower, has_tower, &named) {
            (Some(chosen), _, _) => Some(chosen.clone()),
            (None, false, Some(name)) => Some(tower::find(folder, name)?),
            // Its weights are here; only its config is needed.
            (None, true, Some(name)) => tower::find(folder, name).ok(),
            (None, _, None) => None,
        };
        let mut tower = TowerSource {
            folder: folder.to_owned(),
            named,
            chosen: options.vision_tower.is_some(),
            fingerprint: None,
        };
        let Some(tower_folder) = tower_folder else {
            return Ok((tower, None));
        };
        let vision = read_vision_config(&tower_folder, notes)?;
        if tower.chosen || !has_tower {
            self.forget("vision_tower.");
            self.add(&WeightFiles::open(&tower_folder)?, tower::hub_key);
            tower.folder = tower_folder;
        }
        Ok((tower, Some(vision)))
    }

    /// Number of rows of the embedding.
    pub(super) fn vocab_rows(&self) -> Option<usize> {
        let embedding = self.get("language_model.model.embed_tokens.weight")?;
        embedding.shape.first().copied()
    }

    /// Refuses a config with more layers than there are tensors, before a model of that size is built, or with a larger vocabulary than
    /// the embedding has rows.
    pub(super) fn check_sizes(
        &self,
        folder: &Path,
        config: &GalleryModelConfig,
    ) -> Result<(), CheckpointError> {
        let wrong = |reason: String| CheckpointError::Config {
            path: folder.join("config.json"),
            reason,
        };
        let rows = self.vocab_rows().unwrap_or(usize::MAX);
        if config.llama.vocab_size > rows {
            return Err(wrong(format!(
                "vocab_size is {}, but the embedding has {rows} rows",
                config.llama.vocab_size
            )));
        }
        for (part, prefix, layers) in [
            (
                "decoder",
                "language_model.model.layers.",
                config.llama.num_hidden_layers,
            ),
            (
                "vision tower",
                "vision_tower.vision_model.encoder.layers.",
                config.vision.num_hidden_layers,
            ),
        ] {
            let keys = self.tensors.keys();
            let indices = keys.filter_map(|key| key.strip_prefix(prefix)?.split('.').next());
            let found = indices.collect::<BTreeSet<_>>().len();
            if layers > self.tensors.len() {
                return Err(wrong(format!(
                    "num_hidden_layers of the {part} is {layers}, but the files have {found} layers of it"
                )));
            }
        }
        Ok(())
    }

    fn forget(&mut self, prefix: &str) {
        self.tensors.retain(|hub_key, (key, _)| {
            let forget = hub_key.starts_with(prefix);
            if forget {
                self.ignored.push(key.clone());
            }
            !forget
        });
    }
}
