//! PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The trained projector travels in the same file under PEFT's `modules_to_save`, so that one folder is the whole result of
//! a finetuning.

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use gallery_gpt_llama::{LoraConfig, LoraTarget, LoraTargets};
use gallery_gpt_model::GalleryModel;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AtomicFolder, CheckpointError, LoadOptions, Placement, Problem, Strictness, WeightFiles,
    checkpoint_key,
    load::from_bytes,
    save::{Outgoing, write_json, write_tensors},
};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PROJECTOR: &str = "multi_modal_projector";

/// What an adapter folder says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// Rank, alpha, dropout and targets; the targets are the ones that have tensors.
    pub lora: LoraConfig,
    /// The base it was trained on, as far as it says.
    pub base_model: Option<String>,
    /// Whether it brings a projector of its own.
    pub has_projector: bool,
}

#[derive(Deserialize)]
struct ConfigJson {
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    alpha_pattern: Option<serde_json::Map<String, Value>>,
    base_model_name_or_path: Option<String>,
}

/// A tensor name of an adapter, understood.
enum AdapterKey {
    Lora {
        layer: usize,
        target: LoraTarget,
        is_a: bool,
    },
    Projector {
        hub_key: String,
    },
}

/// Understands the names of PEFT on llava-hf models (old and new nesting) and on LLaVA's own, with or without `.default`.
fn adapter_key(key: &str) -> Option<AdapterKey> {
    let key = key.replace(".default.", ".");
    if let Some(at) = key.find(PROJECTOR) {
        let hub_key = key[at..].replace("modules_to_save.", "");
        return Some(AdapterKey::Projector { hub_key });
    }
    let rest = &key[key.find("layers.")? + "layers.".len()..];
    let mut parts = rest.split('.');
    let layer = parts.next()?.parse().ok()?;
    let _block = parts
        .next()
        .filter(|part| ["self_attn", "mlp"].contains(part))?;
    let target = parts.next()?.parse().ok()?;
    let is_a = match parts.next()? {
        "lora_A" => true,
        "lora_B" => false,
        _ => return None,
    };
    (parts.next()? == "weight" && !key.contains("vision")).then_some(AdapterKey::Lora {
        layer,
        target,
        is_a,
    })
}

fn lora_hub_key(layer: usize, target: LoraTarget, is_a: bool) -> String {
    let block = match target {
        LoraTarget::GateProj | LoraTarget::UpProj | LoraTarget::DownProj => "mlp",
        _ => "self_attn",
    };
    let matrix = if is_a { "lora_A" } else { "lora_B" };
    format!(
        "base_model.model.model.language_model.layers.{layer}.{block}.{}.{matrix}.weight",
        target.name()
    )
}

/// Reads `adapter_config.json`, with the targets taken from the tensors there are.
fn read_adapter_config(path: &Path, files: &WeightFiles) -> Result<AdapterFile, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })?;
    let json: ConfigJson =
        serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Malformed {
            path: path.to_owned(),
            expected: "PEFT adapter config",
            found: error.to_string(),
        })?;
    let unsupported = |field, found: String, expected| {
        Err(CheckpointError::Adapter {
            path: path.to_owned(),
            field,
            found,
            expected,
        })
    };
    if let Some(kind) = json.peft_type.filter(|kind| kind != "LORA") {
        return unsupported("peft_type", kind, "LORA");
    }
    for (field, set) in [
        ("use_dora", json.use_dora),
        ("use_rslora", json.use_rslora),
        ("fan_in_fan_out", json.fan_in_fan_out),
    ] {
        if set {
            return unsupported(field, "true".to_owned(), "false");
        }
    }
    if let Some(bias) = json.bias.filter(|bias| bias != "none") {
        return unsupported("bias", bias, "none");
    }
    for (field, pattern) in [
        ("rank_pattern", json.rank_pattern),
        ("alpha_pattern", json.alpha_pattern),
    ] {
        if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
            return unsupported(field, format!("{} entries", pattern.len()), "no entry");
        }
    }
    let mut has_projector = false;
    let targets: LoraTargets = files
        .iter()
        .filter_map(|(key, _)| match adapter_key(key)? {
            AdapterKey::Lora { target, .. } => Some(target),
            AdapterKey::Projector { .. } => {
                has_projector = true;
                None
            }
        })
        .collect();
    let lora = LoraConfig::new(json.r, json.lora_alpha)
        .with_dropout(json.lora_dropout)
        .with_targets(targets);
    lora.validate()
        .map_err(|source| CheckpointError::LoraConfig {
            path: path.to_owned(),
            source,
        })?;
    Ok(AdapterFile {
        lora,
        base_model: json.base_model_name_or_path,
        has_projector,
    })
}

/// Puts the adapter of a PEFT folder on a model, and its projector if it brings one. Adapters are f32, as new ones are;
/// the projector keeps the model's number type.
///
/// # Errors
/// The folder cannot be read, holds something else than a plain LoRA, or does not match the model.
pub fn load_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<(GalleryModel, AdapterFile), CheckpointError> {
    let folder = folder.as_ref();
    let files = WeightFiles::open_single(folder.join(TENSORS))?;
    let adapter = read_adapter_config(&folder.join(CONFIG), &files)?;
    let mut model = model;
    model.language_model = model.language_model.apply_lora(&adapter.lora);
    let mut filler = Filler {
        files: &files,
        stack: Vec::new(),
        used: Vec::new(),
        has_projector: adapter.has_projector,
        problems: Vec::new(),
    };
    let model = model.map(&mut filler);
    let Filler {
        used, mut problems, ..
    } = filler;
    for (key, tensor) in files.iter() {
        if !used.iter().any(|used| used == key) {
            problems.push(Problem::Unused {
                key: key.to_owned(),
                file: tensor.file.clone(),
            });
        }
    }
    if options.strictness == Strictness::Strict && !problems.is_empty() {
        return Err(CheckpointError::Mismatch {
            folder: folder.to_owned(),
            problems,
        });
    }
    Ok((model, adapter))
}

