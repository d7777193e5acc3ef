//! Writing adapters and projectors.

use std::collections::{BTreeMap, BTreeSet};

use burn::{module::Param, tensor::Tensor};
use gallery_gpt_llama::{LoraConfig, LoraTarget};
use gallery_gpt_model::{GalleryModel, ModelFamily, ParamVisitor, visit_params};
use serde_json::{Map, Value, json};

use super::{
    base::is_projector,
    config::CONFIG,
    folder::{NON_LORA, SAFETENSORS},
    key::{AdapterKey, AdapterLayout, module_name},
};
use crate::{
    AdapterOrigin, AtomicFolder, CheckpointError, Destination, Layout, LazyTensor, TensorDtype,
    config::json::llava_json,
    file::json::write_json,
    folder::marker::MARKER,
    format::{pytorch::write::write_pickle, safetensors::write_weights},
};

/// Transformers' name of the projector.
const PROJECTOR: &str = "multi_modal_projector";

/// Writes the projector of a model alone, as the original's `mm_projector.bin` in a folder, which [`crate::load_projector`] reads.
///
/// # Errors
/// The folder cannot be written, or the model is a Qwen-VL.
pub fn save_projector(
    model: &GalleryModel,
    folder: impl Into<Destination>,
) -> Result<(), CheckpointError> {
    if model.config().family == ModelFamily::QwenVl {
        return Err(CheckpointError::NoOwnProjector);
    }
    let (_, projector) = collect(model);
    let tensors = projector.into_iter();
    let tensors = tensors.map(|(key, tensor)| {
        let name = key.name(AdapterLayout::LlavaLora.modules(model.config().family));
        (name.replacen("base_model.model.", "", 1), tensor)
    });
    let target = AtomicFolder::new(folder)?;
    let file = target.file(crate::layout::PROJECTOR_FILE);
    write_pickle(&file, &tensors.collect::<Vec<_>>())?;
    target.commit()
}

/// Checks that [`save_adapter`] can write everything that was learned on top of a base, so that a training does not fail at its end.
///
/// # Errors
/// The model has no adapter, or one was merged into weights that an adapter's folder does not hold.
pub fn ensure_savable_adapter(model: &GalleryModel) -> Result<(), CheckpointError> {
    let changed = model.changed_base().iter();
    let modules: Vec<String> = changed
        .filter(|module| !is_projector(module))
        .cloned()
        .collect();
    if !modules.is_empty() {
        return Err(CheckpointError::ChangedBase { modules });
    }
    if !model.language_model.has_lora() {
        return Err(CheckpointError::NoAdapter);
    }
    Ok(())
}

/// Writes the adapter and the projector of a model as a folder of either layout. Ranks, alphas, dropout and targets are those of
/// the model's adapters.
///
/// # Errors
/// The model has no adapter or one that cannot be saved ([`ensure_savable_adapter`]), the folder has files that this library did not
/// write, or it cannot be written.
pub fn save_adapter(
    model: &GalleryModel,
    origin: &AdapterOrigin,
    folder: impl Into<Destination>,
    layout: AdapterLayout,
) -> Result<(), CheckpointError> {
    ensure_savable_adapter(model)?;
    let family = model.config().family;
    let modules = layout.modules(family);
    if (layout, family) == (AdapterLayout::LlavaLora, ModelFamily::QwenVl) {
        return Err(CheckpointError::CannotStore {
            layout: Layout::Llava,
            part: "an adapter of Qwen-VL".to_owned(),
            instead: "PEFT's layout",
        });
    }
    let (adapter, mut projector) = collect(model);
    if family == ModelFamily::QwenVl {
        // The resampler is never trained beside an adapter.
        projector.clear();
    }
    let named = |tensors: Vec<(AdapterKey, LazyTensor)>| {
        let named = tensors.into_iter();
        let named = named.map(|(key, tensor)| (key.name(modules), tensor));
        named.collect::<Vec<_>>()
    };
    let in_same_file = layout == AdapterLayout::Peft && !projector.is_empty();
    let mut config = config_json(model, modules);
    config.insert(
        "base_model_name_or_path".to_owned(),
        json!(origin.base_model),
    );
    let modules_to_save = if in_same_file {
        json!([PROJECTOR])
    } else {
        Value::Null
    };
    config.insert("modules_to_save".to_owned(), modules_to_save);
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
    write_weights(&target.file(SAFETENSORS), tensors)?;
    write_json(&target.file(CONFIG), &config.into())?;
    write_json(&target.file(MARKER), &json!(origin))?;
    target.commit()
}

