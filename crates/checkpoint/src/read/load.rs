//! A model filled from a checkpoint, tensor by tensor.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use gallery_gpt_model::{GalleryModel, ParamMapper, map_params};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    checkpoint::Checkpoint,
    fingerprint::fingerprint,
    load_report::{LoadReport, UsedTensor},
    options::{LoadOptions, Strictness, VocabRows},
};
use crate::{
    CheckpointError, Problem, Slot, StoredTensor, checkpoint_key, folder::verify::verify_files,
};

/// Loads a model's folder: its `config.json`, its weights in any layout, and the vision tower that belongs to them.
///
/// # Errors
/// A file cannot be read or is damaged, or the weights do not match the config; see [`CheckpointError`].
pub fn load_model(
    folder: impl AsRef<Path>,
    device: &Device,
    options: &LoadOptions,
) -> Result<(GalleryModel, LoadReport), CheckpointError> {
    Checkpoint::open(folder, options)?.load(device)
}

impl Checkpoint {
    /// Reports what loading would do, without loading. Every value is read once, for the fingerprint and to find infinities and NaN.
    #[must_use]
    pub fn check(&self, device: &Device) -> LoadReport {
        let (_, report) = self.fill(device, false);
        report
    }

    /// Loads the model, tensor by tensor, in the stored dtype unless the options set another.
    ///
    /// # Errors
    /// The weights do not match the config, a tensor cannot be read, or a file of a folder that this library wrote has changed.
    pub fn load(self, device: &Device) -> Result<(GalleryModel, LoadReport), CheckpointError> {
        // The folder's own tower is not used if another was chosen.
        verify_files(&self.folder, |name| {
            !(self.tower.chosen && name.starts_with("vision_tower/"))
        })?;
        let (model, report) = self.fill(device, true);
        if self.options.strictness == Strictness::Strict && !report.problems.is_empty() {
            return Err(CheckpointError::Mismatch {
                folder: self.folder,
                problems: report.problems,
            });
        }
        Ok((model, report))
    }

    fn fill(&self, device: &Device, read: bool) -> (GalleryModel, LoadReport) {
        let mut filler = Filler {
            checkpoint: self,
            read,
            taken: BTreeMap::new(),
            report: LoadReport {
                folder: self.folder.clone(),
                layout: self.layout,
                fingerprint: None,
                tower: self.tower.clone(),
                used: Vec::new(),
                unused: Vec::new(),
                ignored: self.ignored.clone(),
                unread: self.unread.clone(),
                missing: Vec::new(),
                problems: Vec::new(),
                notes: self.notes.clone(),
                bytes: 0,
                parameters: 0,
            },
        };
        // Burn initialises parameters lazily: those replaced here are never initialised.
        let model = map_params(self.config.init(device), &mut filler);
        let Filler {
            taken, mut report, ..
        } = filler;
        let used: Vec<(&String, usize)> = taken
            .iter()
            .filter_map(|(hub_key, bytes)| Some((hub_key, (*bytes)?)))
            .collect();
        let examined = used.par_iter().map(|&(hub_key, bytes)| {
            let (key, tensor) = &self.tensors[hub_key];
            (hub_key, examine(key, tensor, bytes))
        });
        let mut digests = BTreeMap::new();
        for (hub_key, examined) in examined.collect::<Vec<_>>() {
            match examined {
                Ok(digest) => drop(digests.insert(hub_key, digest)),
                Err(problem) => report.problems.push(problem),
            }
        }
        if digests.len() == used.len() {
            report.fingerprint = Some(fingerprint(&digests, ""));
            report.tower.fingerprint = Some(fingerprint(&digests, "vision_tower."));
        }
        for (hub_key, (key, tensor)) in &self.tensors {
            if !taken.contains_key(hub_key) {
                report.unused.push(key.clone());
                report.problems.push(Problem::Unused {
                    key: key.clone(),
                    file: tensor.file.clone(),
                });
            }
        }
        (model, report)
    }
}

struct Filler<'a> {
    checkpoint: &'a Checkpoint,
    read: bool,
    /// By hub name: bytes used; `None` if a tensor does not fit.
    taken: BTreeMap<String, Option<usize>>,
    report: LoadReport,
}

/// Checks that the part of a tensor that is used is finite, and returns its digest.
fn examine(key: &str, tensor: &StoredTensor, used: usize) -> Result<[u8; 32], Problem> {
    let bytes = tensor.readable(key)?.slice(..used);
    tensor.check_finite(key, &bytes)?;
    let mut hash = Sha256::new();
    if let Some(dtype) = tensor.dtype {
        hash.update(dtype.torch());
    }
    hash.update(&bytes);
    Ok(hash.finalize().into())
}

