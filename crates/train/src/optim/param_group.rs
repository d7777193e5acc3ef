//! Parameter groups, and the global norm of their gradients.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{DType, Tensor},
};
use gallery_gpt_model::{GalleryModel, ParamMapper, ParamVisitor, map_params, visit_params};
use sha2::{Digest, Sha256};

use crate::{Trainable, TrainableParts};

/// Ids of the trained parameters, sorted as the optimizer wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParamGroups {
    /// Those of the projector.
    pub projector: Vec<ParamId>,
    /// Those of all other parts.
    pub others: Vec<ParamId>,
    /// Those without weight decay: norms and biases of any part.
    pub no_decay: Vec<ParamId>,
    /// Number of trained parameters.
    pub parameters: usize,
}

impl ParamGroups {
    /// The trained parameters of a model.
    #[must_use]
    pub fn of(model: &GalleryModel) -> Self {
        let mut sorter = Sorter::default();
        visit_params(model, &mut sorter);
        sorter.groups
    }
}

#[derive(Default)]
struct Sorter {
    groups: ParamGroups,
}

impl ParamVisitor for Sorter {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        self.groups.parameters += param.lazy_shape().num_elements();
        if part_of(path) == "projector" {
            self.groups.projector.push(param.id);
        } else {
            self.groups.others.push(param.id);
        }
        let leaf = path.rsplit('.').next().unwrap_or(path);
        if ["bias", "beta", "gamma"].contains(&leaf) {
            self.groups.no_decay.push(param.id);
        }
    }
}

/// The part of the model that a parameter's path leads into.
fn part_of(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// Marks the trained parameters, casts them to f32 whatever the base's dtype (in 16 bits small updates would be rounded away), and gives
/// every parameter an id made from its path, so that a restored optimizer state finds its parameter in another process.
pub(crate) fn mark_trainable(model: GalleryModel, parts: TrainableParts) -> GalleryModel {
    map_params(model, &mut Marker { parts })
}

/// Whether a parameter is never trained. Of a resampler those are the table of sines, which is no weight, and all that comes after the
/// attention, which Qwen-VL's `finetune.py` keeps frozen with the tower.
fn is_fixed(path: &str) -> bool {
    let of_resampler = ["pos_embed", "ln_post.gamma", "ln_post.beta", "proj"];
    path.strip_prefix("projector.")
        .is_some_and(|name| of_resampler.contains(&name))
}

struct Marker {
    parts: TrainableParts,
}

impl ParamMapper for Marker {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trainable = match part_of(path) {
            "vision_tower" => self.parts.vision_tower,
            "projector" => self.parts.projector,
            _ => self.parts.language_model,
        };
        let is_adapter = path.split('.').any(|name| name == "lora");
        let trained = match trainable {
            Trainable::Frozen => false,
            Trainable::Lora => is_adapter,
            Trainable::Full => !is_fixed(path),
        };
        let param = if trained && param.val().dtype() != DType::F32 {
            param.map(|value| value.cast(DType::F32))
        } else {
            param
        };
        let mut param = param.set_require_grad(trained);
        param.id = id_of_path(path);
        param
    }
}

fn id_of_path(path: &str) -> ParamId {
    let digest = Sha256::digest(path);
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    ParamId::from(u64::from_le_bytes(*first))
}

/// The L2 norm of all gradients together, `[1]` in f32, left on the device.
#[must_use]
pub fn global_norm(model: &GalleryModel, grads: &GradientsParams) -> Option<Tensor<1>> {
    let mut squares = Squares { grads, total: None };
    model.visit(&mut squares);
    squares.total.map(Tensor::sqrt)
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    total: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let square = grad.cast(DType::F32).square().sum();
            self.total = Some(match self.total.take() {
                Some(total) => total + square,
                None => square,
            });
        }
    }
}

/// Scales all gradients together so that their global norm is at most `max_norm` (`torch.nn.utils.clip_grad_norm_`).
#[must_use]
pub fn clip_global_norm(
    model: &GalleryModel,
    mut grads: GradientsParams,
    norm: &Tensor<1>,
    max_norm: f64,
) -> GradientsParams {
    let by = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
    model.visit(&mut Scale {
        grads: &mut grads,
        by,
    });
    grads
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    by: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let by = self.by.clone().cast(grad.dtype()).reshape([1; D]);
            self.grads.register(param.id, grad * by);
        }
    }
}

/// Gives the projector zero gradients where it has none.
///
/// A batch without a picture does not use the projector. The original feeds it a dummy picture, so that its gradients are zero instead
/// of missing, and AdamW still updates it by its moments.
pub(crate) fn fill_projector(model: &GalleryModel, grads: &mut GradientsParams) {
    model.projector.visit(&mut ZeroFiller { grads });
}

struct ZeroFiller<'a> {
    grads: &'a mut GradientsParams,
}

impl ModuleVisitor for ZeroFiller<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() && self.grads.get::<D>(param.id).is_none() {
            self.grads
                .register(param.id, param.val().inner().zeros_like());
        }
    }
}