/// The `adapter_config.json` of a model's adapters, without the base's name and `modules_to_save`.
fn config_json(model: &GalleryModel, modules: Layout) -> Map<String, Value> {
    let adapters: Vec<(usize, LoraTarget, &LoraConfig)> = model
        .language_model
        .adapters()
        .map(|(block, target, adapter)| (block, target, adapter.config()))
        .collect();
    let blocks = model.config().llama.num_hidden_layers;
    let targets: BTreeSet<LoraTarget> = adapters.iter().map(|&(_, target, _)| target).collect();
    let use_rslora = adapters.iter().all(|(_, _, lora)| lora.use_rslora);
    // alpha for the common way of scaling.
    let alpha = |lora: &LoraConfig| match lora.use_rslora == use_rslora {
        true => lora.alpha,
        false => lora.scale() * lora.rank as f64,
    };
    let name = |block: usize, target: LoraTarget| {
        let (part, target) = (target.block(), target.name());
        module_name(
            modules,
            &format!("language_model.model.layers.{block}.{part}.{target}"),
        )
    };
    let targets_json = if adapters.len() < blocks * targets.len() {
        // Only some blocks have adapters.
        json!(
            adapters
                .iter()
                .map(|&(block, target, _)| name(block, target))
                .collect::<Vec<_>>()
        )
    } else {
        let names = targets.iter().map(|&target| target.name());
        let names: Vec<&str> = names.collect();
        // A pattern, not a list, where the tower has linears of the same names.
        match modules {
            Layout::LlavaHf | Layout::LlavaHfNested => {
                json!(format!(r".*language_model\..*\.({})", names.join("|")))
            }
            Layout::Llava => json!(names),
            Layout::QwenVl => {
                let names = targets.iter().map(|&target| modules.target_name(target));
                let names: Vec<&str> = names.collect();
                if targets.contains(&LoraTarget::DownProj) {
                    json!(format!(r"transformer\.h\..*\.({})", names.join("|")))
                } else {
                    json!(names)
                }
            }
        }
    };
    let ranks = adapters.iter().map(|(_, _, lora)| lora.rank as u64);
    let rank = most_frequent(ranks);
    let alphas = adapters.iter().map(|(_, _, lora)| alpha(lora).to_bits());
    let usual_alpha = most_frequent(alphas);
    let mut rank_pattern = Map::new();
    let mut alpha_pattern = Map::new();
    for &(block, target, lora) in &adapters {
        if lora.rank as u64 != rank {
            rank_pattern.insert(name(block, target), json!(lora.rank));
        }
        if alpha(lora).to_bits() != usual_alpha {
            alpha_pattern.insert(name(block, target), json!(alpha(lora)));
        }
    }
    let dropout = adapters.iter().map(|(_, _, lora)| lora.dropout);
    let config = json!({
        "alpha_pattern": alpha_pattern,
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": f64::from_bits(usual_alpha),
        "lora_dropout": dropout.fold(0.0, f64::max),
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": rank_pattern,
        "target_modules": targets_json,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": use_rslora,
    });
    config.as_object().cloned().unwrap_or_default()
}

/// The most frequent value; of several, the smallest.
fn most_frequent(values: impl Iterator<Item = u64>) -> u64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut most = (0, 0);
    for (value, count) in counts {
        if count > most.1 {
            most = (value, count);
        }
    }
    most.0
}

type Tensors = Vec<(AdapterKey, LazyTensor)>;

/// The tensors of a model's adapters and of its projector.
fn collect(model: &GalleryModel) -> (Tensors, Tensors) {
    let mut collector = Collector::default();
    visit_params(model, &mut collector);
    let tensors = collector.tensors.into_iter();
    tensors.partition(|(key, _)| !key.is_projector())
}

#[derive(Default)]
struct Collector {
    tensors: Tensors,
}

impl ParamVisitor for Collector {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some((key, placement)) = AdapterKey::of_path(path)
            && (key.is_projector() || !key.is_whole())
        {
            self.tensors
                .push((key, LazyTensor::new(param.val(), placement, None)));
        }
    }
}