/// The name of a trained parameter in our adapter files, and how it lies there.
fn outgoing_key(path: &str) -> Option<(String, Placement)> {
    if let Some(rest) = path.strip_prefix("language_model.layers.") {
        let mut parts = rest.split('.');
        let layer = parts.next()?.parse().ok()?;
        let target = parts.nth(1)?.parse().ok()?;
        let is_a = match (parts.next()?, parts.next()?) {
            ("lora", "lora_a") => true,
            ("lora", "lora_b") => false,
            _ => return None,
        };
        return Some((lora_hub_key(layer, target, is_a), Placement::Transposed));
    }
    if path.starts_with("projector.") {
        let key = checkpoint_key(path)?;
        return Some((format!("base_model.model.model.{}", key.key), key.placement));
    }
    None
}

struct Filler<'a> {
    files: &'a WeightFiles,
    stack: Vec<String>,
    used: Vec<String>,
    has_projector: bool,
    problems: Vec<Problem>,
}

impl Filler<'_> {
    /// The tensor that stands for one of our names, whatever the file calls it.
    fn find(&self, ours: &str) -> Option<(String, &crate::StoredTensor)> {
        let same = |key: &str| match (adapter_key(key), adapter_key(ours)) {
            (
                Some(AdapterKey::Lora {
                    layer,
                    target,
                    is_a,
                }),
                Some(AdapterKey::Lora {
                    layer: our_layer,
                    target: our_target,
                    is_a: our_is_a,
                }),
            ) => (layer, target, is_a) == (our_layer, our_target, our_is_a),
            (
                Some(AdapterKey::Projector { hub_key }),
                Some(AdapterKey::Projector { hub_key: our_key }),
            ) => hub_key == our_key,
            _ => false,
        };
        match self.files.get(ours) {
            Some(tensor) => Some((ours.to_owned(), tensor)),
            None => self
                .files
                .iter()
                .find(|(key, _)| same(key))
                .map(|(key, tensor)| (key.to_owned(), tensor)),
        }
    }
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.stack.join(".");
        let Some((ours, placement)) = outgoing_key(&path) else {
            return param;
        };
        let is_projector = path.starts_with("projector.");
        if is_projector && !self.has_projector {
            return param;
        }
        let Some((key, tensor)) = self.find(&ours) else {
            self.problems.push(Problem::Missing { key: ours });
            return param;
        };
        let mut expected: Vec<usize> = param.lazy_shape().to_vec();
        if placement == Placement::Transposed {
            expected.reverse();
        }
        let file = tensor.file.clone();
        let problem = match tensor.dtype {
            None => Some(Problem::Dtype {
                key: key.clone(),
                file,
                found: tensor.stored_dtype.clone(),
            }),
            Some(_) if tensor.shape != expected => Some(Problem::Shape {
                key: key.clone(),
                file,
                expected: expected.clone(),
                found: tensor.shape.clone(),
            }),
            Some(_) => None,
        };
        let (Some(dtype), None) = (tensor.dtype, &problem) else {
            self.problems.extend(problem);
            self.used.push(key);
            return param;
        };
        let mut value = from_bytes::<D>(
            tensor.bytes(),
            &expected,
            dtype.burn(),
            &param.lazy_device(),
        );
        if placement == Placement::Transposed {
            value = value.swap_dims(0, D - 1);
        }
        let wanted = if is_projector {
            param.val().dtype()
        } else {
            burn::tensor::DType::F32
        };
        self.used.push(key);
        let id = param.id;
        param.transform_for_load(value.cast(wanted), id)
    }
}

/// Writes the adapter and the projector of a model as a PEFT folder. `base_model` is what the folder will say it belongs to.
///
/// # Errors
/// The model has no adapter, or the folder cannot be written.
pub fn save_adapter(
    model: &GalleryModel,
    lora: &LoraConfig,
    base_model: &str,
    folder: impl AsRef<Path>,
) -> Result<(), CheckpointError> {
    if !model.language_model.has_lora() {
        return Err(CheckpointError::NoAdapter);
    }
    let mut collector = AdapterCollector::default();
    model.visit(&mut collector);
    let targets: Vec<&str> = lora.targets.iter().map(LoraTarget::name).collect();
    let has_projector = !model.projector.layers.is_empty();
    let config = json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": if has_projector { json!([PROJECTOR]) } else { Value::Null },
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        // A pattern, not a list: the tower has linears of the same names.
        "target_modules": format!(r".*language_model\..*\.({})", targets.join("|")),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    let target = AtomicFolder::new(PathBuf::from(folder.as_ref()))?;
    write_tensors(&target.file(TENSORS), collector.tensors)?;
    write_json(&target.file(CONFIG), &config)?;
    target.commit()
}

#[derive(Default)]
struct AdapterCollector {
    stack: Vec<String>,
    tensors: Vec<(String, Outgoing)>,
}

impl burn::module::ModuleVisitor for AdapterCollector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((key, placement)) = outgoing_key(&self.stack.join(".")) {
            self.tensors
                .push((key, Outgoing::new(param.val(), placement, None)));
        }
    }
}
