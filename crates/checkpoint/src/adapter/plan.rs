//! What an adapter does to a model: which of its tensors stay separate from the weights, and which parameters of the base change.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use gallery_gpt_llama::{LoraConfig, LoraTarget};

use super::{
    base::is_projector,
    folder::{AdapterTensor, AdapterTensors},
};
use crate::Problem;

/// The low-rank update of one weight.
#[derive(Clone, Debug)]
pub(super) struct LowRank {
    pub(super) a: AdapterTensor,
    pub(super) b: AdapterTensor,
    pub(super) lora: LoraConfig,
    /// Whether the weight is an embedding, for which the product is transposed.
    pub(super) is_embedding: bool,
    /// DoRA's magnitudes: the norms of the rows of the updated weight.
    pub(super) magnitude: Option<AdapterTensor>,
    /// Whether the product of the initial factors was subtracted from the base.
    pub(super) is_olora: bool,
}

/// How one parameter of the base changes.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// A tensor that replaces it.
    pub(super) whole: Option<AdapterTensor>,
    /// An update that is added to it.
    pub(super) low_rank: Option<LowRank>,
    /// Rows that replace some of its own, with their indices.
    pub(super) rows: Option<(AdapterTensor, Vec<usize>)>,
    /// A vector that is added to it, with its scale.
    pub(super) added: Option<(AdapterTensor, f64)>,
}

/// How a model changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// LoRA of the decoder's blocks, which stays separate from the weights.
    pub(super) adapters: BTreeMap<(usize, LoraTarget), LowRank>,
    /// Parameters of the base that change, by hub name.
    pub(super) changes: BTreeMap<String, Change>,
    /// Biases for linears without one, by the hub name of the module, with their scale.
    pub(super) biases: BTreeMap<String, (AdapterTensor, f64)>,
    /// The targets in the decoder, whether LoRA stays separate from their weights or is merged into them.
    pub(super) targets: BTreeSet<LoraTarget>,
    pub(super) used: Vec<(String, PathBuf)>,
    pub(super) problems: Vec<Problem>,
}

impl Plan {
    /// Modules whose parameters change.
    pub(super) fn changed_modules(&self) -> Vec<String> {
        let weights = self.changes.keys();
        let weights = weights.filter_map(|key| key.rsplit_once('.').map(|(module, _)| module));
        let biases = self.biases.keys().map(String::as_str);
        let modules: BTreeSet<&str> = weights.chain(biases).collect();
        modules.into_iter().map(str::to_owned).collect()
    }

    /// Whether the whole projector is replaced.
    pub(super) fn replaces_projector(&self) -> bool {
        let mut weights = self.changes.iter();
        weights.any(|(key, change)| {
            is_projector(key) && key.ends_with(".weight") && change.whole.is_some()
        })
    }

    /// Replaces a parameter of the base by a tensor.
    pub(super) fn replace(&mut self, hub_key: String, tensor: AdapterTensor) {
        self.used
            .push((tensor.name.clone(), tensor.stored.file.clone()));
        self.changes.entry(hub_key).or_default().whole = Some(tensor);
    }

    /// Lists tensors that nothing uses as problems.
    pub(super) fn refuse_unused(&mut self, rest: AdapterTensors) {
        let unused = rest.tensors.into_values();
        self.problems.extend(unused.map(|tensor| Problem::Unused {
            key: tensor.name,
            file: tensor.stored.file,
        }));
    }
}
