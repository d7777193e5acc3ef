//! Adapter folders: PEFT's, and the original's with its `non_lora_trainables.bin`.
//!
//! PEFT's: `adapter_config.json` and `adapter_model.safetensors`; the trained projector travels in the same file under PEFT's
//! `modules_to_save`, so that one folder is the whole result of a finetuning. The original's: LLaVA's names, the projector in a
//! PyTorch file beside them, and the model's `config.json`. Ours also have `gallery_gpt.json`: what the adapter was trained on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Tensor},
};
use gallery_gpt_llama::{LoraConfig, LoraTarget, LoraTargets};
use gallery_gpt_model::GalleryModel;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AdapterLayout, AdapterOrigin, AtomicFolder, CheckpointError, Destination, Layout, LoadOptions,
    Placement, Problem, StoredTensor, Strictness, TensorDtype, WeightFiles,
    adapter_key::{AdapterKey, PROJECTOR},
    checksums::verify_folder,
    config_json::llava_json,
    marker::MARKER,
    pickle_writer::write_pickle,
    save::{Outgoing, write_json, write_tensors},
    stored_tensor::{first_not_finite, tensor_of},
    weight_files::folder_listing,
};

const CONFIG: &str = "adapter_config.json";
const SAFETENSORS: &str = "adapter_model.safetensors";
const PYTORCH: &str = "adapter_model.bin";
const NON_LORA: &str = "non_lora_trainables.bin";

/// What an adapter folder says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// Rank, alpha, dropout and targets; the targets are the ones that have tensors.
    pub lora: LoraConfig,
    /// The base it was trained on, as far as it says.
    pub base_model: Option<String>,
    /// Whether it brings a projector of its own.
    pub has_projector: bool,
    /// Whose folder it is.
    pub layout: AdapterLayout,
    /// What it was trained on, if we wrote it.
    pub origin: Option<AdapterOrigin>,
    /// Tensors used, with their file.
    pub used: Vec<(String, PathBuf)>,
    /// Everything that did not match, in a partial load.
    pub problems: Vec<Problem>,
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

/// The tensors of an adapter folder, by what they are for.
#[derive(Default)]
struct AdapterTensors {
    tensors: BTreeMap<AdapterKey, (String, StoredTensor)>,
    problems: Vec<Problem>,
}

impl AdapterTensors {
    fn add(&mut self, files: &WeightFiles) {
        for (key, tensor) in files.iter() {
            let Some(parsed) = AdapterKey::parse(key) else {
                self.problems.push(Problem::Unused {
                    key: key.to_owned(),
                    file: tensor.file.clone(),
                });
                continue;
            };
            let entry = (key.to_owned(), tensor.clone());
            if let Some((earlier, _)) = self.tensors.insert(parsed, entry) {
                self.problems.push(Problem::Twice {
                    keys: [earlier, key.to_owned()],
                    file: tensor.file.clone(),
                });
            }
        }
    }

    fn open(folder: &Path) -> Result<(Self, AdapterLayout), CheckpointError> {
        let mut tensors = Self::default();
        let (safetensors, pytorch) = (folder.join(SAFETENSORS), folder.join(PYTORCH));
        let file = match (safetensors.is_file(), pytorch.is_file()) {
            (true, false) => safetensors,
            (false, true) => pytorch,
            (both, _) => {
                return Err(CheckpointError::NoWeights {
                    folder: folder.to_owned(),
                    expected: "adapter_model.safetensors or adapter_model.bin",
                    found: if both {
                        "both; remove the one that is not meant".to_owned()
                    } else {
                        folder_listing(folder)?
                    },
                });
            }
        };
        let files = WeightFiles::open_single(file)?;
        tensors.add(&files);
        let rest = folder.join(NON_LORA);
        let has_rest = rest.is_file();
        if has_rest {
            tensors.add(&WeightFiles::open_single(rest)?);
        }
        let is_original = has_rest || files.iter().any(|(key, _)| key.contains(".model.layers."));
        let is_nested = files.iter().any(|(key, _)| key.contains("language_model"));
        let layout = if is_original && !is_nested {
            AdapterLayout::LlavaLora
        } else {
            AdapterLayout::Peft
        };
        Ok((tensors, layout))
    }

