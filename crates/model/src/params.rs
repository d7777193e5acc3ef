//! Visits the float parameters of a module, each with its path (`projector.layers.0.weight`).

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::Tensor,
};

/// Reads the parameters of a module.
pub trait ParamVisitor {
    /// Called for every float parameter, in the module's order. `path` is the names of its fields,
    /// joined by dots.
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>);
}

/// Replaces the parameters of a module.
pub trait ParamMapper {
    /// Called for every float parameter, in the module's order; returns its replacement.
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Visits every float parameter of a module.
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use gallery_gpt_model::{GalleryModelConfig, ParamVisitor, visit_params};
///
/// struct Paths(Vec<String>);
///
/// impl ParamVisitor for Paths {
///     fn visit<const D: usize>(&mut self, path: &str, _param: &Param<Tensor<D>>) {
///         self.0.push(path.to_owned());
///     }
/// }
///
/// let model = GalleryModelConfig::tiny().init(&Device::flex());
/// let mut paths = Paths(Vec::new());
/// visit_params(&model, &mut paths);
/// assert!(paths.0.contains(&"projector.layers.0.weight".to_owned()));
/// let q_proj = "language_model.layers.0.self_attn.q_proj.base.weight".to_owned();
/// assert!(paths.0.contains(&q_proj));
/// ```
pub fn visit_params(module: &impl Module, visitor: &mut impl ParamVisitor) {
    module.visit(&mut WithPath::new(visitor));
}

/// Replaces every float parameter of a module.
#[must_use]
pub fn map_params<M: Module>(module: M, mapper: &mut impl ParamMapper) -> M {
    module.map(&mut WithPath::new(mapper))
}

/// Whether a module is a level of the path. The variant of an enum is none, and neither is the group
/// of attention's projections: in checkpoints they stand beside its output projection.
fn is_level(name: &str, container: &str) -> bool {
    name != "qkv" && !container.starts_with("Enum:")
}

/// Keeps track of the path of the module that Burn visits.
struct WithPath<'a, T> {
    path: String,
    inner: &'a mut T,
}

impl<'a, T> WithPath<'a, T> {
    fn new(inner: &'a mut T) -> Self {
        Self {
            path: String::new(),
            inner,
        }
    }

    fn enter(&mut self, name: &str, container: &str) {
        if !is_level(name, container) {
            return;
        }
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }

    fn exit(&mut self, name: &str, container: &str) {
        if !is_level(name, container) {
            return;
        }
        self.path.truncate(self.path.rfind('.').unwrap_or(0));
    }
}

impl<V: ParamVisitor> ModuleVisitor for WithPath<'_, V> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.exit(name, container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.inner.visit(&self.path, param);
    }
}

impl<M: ParamMapper> ModuleMapper for WithPath<'_, M> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.exit(name, container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.inner.map(&self.path, param)
    }
}
