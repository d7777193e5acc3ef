//! The report of a load.

use std::{collections::BTreeMap, path::PathBuf};

use super::{base_identity::BaseIdentity, fingerprint::short, tower::TowerSource};
use crate::{CheckpointError, Layout, Problem, TensorDtype};

/// A tensor that fills a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedTensor {
    /// Its name in the file.
    pub key: String,
    /// Its name in the llava-hf layout.
    pub hub_key: String,
    /// The file.
    pub file: PathBuf,
    /// Dtype it is stored in.
    pub dtype: TensorDtype,
    /// Bytes of it that are used.
    pub bytes: u64,
}

impl UsedTensor {
    /// Number of values in it.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.bytes / self.dtype.size() as u64
    }
}

/// How every tensor of a checkpoint was used.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// Its layout.
    pub layout: Layout,
    /// Identifies the weights, whatever layout and files they are in: `sha256:` and the SHA-256 over the hub name, the dtype and every
    /// byte of each tensor used. `None` if a tensor could not be read.
    pub fingerprint: Option<String>,
    /// Where the vision tower came from.
    pub tower: TowerSource,
    /// Tensors used.
    pub used: Vec<UsedTensor>,
    /// Tensors not used.
    pub unused: Vec<String>,
    /// Tensors that are not of this model and need not be: recomputed buffers, the text model of a CLIP, a tower
    /// that another was chosen in place of.
    pub ignored: Vec<String>,
    /// Files with the same tensors in the other format, which were not read.
    pub unread: Vec<PathBuf>,
    /// Parameters that kept their initial value. Only a partial load has any.
    pub missing: Vec<String>,
    /// Everything that did not match, in a partial load.
    pub problems: Vec<Problem>,
    /// Remarks for the user, a sentence each: fields of configs that were ignored, and defaults that were assumed.
    pub notes: Vec<String>,
    /// Bytes of the tensors used.
    pub bytes: u64,
    /// Parameters filled.
    pub parameters: u64,
}

impl LoadReport {
    /// Parameters of the vision tower, the projector and the decoder.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 3] {
        ["vision_tower", "multi_modal_projector", "language_model"].map(|part| {
            let tensors = self.used.iter();
            let tensors = tensors.filter(|used| used.hub_key.starts_with(part));
            (part, tensors.map(UsedTensor::parameters).sum())
        })
    }

    /// Identity of the base: its weights' fingerprint, and the SHA-256 of its configs and its tokenizer's files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn identity(&self) -> Result<BaseIdentity, CheckpointError> {
        BaseIdentity::new(
            self.fingerprint.as_deref(),
            &self.folder,
            &self.tower.folder,
        )
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
        for used in &self.used {
            *dtypes.entry(used.dtype.torch()).or_default() += 1;
        }
        let dtypes: Vec<String> = dtypes
            .into_iter()
            .map(|(dtype, count)| format!("{count} {dtype}"))
            .collect();
        write!(
            f,
            "{}: {} layout, {} parameters in {} tensors ({}), {:.1} MB, fingerprint {}\n{}",
            self.folder.display(),
            self.layout,
            self.parameters,
            self.used.len(),
            dtypes.join(", "),
            self.bytes as f64 / 1e6,
            short(self.fingerprint.as_deref()),
            self.tower,
        )?;
        if !self.ignored.is_empty() {
            write!(f, "\n{} tensors of other parts ignored", self.ignored.len())?;
        }
        for path in &self.unread {
            write!(f, "\nnot read: {}", path.display())?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
