//! Layer normalization (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>) in f32.

use burn::{
    module::{Module, Param, ParamId},
    nn::LayerNorm,
    tensor::{DType, Tensor},
};

/// A layer norm computed in f32 and rounded once, as in PyTorch. Burn's computes in the input's dtype.
///
/// # Shapes
/// - `x`: `[..., hidden]`
/// - output: `[..., hidden]`
#[must_use]
pub fn layer_norm<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    if dtype == DType::F32 {
        return norm.forward(x);
    }
    // Trained parameters are f32: these are frozen.
    let wide = |param: &Param<Tensor<1>>| {
        Param::initialized(ParamId::new(), param.val().cast(DType::F32)).no_grad()
    };
    let mut in_f32 = norm.clone();
    in_f32.gamma = wide(&norm.gamma);
    in_f32.beta = norm.beta.as_ref().map(wide);
    in_f32.forward(x.cast(DType::F32)).cast(dtype)
}
