//! AdamW over all trained parameters, with a learning rate for each group. It applies Burn's AdamW to one parameter at a time.
//!
//! Burn's optimizer for a whole module loads states onto the default device, whatever device the parameter is on, and writes them in
//! the order of a hash map. Here a state is loaded onto its parameter's device, and equal states give equal files.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    optim::{
        AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer as _,
    },
    tensor::Tensor,
};
use gallery_gpt_checkpoint::{
    LazyTensor, Placement, Slot, StoredTensor, TensorDtype, WeightFiles, write_tensors,
};
use gallery_gpt_model::{GalleryModel, ParamVisitor, visit_params};

use super::{ParamGroups, Rates};
use crate::{TrainError, TrainingConfig};

/// AdamW with the moments of every trained parameter.
pub(crate) struct Optimizer {
    decayed: AdamW,
    /// For norms and biases.
    not_decayed: AdamW,
    /// Flattened, whatever the parameter's shape.
    states: HashMap<ParamId, AdamWState<1>>,
}

impl Optimizer {
    pub(crate) fn new(config: &TrainingConfig) -> Self {
        let adamw = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(config.adam_beta1 as f32)
                .with_beta_2(config.adam_beta2 as f32)
                .with_epsilon(config.adam_epsilon as f32)
                .with_weight_decay(weight_decay as f32)
                .build()
        };
        Self {
            decayed: adamw(config.weight_decay),
            not_decayed: adamw(0.0),
            states: HashMap::new(),
        }
    }

    /// Updates every parameter that has a gradient.
    pub(crate) fn step(
        &mut self,
        model: GalleryModel,
        grads: GradientsParams,
        groups: &ParamGroups,
        rates: Rates,
    ) -> GalleryModel {
        model.map(&mut Mover {
            optimizer: self,
            grads,
            groups,
            rates,
        })
    }

    /// Writes the moments into a safetensors file, named by the paths of their parameters and PyTorch's names (`exp_avg`, `exp_avg_sq`,
    /// `step`).
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self, model: &GalleryModel, path: &Path) -> Result<(), TrainError> {
        let mut collector = Collector {
            states: &self.states,
            tensors: Vec::new(),
        };
        visit_params(model, &mut collector);
        Ok(write_tensors(path, collector.tensors)?)
    }

    /// Loads the moments from a file, onto the devices of their parameters.
    ///
    /// # Errors
    /// The file is damaged, or does not fit the model.
    pub(crate) fn restore(&mut self, model: &GalleryModel, path: &Path) -> Result<(), TrainError> {
        let damaged = |found: String| TrainError::Damaged {
            path: path.to_owned(),
            found,
        };
        let file = WeightFiles::open_single(path).map_err(|error| damaged(error.to_string()))?;
        let mut filler = Filler {
            tensors: file.iter().collect(),
            states: HashMap::new(),
            problem: None,
        };
        visit_params(model, &mut filler);
        if let Some(problem) = filler.problem {
            return Err(damaged(problem));
        }
        if let Some(unused) = filler.tensors.keys().next() {
            return Err(damaged(format!(
                "{unused} belongs to no parameter that is trained"
            )));
        }
        self.states = filler.states;
        Ok(())
    }
}

struct Mover<'a> {
    optimizer: &'a mut Optimizer,
    grads: GradientsParams,
    groups: &'a ParamGroups,
    rates: Rates,
}

impl ModuleMapper for Mover<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(grad) = self.grads.remove::<D>(id) else {
            return param;
        };
        let adamw = if self.groups.no_decay.contains(&id) {
            &self.optimizer.not_decayed
        } else {
            &self.optimizer.decayed
        };
        let rate = if self.groups.projector.contains(&id) {
            self.rates.mm_projector_lr
        } else {
            self.rates.learning_rate
        };
        let states = &mut self.optimizer.states;
        param.map(|value| {
            let shape = value.dims();
            let row = value.inner().flatten::<1>(0, D - 1);
            let (row, state) =
                adamw.step(rate, row, grad.flatten::<1>(0, D - 1), states.remove(&id));
            states.extend(state.map(|state| (id, state)));
            row.reshape(shape).autodiff().require_grad()
        })
    }
}

const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";
const STEP: &str = "step";

/// Collects the moments of all parameters for writing.
struct Collector<'a> {
    states: &'a HashMap<ParamId, AdamWState<1>>,
    tensors: Vec<(String, LazyTensor)>,
}

impl ParamVisitor for Collector<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(AdamWState { momentum }) = self.states.get(&param.id) else {
            return;
        };
        let shape = param.lazy_shape();
        for (name, moment) in [(MEAN, &momentum.moment_1), (SQUARE, &momentum.moment_2)] {
            let moment = moment.clone().reshape::<D, _>(shape.clone());
            let tensor = LazyTensor::new(moment, Placement::Same, None);
            self.tensors.push((format!("{path}.{name}"), tensor));
        }
        let step = LazyTensor::integers(vec![momentum.time as i64]);
        self.tensors.push((format!("{path}.{STEP}"), step));
    }
}

/// Loads the moments of every trained parameter from a file.
struct Filler<'a> {
    /// Tensors that no parameter has taken yet.
    tensors: BTreeMap<&'a str, &'a StoredTensor>,
    states: HashMap<ParamId, AdamWState<1>>,
    /// The first problem.
    problem: Option<String>,
}

impl ParamVisitor for Filler<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        match self.state(path, param) {
            Ok(Some(state)) => {
                self.states.insert(param.id, state);
            }
            // No step has updated it yet.
            Ok(None) => {}
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }
}

impl Filler<'_> {
    fn state<const D: usize>(
        &mut self,
        path: &str,
        param: &Param<Tensor<D>>,
    ) -> Result<Option<AdamWState<1>>, String> {
        let mut take = |name: &str| self.tensors.remove(&*format!("{path}.{name}"));
        let (mean, square, step) = match (take(MEAN), take(SQUARE), take(STEP)) {
            (Some(mean), Some(square), Some(step)) => (mean, square, step),
            (None, None, None) => return Ok(None),
            _ => {
                return Err(format!(
                    "{path} does not have all of {MEAN}, {SQUARE} and {STEP}"
                ));
            }
        };
        let shape = param.lazy_shape();
        let device = param.val().inner().device();
        let moment = |stored: &StoredTensor, name: &str| {
            let slot = Slot {
                key: &format!("{path}.{name}"),
                shape: &shape,
                placement: Placement::Same,
                more_rows: false,
                dtype: Some(TensorDtype::F32),
                device: &device,
            };
            let moment = stored.load::<D>(&slot);
            let moment = moment.map_err(|problem| problem.to_string())?;
            Ok::<_, String>(moment.flatten::<1>(0, D - 1))
        };
        let bytes = step.bytes().ok();
        let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok());
        let time = bytes.and_then(|bytes| usize::try_from(i64::from_le_bytes(bytes)).ok());
        let time = time.ok_or_else(|| format!("{path}.{STEP} is not a number of steps"))?;
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: moment(mean, MEAN)?,
            moment_2: moment(square, SQUARE)?,
            max_moment_2: None,
        };
        Ok(Some(AdamWState { momentum }))
    }
}
