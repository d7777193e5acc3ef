//! Filling a model from a checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Bytes, DType, Device, Tensor, TensorData},
};
use gallery_gpt_model::GalleryModel;

use crate::{
    CheckpointError, Layout, LoadReport, Placement, Problem, StoredTensor, TensorDtype,
    WeightFiles, checkpoint_key, read_config,
};

/// What to do about tensors that do not match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Every mismatch is an error.
    #[default]
    Strict,
    /// Use what matches, keep the rest as initialised, and report it.
    Partial,
}

/// Which rows of the embedding and the head to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VocabRows {
    /// The tokenizer's: llava-hf adds rows for the picture and padding tokens and fills up to a multiple of 64; the original
    /// model, and its loss, do not have them.
    #[default]
    Tokenizer,
    /// All that are stored.
    AsStored,
}

/// How to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Number type of the weights; the stored one by default.
    pub dtype: Option<TensorDtype>,
    /// Which rows of the vocabulary.
    pub vocab_rows: VocabRows,
    /// What to do about mismatches.
    pub strictness: Strictness,
}

/// Loads a llava-hf folder: its `config.json` and its weights.
///
/// # Errors
/// A file cannot be read or is damaged, or the weights do not match the config; see [`CheckpointError`].
pub fn load_model(
    folder: impl AsRef<Path>,
    device: &Device,
    options: &LoadOptions,
) -> Result<(GalleryModel, LoadReport), CheckpointError> {
    let folder = folder.as_ref();
    let mut config = read_config(folder)?;
    let files = WeightFiles::open(folder)?;
    if options.vocab_rows == VocabRows::Tokenizer {
        config.model.llama.vocab_size = config.image_token_index;
    }
    load_weights(config.model.init(device), &files, options)
}

/// Fills a model from files that are already open. Parameters are replaced before they are ever initialised.
///
/// # Errors
/// As [`load_model`].
pub fn load_weights(
    model: GalleryModel,
    files: &WeightFiles,
    options: &LoadOptions,
) -> Result<(GalleryModel, LoadReport), CheckpointError> {
    let layout = Layout::detect(files.folder(), files.iter().map(|(key, _)| key))?;
    let by_hub_key: BTreeMap<String, (&str, &StoredTensor)> = files
        .iter()
        .filter_map(|(key, tensor)| Some((layout.hub_key(key)?, (key, tensor))))
        .collect();
    let mut loader = Loader {
        tensors: &by_hub_key,
        dtype: options.dtype,
        cut_rows: options.vocab_rows == VocabRows::Tokenizer,
        stack: Vec::new(),
        taken: BTreeSet::new(),
        problems: Vec::new(),
        report: LoadReport {
            folder: files.folder().to_owned(),
            layout,
            used: Vec::new(),
            unused: Vec::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            bytes: 0,
            parameters: 0,
        },
    };
    let model = model.map(&mut loader);
    let Loader {
        taken,
        mut problems,
        mut report,
        ..
    } = loader;
    for (hub_key, (key, tensor)) in &by_hub_key {
        if !taken.contains(hub_key) {
            report.unused.push((*key).to_owned());
            problems.push(Problem::Unused {
                key: (*key).to_owned(),
                file: tensor.file.clone(),
            });
        }
    }
    if options.strictness == Strictness::Strict && !problems.is_empty() {
        return Err(CheckpointError::Mismatch {
            folder: files.folder().to_owned(),
            problems,
        });
    }
    report.problems = problems;
    Ok((model, report))
}

struct Loader<'a> {
    tensors: &'a BTreeMap<String, (&'a str, &'a StoredTensor)>,
    dtype: Option<TensorDtype>,
    cut_rows: bool,
    stack: Vec<String>,
    taken: BTreeSet<String>,
    problems: Vec<Problem>,
    report: LoadReport,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.stack.join(".");
        let Some(wanted) = checkpoint_key(&path) else {
            return param;
        };
        let Some(&(key, tensor)) = self.tensors.get(&wanted.key) else {
            self.report.missing.push(wanted.key.clone());
            self.problems.push(Problem::Missing { key: wanted.key });
            return param;
        };
        self.taken.insert(wanted.key);
        let Some(dtype) = tensor.dtype else {
            self.problems.push(Problem::Dtype {
                key: key.to_owned(),
                file: tensor.file.clone(),
                found: tensor.stored_dtype.clone(),
            });
            return param;
        };
        let mut expected: Vec<usize> = param.lazy_shape().to_vec();
        if wanted.placement == Placement::Transposed {
            expected.reverse();
        }
        let is_vocab = key.ends_with("embed_tokens.weight") || key.ends_with("lm_head.weight");
        let fits = tensor.shape == expected
            || (self.cut_rows
                && is_vocab
                && tensor.shape.len() == 2
                && tensor.shape[0] >= expected[0]
                && tensor.shape[1] == expected[1]);
        if !fits {
            self.problems.push(Problem::Shape {
                key: key.to_owned(),
                file: tensor.file.clone(),
                expected,
                found: tensor.shape.clone(),
            });
            return param;
        }
        let count: usize = expected.iter().product();
        let bytes = &tensor.bytes()[..count * dtype.size()];
        let mut value = from_bytes::<D>(bytes, &expected, dtype.burn(), &param.lazy_device());
        if wanted.placement == Placement::Transposed {
            // A view: the numbers stay as PyTorch lays them out.
            value = value.swap_dims(0, D - 1);
        }
        if let Some(dtype) = self.dtype {
            value = value.cast(dtype.burn());
        }
        self.report.bytes += bytes.len() as u64;
        self.report.parameters += count as u64;
        self.report.used.push((
            key.to_owned(),
            tensor.file.clone(),
            tensor.stored_dtype.clone(),
        ));
        let id = param.id;
        param.transform_for_load(value, id)
    }
}

pub(crate) fn from_bytes<const D: usize>(
    bytes: &[u8],
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()), shape, dtype);
    Tensor::from_data(data, (device, dtype))
}
