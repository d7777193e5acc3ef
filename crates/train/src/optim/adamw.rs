//! AdamW over all that is trained, with a rate for each group: Burn's, a parameter at a time.
//!
//! Burn also has a container for a whole module. It reads a state onto the default device, whatever device the parameter is on, and
//! writes in the order of a hash map; here a state goes straight to its parameter, and a file depends on nothing but the states.

use std::{collections::HashMap, path::Path};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::{
        AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer as _,
    },
    tensor::{DType, Device, Tensor, TensorData},
};
use gallery_gpt_model::GalleryModel;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{ParamGroups, TrainError, TrainingConfig, step::Rates};

/// Moments of every trained parameter.
pub(crate) struct Optimizer {
    decayed: AdamW,
    /// Of norms and biases.
    not_decayed: AdamW,
    /// In one row, whatever the parameter's shape.
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

    /// Moves every parameter that has a gradient.
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

    /// The moments as a safetensors file, under the paths of their parameters and PyTorch's names (`exp_avg`, `exp_avg_sq`, `step`).
    pub(crate) fn to_bytes(
        &self,
        model: &GalleryModel,
    ) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let mut writer = Writer {
            states: &self.states,
            stack: Vec::new(),
            found: Vec::new(),
        };
        model.visit(&mut writer);
        let views = writer.found.iter().map(|(name, data)| {
            let dtype = match data.dtype() {
                DType::I64 => Dtype::I64,
                _ => Dtype::F32,
            };
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?;
            Ok((name.clone(), view))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, None)
    }

    /// Takes the moments of a file, for the parameters of a model and on their devices.
    ///
    /// # Errors
    /// The file is damaged, or does not fit the model.
    pub(crate) fn read(
        &mut self,
        model: &GalleryModel,
        bytes: &[u8],
        path: &Path,
    ) -> Result<(), TrainError> {
        let damaged = |found: String| TrainError::Damaged {
            path: path.to_owned(),
            found,
        };
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
        let mut reader = Reader {
            tensors: tensors.tensors().into_iter().collect(),
            stack: Vec::new(),
            states: HashMap::new(),
            wrong: None,
        };
        model.visit(&mut reader);
        if let Some(wrong) = reader.wrong {
            return Err(damaged(wrong));
        }
        if let Some(unused) = reader.tensors.keys().next() {
            return Err(damaged(format!(
                "nothing is trained that {unused} belongs to"
            )));
        }
        self.states = reader.states;
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

struct Writer<'a> {
    states: &'a HashMap<ParamId, AdamWState<1>>,
    stack: Vec<String>,
    found: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Writer<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(AdamWState { momentum }) = self.states.get(&param.id) else {
            return;
        };
        let path = self.stack.join(".");
        let shape = param.lazy_shape();
        for (name, moment) in [(MEAN, &momentum.moment_1), (SQUARE, &momentum.moment_2)] {
            let data = moment.clone().reshape::<D, _>(shape.clone()).into_data();
            self.found.push((format!("{path}.{name}"), data));
        }
        let step = TensorData::new(vec![momentum.time as i64], [1]);
        self.found.push((format!("{path}.{STEP}"), step));
    }
}

struct Reader<'a> {
    tensors: HashMap<String, TensorView<'a>>,
    stack: Vec<String>,
    states: HashMap<ParamId, AdamWState<1>>,
    wrong: Option<String>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let path = self.stack.join(".");
        let device = param.val().inner().device();
        let state = self.state(&path, &param.lazy_shape().to_vec(), &device);
        match state {
            Ok(Some(state)) => {
                self.states.insert(param.id, state);
            }
            // Nothing has moved it yet.
            Ok(None) => {}
            Err(wrong) => {
                self.wrong.get_or_insert(wrong);
            }
        }
    }
}

impl Reader<'_> {
    fn state(
        &mut self,
        path: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Option<AdamWState<1>>, String> {
        let mut take = |name: &str| self.tensors.remove(&format!("{path}.{name}"));
        let (mean, square, step) = match (take(MEAN), take(SQUARE), take(STEP)) {
            (Some(mean), Some(square), Some(step)) => (mean, square, step),
            (None, None, None) => return Ok(None),
            _ => return Err(format!("{path} has not all of {MEAN}, {SQUARE} and {STEP}")),
        };
        let moment = |view: &TensorView<'_>| {
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(format!(
                    "a moment of {path} is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                ));
            }
            let count: usize = shape.iter().product();
            let data = TensorData::from_bytes_vec(view.data().to_vec(), [count], DType::F32);
            Ok(Tensor::<1>::from_data(data, (device, DType::F32)))
        };
        let bytes: Option<[u8; 8]> = step.data().try_into().ok();
        let time = bytes.and_then(|bytes| usize::try_from(i64::from_le_bytes(bytes)).ok());
        let time = time.ok_or_else(|| format!("{path}.{STEP} is no number of steps"))?;
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: moment(&mean)?,
            moment_2: moment(&square)?,
            max_moment_2: None,
        };
        Ok(Some(AdamWState { momentum }))
    }
}
