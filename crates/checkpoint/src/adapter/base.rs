//! The parameters of an adapter's base, by their hub names.

use std::collections::{BTreeMap, BTreeSet};

use burn::{module::Param, tensor::Tensor};
use gallery_gpt_llama::LoraTarget;
use gallery_gpt_model::{GalleryModel, ParamVisitor, visit_params};

use crate::{Placement, checkpoint_key};

pub(super) const EMBEDDINGS: &str = "language_model.model.embed_tokens";
pub(super) const HEAD: &str = "language_model.lm_head";

/// The parameters of a base.
#[derive(Default)]
pub(super) struct Base {
    /// Shapes as in files, by hub name.
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    /// Modules that are linears, by hub name.
    pub(super) linears: BTreeSet<String>,
}

impl Base {
    pub(super) fn of(model: &GalleryModel) -> Self {
        let mut base = Self::default();
        visit_params(model, &mut base);
        base
    }
}

impl ParamVisitor for Base {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(key) = checkpoint_key(path) else {
            return;
        };
        let mut shape = param.lazy_shape().to_vec();
        if key.placement == Placement::Transposed {
            shape.reverse();
            if let Some(module) = key.key.strip_suffix(".weight") {
                self.linears.insert(module.to_owned());
            }
        }
        self.shapes.insert(key.key, shape);
    }
}

/// Whether a module is in the projector, of which an adapter's folder holds the whole weights.
pub(super) fn is_projector(module: &str) -> bool {
    module.starts_with("multi_modal_projector")
}

/// The block and the target of a linear in the decoder's blocks.
pub(super) fn decoder_linear(module: &str) -> Option<(usize, LoraTarget)> {
    let rest = module.strip_prefix("language_model.model.layers.")?;
    let (block, rest) = rest.split_once('.')?;
    let (_, target) = rest.rsplit_once('.')?;
    Some((block.parse().ok()?, target.parse().ok()?))
}

/// The part of the model that a module is in.
pub(super) fn part_of(module: &str) -> &str {
    match module {
        HEAD | EMBEDDINGS => module,
        _ => module.split('.').next().unwrap_or(module),
    }
}
