//! Loads the values of an adapter into a model, as its plan says.

use burn::{
    module::{Module as _, Param, ParamId},
    tensor::{DType, Device, Tensor},
};
use gallery_gpt_llama::{LoraConfig, LoraLinear};
use gallery_gpt_model::{GalleryModel, ParamMapper, map_params};

use super::{
    base::decoder_linear,
    folder::AdapterTensor,
    olora::first_factors,
    plan::{Change, LowRank, Plan},
};
use crate::{Placement, Problem, checkpoint_key};

/// Carries out a plan. Parameters whose tensors cannot be read stay as they were, and the problems are returned.
pub(super) fn fill(mut model: GalleryModel, plan: &Plan) -> (GalleryModel, Vec<Problem>) {
    let decoder = model.language_model;
    model.language_model = decoder.apply_lora_by_linear(|block, target| {
        plan.adapters.get(&(block, target)).map(LowRank::separate)
    });
    let mut problems = Vec::new();
    for (&(block, target), update) in &plan.adapters {
        // Planned for linears that the model has.
        let linear = model.language_model.layers[block].linear_mut(target);
        if let Some(Err(problem)) = linear.map(|linear| update.fill(linear)) {
            problems.push(problem);
        }
    }
    let mut filler = Filler { plan, problems };
    model = map_params(model, &mut filler);
    let mut problems = filler.problems;
    for (module, (bias, scale)) in &plan.biases {
        if let Err(problem) = add_bias(&mut model, module, bias, *scale) {
            problems.push(problem);
        }
    }
    (model, problems)
}

/// Adds a bias of an adapter to a linear of the decoder without one.
fn add_bias(
    model: &mut GalleryModel,
    module: &str,
    bias: &AdapterTensor,
    scale: f64,
) -> Result<(), Problem> {
    let decoder = &mut model.language_model;
    let of_block = decoder_linear(module);
    let of_block =
        of_block.and_then(|(block, target)| decoder.layers.get_mut(block)?.linear_mut(target));
    let linear = match of_block {
        Some(linear) => &mut linear.base,
        None => &mut decoder.lm_head,
    };
    let weight = linear.weight.val();
    let output = weight.dims()[1];
    let bias = read::<1>(bias, &bias.stored.shape, &weight.device())?.slice_dim(0, 0..output);
    let value = (bias * scale).cast(weight.dtype());
    linear.bias = Some(Param::initialized(ParamId::new(), value).no_grad());
    Ok(())
}

