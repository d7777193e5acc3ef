//! Writing a model as llava-hf.

use std::{borrow::Cow, path::Path};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Tensor, TensorData},
};
use gallery_gpt_model::GalleryModel;
use safetensors::{Dtype, View};

use crate::{
    AtomicFolder, CheckpointError, Placement, TensorDtype, checkpoint_key,
    config_file::config_json, write_file,
};

/// How to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Number type of the tensors; the model's by default.
    pub dtype: Option<TensorDtype>,
}

/// A tensor on its way into a file.
pub(crate) struct Outgoing {
    shape: Vec<usize>,
    dtype: Dtype,
    data: TensorData,
}

impl Outgoing {
    /// Takes a parameter off its device, laid out as the file wants it.
    pub(crate) fn new<const D: usize>(
        value: Tensor<D>,
        placement: Placement,
        dtype: Option<TensorDtype>,
    ) -> Self {
        let value = value.detach();
        let stored = TensorDtype::from_burn(value.dtype()).unwrap_or(TensorDtype::F32);
        let dtype = dtype.unwrap_or(stored);
        let value = match placement {
            Placement::Same => value,
            Placement::Transposed => value.swap_dims(0, D - 1),
        };
        let value = value.cast(dtype.burn());
        Self {
            shape: value.dims().to_vec(),
            dtype: dtype.file(),
            data: value.into_data(),
        }
    }
}

impl View for Outgoing {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.data.as_bytes().len()
    }
}

pub(crate) fn write_tensors(
    path: &Path,
    tensors: Vec<(String, Outgoing)>,
) -> Result<(), CheckpointError> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| {
        CheckpointError::Write {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        }
    })
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), CheckpointError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}

/// Writes `config.json` and `model.safetensors` in the llava-hf layout. Adapters are not in it: merge them first, or save
/// them with [`crate::save_adapter`].
///
/// The embedding and the head get rows for the picture and padding tokens, up to a multiple of 64, as llava-hf has them.
/// Each is the mean of the real rows, so that none can ever be the likeliest token.
///
/// # Errors
/// The folder cannot be written.
pub fn save_model(
    model: &GalleryModel,
    folder: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<(), CheckpointError> {
    let rows = model.config().llama.vocab_size;
    let stored_rows = (rows + 2).next_multiple_of(64);
    let mut collector = Collector {
        dtype: options.dtype,
        new_rows: stored_rows - rows,
        stack: Vec::new(),
        tensors: Vec::new(),
    };
    model.visit(&mut collector);
    let dtype = match options.dtype.or(TensorDtype::from_burn(model.dtype())) {
        Some(TensorDtype::F16) => "float16",
        Some(TensorDtype::BF16) => "bfloat16",
        Some(TensorDtype::F32) | None => "float32",
    };
    let target = AtomicFolder::new(folder.as_ref())?;
    write_tensors(&target.file("model.safetensors"), collector.tensors)?;
    write_json(
        &target.file("config.json"),
        &config_json(model.config(), stored_rows, dtype),
    )?;
    target.commit()
}

struct Collector {
    dtype: Option<TensorDtype>,
    new_rows: usize,
    stack: Vec<String>,
    tensors: Vec<(String, Outgoing)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(wanted) = checkpoint_key(&self.stack.join(".")) else {
            return;
        };
        let mut value = param.val();
        // The dimension of the parameter that runs over the vocabulary.
        let vocab_dim = match wanted.key.as_str() {
            "language_model.model.embed_tokens.weight" => Some(0),
            "language_model.lm_head.weight" => Some(1),
            _ => None,
        };
        if let Some(dim) = vocab_dim {
            let dtype = value.dtype();
            let mean = value.clone().cast(DType::F32).mean_dim(dim).cast(dtype);
            value = Tensor::cat(vec![value, mean.repeat_dim(dim, self.new_rows)], dim);
        }
        self.tensors.push((
            wanted.key,
            Outgoing::new(value, wanted.placement, self.dtype),
        ));
    }
}