    fn has_projector(&self) -> bool {
        let mut keys = self.tensors.keys();
        keys.any(|key| matches!(key, AdapterKey::Projector { .. }))
    }
}

fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    expected: &'static str,
) -> Result<T, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        expected,
        found: error.to_string(),
    })
}

/// Reads `adapter_config.json`, with the targets taken from the tensors there are.
fn read_adapter_config(
    folder: &Path,
    tensors: &AdapterTensors,
    layout: AdapterLayout,
) -> Result<AdapterFile, CheckpointError> {
    let path = folder.join(CONFIG);
    let json: ConfigJson = read_json(&path, "PEFT adapter config")?;
    let unsupported = |field, found: String, expected| {
        Err(CheckpointError::Adapter {
            path: path.clone(),
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
    let targets: LoraTargets = tensors
        .tensors
        .keys()
        .filter_map(|key| match key {
            AdapterKey::Lora { target, .. } => Some(*target),
            AdapterKey::Projector { .. } => None,
        })
        .collect();
    let lora = LoraConfig::new(json.r, json.lora_alpha)
        .with_dropout(json.lora_dropout)
        .with_targets(targets);
    lora.validate()
        .map_err(|source| CheckpointError::LoraConfig {
            path: path.clone(),
            source,
        })?;
    let origin = folder.join(MARKER);
    Ok(AdapterFile {
        lora,
        base_model: json.base_model_name_or_path,
        has_projector: tensors.has_projector(),
        layout,
        origin: if origin.is_file() {
            Some(read_json(&origin, "record of an adapter's origin")?)
        } else {
            None
        },
        used: Vec::new(),
        problems: Vec::new(),
    })
}

/// What an adapter folder holds, without loading it: the config, and sizes that do not belong on `model`.
///
/// # Errors
/// The folder cannot be read, or holds something else than a plain LoRA.
pub fn inspect_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
) -> Result<AdapterFile, CheckpointError> {
    Ok(fill(model, folder.as_ref(), false)?.1)
}

/// Puts the adapter of a folder on a model, and its projector if it brings one. Adapters are f32, as new ones are; the projector
/// keeps the model's number type.
///
/// # Errors
/// The folder cannot be read, holds something else than a plain LoRA, or does not match the model.
pub fn load_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<(GalleryModel, AdapterFile), CheckpointError> {
    let folder = folder.as_ref();
    verify_folder(folder)?;
    let (model, adapter) = fill(model, folder, true)?;
    refuse(folder, &adapter.problems, options)?;
    Ok((model, adapter))
}

fn refuse(
    folder: &Path,
    problems: &[Problem],
    options: &LoadOptions,
) -> Result<(), CheckpointError> {
    if options.strictness == Strictness::Strict && !problems.is_empty() {
        return Err(CheckpointError::Mismatch {
            folder: folder.to_owned(),
            problems: problems.to_vec(),
        });
    }
    Ok(())
}

fn fill(
    mut model: GalleryModel,
    folder: &Path,
    read: bool,
) -> Result<(GalleryModel, AdapterFile), CheckpointError> {
    let (tensors, layout) = AdapterTensors::open(folder)?;
    let mut adapter = read_adapter_config(folder, &tensors, layout)?;
    model.language_model = model.language_model.apply_lora(&adapter.lora);
    let filled = fill_from(model, tensors, layout, adapter.has_projector, read);
    (adapter.used, adapter.problems) = (filled.used, filled.problems);
    Ok((filled.model, adapter))
}

struct Filled {
    model: GalleryModel,
    used: Vec<(String, PathBuf)>,
    problems: Vec<Problem>,
}

fn fill_from(
    model: GalleryModel,
    mut tensors: AdapterTensors,
    layout: AdapterLayout,
    has_projector: bool,
    read: bool,
) -> Filled {
    let mut filler = Filler {
        tensors: &mut tensors.tensors,
        read,
        layout,
        stack: Vec::new(),
        used: Vec::new(),
        has_projector,
        problems: tensors.problems,
    };
    let model = model.map(&mut filler);
    let Filler {
        used, mut problems, ..
    } = filler;
    for (key, tensor) in tensors.tensors.into_values() {
        problems.push(Problem::Unused {
            key,
            file: tensor.file,
        });
    }
    Filled {
        model,
        used,
        problems,
    }
}

/// Puts a projector that was trained alone (`mm_projector.bin`, or a folder with one) on a model.
///
/// # Errors
/// The file cannot be read, or does not match the model.
pub fn load_projector(
    model: GalleryModel,
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<GalleryModel, CheckpointError> {
    let path = path.as_ref();
    let file = if path.is_dir() {
        path.join(crate::checkpoint::PROJECTOR_FILE)
    } else {
        path.to_owned()
    };
    if model.language_model.has_lora() {
        return Err(CheckpointError::HasAdapter { path: file });
    }
    let mut tensors = AdapterTensors::default();
    tensors.add(&WeightFiles::open_single(&file)?);
    let filled = fill_from(model, tensors, AdapterLayout::LlavaLora, true, true);
    refuse(&file, &filled.problems, options)?;
    Ok(filled.model)
}

/// Writes the projector of a model alone, as the original's `mm_projector.bin` in a folder, which [`load_projector`] reads.
///
/// # Errors
/// The folder cannot be written.
pub fn save_projector(
    model: &GalleryModel,
    folder: impl Into<Destination>,
) -> Result<(), CheckpointError> {
    let mut collector = Collector::default();
    model.visit(&mut collector);
    let tensors = collector.tensors.into_iter();
    let tensors = tensors.filter_map(|(key, tensor)| match &key {
        AdapterKey::Projector { hub_key } => Some((Layout::Llava.key_of(hub_key), tensor)),
        AdapterKey::Lora { .. } => None,
    });
    let target = AtomicFolder::new(folder)?;
    let file = target.file(crate::checkpoint::PROJECTOR_FILE);
    write_pickle(&file, &tensors.collect::<Vec<_>>())?;
    target.commit()
}

struct Filler<'a> {
    /// What is still to be used.
    tensors: &'a mut BTreeMap<AdapterKey, (String, StoredTensor)>,
    read: bool,
    layout: AdapterLayout,
    stack: Vec<String>,
    used: Vec<(String, PathBuf)>,
    has_projector: bool,
    problems: Vec<Problem>,
}

impl Filler<'_> {
    fn value<const D: usize>(
        &mut self,
        key: &AdapterKey,
        placement: Placement,
        param: &Param<Tensor<D>>,
    ) -> Result<Option<Tensor<D>>, Problem> {
        let Some((name, tensor)) = self.tensors.remove(key) else {
            return Err(Problem::Missing {
                key: key.name(self.layout),
            });
        };
        let file = tensor.file.clone();
        let mut expected: Vec<usize> = param.lazy_shape().to_vec();
        if placement == Placement::Transposed {
            expected.reverse();
        }
        let Some(dtype) = tensor.dtype else {
            return Err(Problem::Dtype {
                key: name,
                file,
                found: tensor.stored_dtype,
            });
        };
        if tensor.shape != expected {
            return Err(Problem::Shape {
                key: name,
                file,
                expected,
                found: tensor.shape,
            });
        }
        self.used.push((name.clone(), file.clone()));
        if !self.read {
            return Ok(None);
        }
        let bytes = tensor.bytes().map_err(|error| Problem::Unreadable {
            key: name.clone(),
            file: file.clone(),
            reason: error.to_string(),
        })?;
        if let Some(at) = first_not_finite(&bytes, dtype) {
            return Err(Problem::NotFinite {
                key: name,
                file,
                at,
            });
        }
        let mut value = tensor_of::<D>(bytes, &expected, dtype.burn(), &param.lazy_device());
        if placement == Placement::Transposed {
            value = value.swap_dims(0, D - 1);
        }
        let wanted = match key {
            AdapterKey::Projector { .. } => param.val().dtype(),
            AdapterKey::Lora { .. } => DType::F32,
        };
        Ok(Some(value.cast(wanted)))
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
        let Some((key, placement)) = AdapterKey::of_path(&self.stack.join(".")) else {
            return param;
        };
        if matches!(key, AdapterKey::Projector { .. }) && !self.has_projector {
            return param;
        }
        match self.value(&key, placement, &param) {
            Ok(Some(value)) => {
                let id = param.id;
                param.transform_for_load(value, id)
            }
            Ok(None) => param,
            Err(problem) => {
                self.problems.push(problem);
                param
            }
        }
    }
}

/// Writes the adapter and the projector of a model as a folder of either layout.
///
/// # Errors
/// The model has no adapter, or the folder holds what this library did not write or cannot be written.
pub fn save_adapter(
    model: &GalleryModel,
    lora: &LoraConfig,
    origin: &AdapterOrigin,
    folder: impl Into<Destination>,
    layout: AdapterLayout,
) -> Result<(), CheckpointError> {
    if !model.language_model.has_lora() {
        return Err(CheckpointError::NoAdapter);
    }
    let mut collector = Collector::default();
    model.visit(&mut collector);
    let (projector, adapter): (Vec<_>, Vec<_>) = collector
        .tensors
        .into_iter()
        .partition(|(key, _)| matches!(key, AdapterKey::Projector { .. }));
    let named = |tensors: Vec<(AdapterKey, Outgoing)>| {
        let named = tensors.into_iter();
        let named = named.map(|(key, tensor)| (key.name(layout), tensor));
        named.collect::<Vec<_>>()
    };
    let targets: Vec<&str> = lora.targets.iter().map(LoraTarget::name).collect();
    let in_same_file = layout == AdapterLayout::Peft && !projector.is_empty();
    let config = json!({
        "alpha_pattern": {},
        "base_model_name_or_path": origin.base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": if in_same_file { json!([PROJECTOR]) } else { Value::Null },
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "target_modules": match layout {
            // A pattern, not a list: the tower has linears of the same names.
            AdapterLayout::Peft => json!(format!(r".*language_model\..*\.({})", targets.join("|"))),
            AdapterLayout::LlavaLora => json!(targets),
        },
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    let target = AtomicFolder::new(folder)?;
    let mut tensors = named(adapter);
    match layout {
        AdapterLayout::Peft => tensors.extend(named(projector)),
        AdapterLayout::LlavaLora => {
            write_pickle(&target.file(NON_LORA), &named(projector))?;
            let dtype = TensorDtype::from_burn(model.dtype()).unwrap_or(TensorDtype::F32);
            let tower = origin.vision_tower.as_deref().unwrap_or("vision_tower");
            let config = llava_json(model.config(), tower, dtype.torch());
            write_json(&target.file("config.json"), &config)?;
        }
    }
    write_tensors(&target.file(SAFETENSORS), tensors)?;
    write_json(&target.file(CONFIG), &config)?;
    write_json(&target.file(MARKER), &json!(origin))?;
    target.commit()
}

#[derive(Default)]
struct Collector {
    stack: Vec<String>,
    tensors: Vec<(AdapterKey, Outgoing)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((key, placement)) = AdapterKey::of_path(&self.stack.join(".")) {
            self.tensors
                .push((key, Outgoing::new(param.val(), placement, None)));
        }
    }
}
