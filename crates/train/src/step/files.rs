//! The files of what is trained: the adapters, or every trained parameter.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use gallery_gpt_checkpoint::{
    AdapterLayout, AdapterOrigin, LazyTensor, LoadOptions, Placement, Slot, StoredTensor,
    TensorDtype, WeightFiles, load_adapter, save_adapter, write_tensors,
};
use gallery_gpt_model::{GalleryModel, ParamMapper, ParamVisitor, map_params, visit_params};

use crate::TrainError;

/// The adapters with the projector, in PEFT's layout.
const ADAPTER: &str = "adapter";
/// Every trained parameter, named by its path in the model.
const TRAINED: &str = "trained.safetensors";
/// The optimizer's moments, named by the paths of their parameters.
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";

/// Writes the adapters of a model if their origin is given, else every trained parameter.
///
/// # Errors
/// A file cannot be written.
pub(super) fn save_weights(
    model: &GalleryModel,
    origin: Option<&AdapterOrigin>,
    folder: &Path,
) -> Result<(), TrainError> {
    if let Some(origin) = origin {
        let adapter = folder.join(ADAPTER);
        return Ok(save_adapter(
            &model.valid(),
            origin,
            adapter,
            AdapterLayout::Peft,
        )?);
    }
    let mut trained = Trained::default();
    visit_params(model, &mut trained);
    Ok(write_tensors(&folder.join(TRAINED), trained.0)?)
}

/// Loads weights that [`save_weights`] wrote into a model with the same parameters.
///
/// # Errors
/// A file is missing or damaged, or does not fit the model.
pub(super) fn load_weights(model: GalleryModel, folder: &Path) -> Result<GalleryModel, TrainError> {
    let adapter = folder.join(ADAPTER);
    if adapter.is_dir() {
        return Ok(load_adapter(model, adapter, &LoadOptions::default())?.0);
    }
    let path = folder.join(TRAINED);
    let damaged = |found: String| TrainError::Damaged {
        path: path.clone(),
        found,
    };
    let file = WeightFiles::open_single(&path).map_err(|error| damaged(error.to_string()))?;
    let mut filler = Filler {
        tensors: file.iter().collect(),
        problem: None,
    };
    let model = map_params(model, &mut filler);
    match (filler.problem, filler.tensors.keys().next()) {
        (Some(problem), _) => Err(damaged(problem)),
        (None, Some(unused)) => Err(damaged(format!("the model has no parameter {unused}"))),
        (None, None) => Ok(model),
    }
}

/// Collects the trained parameters for writing.
#[derive(Default)]
struct Trained(Vec<(String, LazyTensor)>);

impl ParamVisitor for Trained {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let tensor = LazyTensor::new(param.val(), Placement::Same, None);
            self.0.push((path.to_owned(), tensor));
        }
    }
}

/// Fills the parameters that a file has tensors for.
struct Filler<'a> {
    /// Tensors that no parameter has taken yet.
    tensors: BTreeMap<&'a str, &'a StoredTensor>,
    /// The first problem.
    problem: Option<String>,
}

impl ParamMapper for Filler<'_> {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(stored) = self.tensors.remove(path) else {
            return param;
        };
        let slot = Slot {
            key: path,
            shape: &param.lazy_shape(),
            placement: Placement::Same,
            more_rows: false,
            dtype: Some(TensorDtype::F32),
            device: &param.lazy_device(),
        };
        match stored.load(&slot) {
            Ok(value) => {
                let id = param.id;
                param.transform_for_load(value, id)
            }
            Err(problem) => {
                self.problem.get_or_insert(problem.to_string());
                param
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use gallery_gpt_llama::LoraConfig;
    use gallery_gpt_model::GalleryModelConfig;

    use super::*;

    struct Values(Vec<f32>);

    impl ParamVisitor for Values {
        fn visit<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().convert::<f32>();
            let values: Vec<f32> = values.try_into_vec().unwrap_or_default();
            self.0.extend(values);
        }
    }

    fn values(model: &GalleryModel) -> Vec<f32> {
        let mut values = Values(Vec::new());
        visit_params(model, &mut values);
        values.0
    }

    #[test]
    fn adapters_of_qwen_come_back_from_a_checkpoint() -> Result<(), Box<dyn std::error::Error>> {
        let device = Device::flex();
        let base = GalleryModelConfig::tiny_qwen_vl().init(&device);
        values(&base);
        let lora = |seed| {
            let lora = LoraConfig::qwen_vl_chat();
            LoraConfig { seed, ..lora }
        };
        let trained = base.clone().apply_lora(&lora(1));
        let folder = tempfile::tempdir()?;
        save_weights(&trained, Some(&"tiny".into()), folder.path())?;
        let begun = base.apply_lora(&lora(2));
        assert!(values(&begun) != values(&trained));
        let again = load_weights(begun, folder.path())?;
        assert!(values(&again) == values(&trained));
        Ok(())
    }
}