impl Filler<'_> {
    /// The part of a tensor that is used, and its values if they are to be read.
    fn value<const D: usize>(
        &self,
        hub_key: &str,
        tensor: &StoredTensor,
        slot: &Slot<'_>,
    ) -> Result<(UsedTensor, Option<Tensor<D>>), Problem> {
        let (dtype, count) = tensor.fits(slot)?;
        let used = UsedTensor {
            key: slot.key.to_owned(),
            hub_key: hub_key.to_owned(),
            file: tensor.file.clone(),
            dtype,
            bytes: (count * dtype.size()) as u64,
        };
        // Whether the values are finite is checked later for all tensors in parallel, with their digests.
        let value = self.read.then(|| tensor.load_unchecked(slot)).transpose()?;
        Ok((used, value))
    }
}

impl ParamMapper for Filler<'_> {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(wanted) = checkpoint_key(path) else {
            return param;
        };
        let checkpoint = self.checkpoint;
        let Some((key, tensor)) = checkpoint.tensors.get(&wanted.key) else {
            let key = self.checkpoint.layout.key_of(&wanted.key);
            self.report.missing.push(key.clone());
            self.report.problems.push(Problem::Missing { key });
            return param;
        };
        let is_vocab = key.ends_with("embed_tokens.weight") || key.ends_with("lm_head.weight");
        let options = &checkpoint.options;
        let slot = Slot {
            key,
            shape: &param.lazy_shape(),
            placement: wanted.placement,
            more_rows: is_vocab && options.vocab_rows == VocabRows::Tokenizer,
            dtype: options.dtype,
            device: &param.lazy_device(),
        };
        let value = self.value::<D>(&wanted.key, tensor, &slot);
        let used = value.as_ref().ok().map(|(used, _)| used.bytes as usize);
        self.taken.insert(wanted.key, used);
        match value {
            Err(problem) => {
                self.report.problems.push(problem);
                param
            }
            Ok((used, value)) => {
                self.report.bytes += used.bytes;
                self.report.parameters += used.parameters();
                self.report.used.push(used);
                match value {
                    Some(value) => {
                        let id = param.id;
                        param.transform_for_load(value, id)
                    }
                    None => param,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Map, json};

    use super::*;
    use crate::{
        Layout, LazyTensor, Placement, file::json::write_json, format::pytorch::write::write_pickle,
    };
    use gallery_gpt_model::{ParamVisitor, visit_params};

    struct Tensors(Layout, Vec<(String, LazyTensor)>);

    impl ParamVisitor for Tensors {
        fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
            if let Some(key) = checkpoint_key(path) {
                let tensor = LazyTensor::new(param.val(), key.placement, None);
                self.1.push((self.0.key_of(&key.key), tensor));
            }
        }
    }

    /// As Qwen-VL-Chat is on the hub: pickles with an index, and buffers among the tensors.
    #[test]
    fn pickled_shards_of_qwen_are_the_model() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = goldens.join("../gallery-gpt/tests/goldens/qwen_basic/model");
        let (device, options) = (Device::flex(), LoadOptions::default());
        let (model, report) = load_model(&source, &device, &options).unwrap();
        let mut tensors = Tensors(report.layout, Vec::new());
        visit_params(&model, &mut tensors);
        let buffer = Tensor::<1>::zeros([1], &device);
        for name in ["attn.masked_bias", "rotary_emb.inv_freq"] {
            let buffer = LazyTensor::new(buffer.clone(), Placement::Same, None);
            tensors.1.push((format!("transformer.h.0.{name}"), buffer));
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "generation_config.json", "qwen.tiktoken"] {
            std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
        }
        let (mut map, mut rest) = (Map::new(), tensors.1);
        for number in 1..=3 {
            let file = format!("pytorch_model-{number:05}-of-00003.bin");
            let later = rest.split_off(rest.len().min(if number < 3 { 20 } else { usize::MAX }));
            let shard = std::mem::replace(&mut rest, later);
            assert!(!shard.is_empty());
            map.extend(shard.iter().map(|(key, _)| (key.clone(), json!(file))));
            write_pickle(&folder.path().join(&file), &shard).unwrap();
        }
        let index = folder.path().join("pytorch_model.bin.index.json");
        write_json(&index, &json!({ "metadata": {}, "weight_map": map })).unwrap();

        let (again, pickled) = load_model(folder.path(), &device, &options).unwrap();
        assert_eq!(again.config(), model.config());
        assert_eq!(pickled.fingerprint, report.fingerprint);
        assert!(pickled.fingerprint.is_some() && pickled.unused.is_empty());
        assert_eq!(pickled.ignored.len(), 2, "{:?}", pickled.ignored);
        assert!(pickled.used.iter().all(|used| used.file != index));
    }
}