/// The values of a tensor in f32, in another shape.
fn read<const D: usize>(
    tensor: &AdapterTensor,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor<D>, Problem> {
    read_stored(tensor, shape, device).map(|value| value.cast(DType::F32))
}

/// The values of a tensor in their own dtype, in another shape.
fn read_stored<const D: usize>(
    tensor: &AdapterTensor,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor<D>, Problem> {
    tensor.stored.reshaped(&tensor.name, shape, device)
}

impl LowRank {
    /// Settings of the adapter that stays separate from the weight. If the product of the initial factors was subtracted from the base,
    /// the adapter includes that and has twice the rank, as in PEFT's conversion.
    pub(super) fn separate(&self) -> LoraConfig {
        let mut lora = self.lora.clone();
        if self.is_olora {
            lora.rank *= 2;
            lora.alpha *= if lora.use_rslora { 2_f64.sqrt() } else { 2.0 };
        }
        lora
    }

    /// A `[rank, input]` and B `[output, rank]`, for a weight `[output, input]`.
    fn factors(&self, weight: &Tensor<2>) -> Result<[Tensor<2>; 2], Problem> {
        let device = weight.device();
        let [output, input] = weight.dims();
        let rank = self.lora.rank;
        let matrix = |tensor: &AdapterTensor, rows: usize| {
            let count = tensor.stored.shape.iter().product::<usize>();
            read::<2>(tensor, &[rows, count / rows], &device)
        };
        let a = matrix(&self.a, rank)?;
        let b = matrix(&self.b, self.b.stored.shape[0])?;
        if self.is_embedding {
            // The update is the transposed product.
            let a = a.slice([0..rank, 0..output]);
            return Ok([b.transpose(), a.transpose()]);
        }
        let b = if self.b.stored.shape[0] > output {
            b.slice([0..output, 0..rank])
        } else {
            b
        };
        if !self.is_olora {
            return Ok([a, b]);
        }
        let [first_a, first_b] =
            first_factors(weight, rank).ok_or_else(|| Problem::Unreadable {
                key: self.a.name.clone(),
                file: self.a.stored.file.clone(),
                reason: format!(
                    "init_lora_weights is olora, but the first {rank} columns of the base's weight (of {input}) have no QR decomposition; \
                     this is not the base that the adapter was trained on"
                ),
            })?;
        Ok([
            Tensor::cat(vec![a, first_a], 0),
            Tensor::cat(vec![b, -first_b], 1),
        ])
    }

    /// Loads the factors into the adapter of a linear.
    fn fill(&self, linear: &mut LoraLinear) -> Result<(), Problem> {
        let weight = linear.base.weight.val().detach().transpose();
        let [a, b] = self.factors(&weight)?;
        if let Some(mut lora) = linear.lora.take() {
            let ids = (lora.lora_a.id, lora.lora_b.id);
            lora.lora_a = lora.lora_a.transform_for_load(a.transpose(), ids.0);
            lora.lora_b = lora.lora_b.transform_for_load(b.transpose(), ids.1);
            linear.lora = Some(lora);
        }
        Ok(())
    }

    /// The weight `[output, input]` with the update merged into it.
    fn merged(&self, weight: Tensor<2>) -> Result<Tensor<2>, Problem> {
        let [a, b] = self.factors(&weight)?;
        let sum = weight + b.matmul(a) * self.lora.scale();
        let Some(magnitude) = &self.magnitude else {
            return Ok(sum);
        };
        let [output, _] = sum.dims();
        let stored = &magnitude.stored.shape;
        let magnitude = read::<1>(magnitude, stored, &sum.device())?.slice_dim(0, 0..output);
        let norm = (sum.clone() * sum.clone()).sum_dim(1).sqrt();
        Ok(sum * (magnitude.reshape([output, 1]) / norm))
    }
}

/// Changes the parameters of the base that the plan names.
struct Filler<'a> {
    plan: &'a Plan,
    problems: Vec<Problem>,
}

impl Change {
    fn apply<const D: usize>(
        &self,
        before: Tensor<D>,
        placement: Placement,
    ) -> Result<Tensor<D>, Problem> {
        let dtype = before.dtype();
        let device = before.device();
        let transposed = |value: Tensor<D>| match placement {
            Placement::Same => value,
            Placement::Transposed => value.swap_dims(0, D - 1),
        };
        let mut value = before;
        if let Some(whole) = &self.whole {
            let rows = transposed(value).dims()[0];
            let stored = &whole.stored.shape;
            let mut new = read_stored::<D>(whole, stored, &device)?;
            if stored[0] > rows {
                new = new.slice_dim(0, 0..rows);
            }
            value = transposed(new).cast(dtype);
        }
        if let Some((added, scale)) = &self.added {
            let added = read::<D>(added, &added.stored.shape, &device)?;
            value = (value.cast(DType::F32) + added * *scale).cast(dtype);
        }
        if self.low_rank.is_none() && self.rows.is_none() {
            return Ok(value);
        }
        // As a matrix `[output, input]`, also for a convolution. Summed in f32 and rounded once.
        let value = transposed(value);
        let shape = value.dims();
        let width = shape[1..].iter().product::<usize>();
        let mut matrix = value.cast(DType::F32).reshape([shape[0], width]);
        if let Some(update) = &self.low_rank {
            matrix = update.merged(matrix)?;
        }
        if let Some((rows, ids)) = &self.rows {
            let rows = read::<2>(rows, &rows.stored.shape, &device)?;
            for (nth, &id) in ids.iter().enumerate() {
                let row = rows.clone().slice([nth..nth + 1, 0..width]);
                matrix = matrix.slice_assign([id..id + 1, 0..width], row);
            }
        }
        Ok(transposed(matrix.reshape(shape)).cast(dtype))
    }
}

impl ParamMapper for Filler<'_> {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(key) = checkpoint_key(path) else {
            return param;
        };
        let Some(change) = self.plan.changes.get(&key.key) else {
            return param;
        };
        match change.apply(param.val(), key.placement) {
            Ok(value) => {
                let id = param.id;
                param.transform_for_load(value.detach(), id)
            }
            Err(problem) => {
                self.problems.push(problem);
                param
            }
        }
    }
}
