//! Plans what each tensor of an adapter does to a model, from names, shapes and the config, before any value is read.

use std::collections::{BTreeMap, BTreeSet};

use gallery_gpt_model::GalleryModel;

use super::{
    base::{Base, EMBEDDINGS, HEAD, decoder_linear, part_of},
    config::{PeftConfig, TrainedBiases},
    folder::{AdapterTensor, AdapterTensors},
    initialization::Initialization,
    key::{AdapterKey, AdapterLayout, Part, module_name},
    plan::{LowRank, Plan},
};
use crate::{CheckpointError, Layout, Problem};

/// Plans one adapter.
struct Planner<'a> {
    config: &'a PeftConfig,
    base: Base,
    rest: AdapterTensors,
    plan: Plan,
    /// Layout of the trainer's module names, and whether those of the tower have the level `vision_model`.
    naming: Layout,
    has_tower_level: bool,
}

/// Plans what an adapter does to a model.
pub(super) fn plan(
    model: &GalleryModel,
    config: &PeftConfig,
    tensors: AdapterTensors,
) -> Result<Plan, CheckpointError> {
    let base = Base::of(model);
    let modules: Vec<&String> = tensors
        .tensors
        .values()
        .map(|tensor| &tensor.module)
        .collect();
    let naming = tensors.named_as();
    let has_tower_level = !modules
        .iter()
        .any(|name| name.contains("vision_tower.") && !name.contains("vision_model."));
    let mut planner = Planner {
        config,
        base,
        naming: naming.unwrap_or_else(|| tensors.layout.modules(model.config().family)),
        has_tower_level,
        plan: Plan::default(),
        rest: tensors,
    };
    planner.plan.problems = std::mem::take(&mut planner.rest.problems);
    planner.low_rank()?;
    planner.rows()?;
    planner.whole()?;
    if model.language_model.is_quantized() {
        let is_in_blocks = |name: &&String| decoder_linear(name).is_some();
        let changed = planner.plan.changed_modules();
        let olora = planner.plan.adapters.values().any(|update| update.is_olora);
        if olora || changed.iter().any(|name| is_in_blocks(&name)) {
            return Err(CheckpointError::AdapterAfterQuantizing {
                path: config.path().to_owned(),
            });
        }
    }
    Ok(planner.finish())
}

/// Plans a projector that was saved alone.
pub(super) fn plan_projector(model: &GalleryModel, mut tensors: AdapterTensors) -> Plan {
    let base = Base::of(model);
    let mut plan = Plan {
        problems: std::mem::take(&mut tensors.problems),
        ..Plan::default()
    };
    let layout = AdapterLayout::LlavaLora.modules(model.config().family);
    for (hub_key, shape) in base.shapes {
        let key = AdapterKey::whole(&hub_key);
        if !key.is_projector() {
            continue;
        }
        match tensors.tensors.remove(&key) {
            None => plan.problems.push(Problem::Missing {
                key: key.name(layout),
            }),
            Some(tensor) => match fits(&tensor, &shape, None) {
                Err(problem) => plan.problems.push(problem),
                Ok(()) => plan.replace(hub_key, tensor),
            },
        }
    }
    plan.refuse_unused(tensors);
    plan
}

/// Checks that a tensor is a weight of the expected shape. The dimension `rows` may be longer, by as much as the llava-hf layout pads a
/// vocabulary.
fn fits(tensor: &AdapterTensor, expected: &[usize], rows: Option<usize>) -> Result<(), Problem> {
    let stored = &tensor.stored;
    let file = || stored.file.clone();
    if stored.dtype.is_none() {
        return Err(Problem::Dtype {
            key: tensor.name.clone(),
            file: file(),
            found: stored.stored_dtype.clone(),
        });
    }
    let same = |(dim, (found, wanted)): (usize, (&usize, &usize))| {
        found == wanted
            || (rows == Some(dim)
                && found > wanted
                && *found <= wanted.saturating_add(2).next_multiple_of(64))
    };
    let found = &stored.shape;
    if found.len() == expected.len() && found.iter().zip(expected).enumerate().all(same) {
        return Ok(());
    }
    Err(Problem::Shape {
        key: tensor.name.clone(),
        file: file(),
        expected: expected.to_vec(),
        found: found.clone(),
    })
}

impl Planner<'_> {
    /// The trainer's name of a module.
    fn trainers_name(&self, module: &str) -> String {
        let name = module_name(self.naming, module);
        if self.has_tower_level {
            name
        } else {
            name.replace("vision_model.", "")
        }
    }

    /// Takes a tensor to use it, if its shape is the expected one.
    fn take(
        &mut self,
        key: &AdapterKey,
        expected: &[usize],
        rows: Option<usize>,
    ) -> Option<AdapterTensor> {
        let tensor = self.rest.tensors.remove(key)?;
        match fits(&tensor, expected, rows) {
            Ok(()) => {
                let used = (tensor.name.clone(), tensor.stored.file.clone());
                self.plan.used.push(used);
                Some(tensor)
            }
            Err(problem) => {
                self.plan.problems.push(problem);
                None
            }
        }
    }

    fn missing(&mut self, module: &str, part: Part) {
        // The message uses the trainer's name of the module.
        let key = AdapterKey::new(module, part).name(self.naming);
        let ours = module_name(self.naming, module);
        let key = key.replace(&ours, &self.trainers_name(module));
        self.plan.problems.push(Problem::Missing { key });
    }

    /// Plans every module with LoRA, and reports those that should have it.
    fn low_rank(&mut self) -> Result<(), CheckpointError> {
        let keys = self.rest.tensors.iter();
        let modules: BTreeMap<String, String> = keys
            .filter(|(key, _)| !matches!(key.part, Part::Whole(_) | Part::Rows))
            .map(|(key, tensor)| (key.module.clone(), tensor.module.clone()))
            .collect();
        let parts: BTreeSet<String> = modules
            .keys()
            .map(|name| part_of(name).to_owned())
            .collect();
        for (module, name) in &modules {
            if self.base.shapes.contains_key(&format!("{module}.weight")) {
                self.module_with_lora(module, name)?;
            }
        }
        if self.config.names_targets() {
            let others = self.base.linears.iter().map(String::as_str);
            let others: Vec<String> = others
                .chain([EMBEDDINGS])
                .filter(|&module| !modules.contains_key(module))
                // An adapter of one part need not have tensors of the others, even if their modules match its target names.
                .filter(|&module| {
                    [HEAD, EMBEDDINGS].contains(&module) || parts.contains(part_of(module))
                })
                .map(str::to_owned)
                .collect();
            for module in others {
                if self.config.is_target(&self.trainers_name(&module))? {
                    let is_embedding = module == EMBEDDINGS;
                    let part = if is_embedding {
                        Part::EmbeddingA
                    } else {
                        Part::LoraA
                    };
                    self.missing(&module, part);
                }
            }
        }
        Ok(())
    }

    fn module_with_lora(&mut self, module: &str, name: &str) -> Result<(), CheckpointError> {
        if !self.config.is_target(name)? {
            let keys = self
                .rest
                .tensors
                .range(AdapterKey::new(module, Part::LoraA)..);
            let keys = keys.take_while(|(key, _)| key.module == module);
            let refused: Vec<_> = keys
                .filter(|(key, _)| !matches!(key.part, Part::Whole(_) | Part::Rows))
                .map(|(key, tensor)| (key.clone(), tensor.clone()))
                .collect();
            for (key, tensor) in refused {
                self.rest.tensors.remove(&key);
                self.plan.problems.push(Problem::NotTargeted {
                    key: tensor.name,
                    file: tensor.stored.file,
                });
            }
            return Ok(());
        }
        let lora = self.config.lora_of(name)?;
        let shape = self.base.shapes[&format!("{module}.weight")].clone();
        let (output, input) = (shape[0], &shape[1..]);
        let rows = (module == HEAD).then_some(0);
        let is_embedding = !self.base.linears.contains(module) && shape.len() == 2;
        let (a, b) = if is_embedding {
            // The update of an embedding is the transposed product.
            let a = self.take(
                &AdapterKey::new(module, Part::EmbeddingA),
                &[lora.rank, output],
                (module == EMBEDDINGS).then_some(1),
            );
            let b = AdapterKey::new(module, Part::EmbeddingB);
            (a, self.take(&b, &[input[0], lora.rank], None))
        } else {
            let a: Vec<usize> = [lora.rank].iter().chain(input).copied().collect();
            let mut b = vec![output, lora.rank];
            // The weight of a convolution has two more dimensions.
            b.extend(input[1..].iter().map(|_| 1));
            let a = self.take(&AdapterKey::new(module, Part::LoraA), &a, None);
            (
                a,
                self.take(&AdapterKey::new(module, Part::LoraB), &b, rows),
            )
        };
        let magnitude = if self.config.use_dora() {
            if is_embedding {
                return Err(self.config.refusal(
                    "use_dora",
                    format!("true for the embedding {name}"),
                    "false: its norms need rows of the vocabulary that are not loaded; merge the adapter in PEFT \
                     (merge_and_unload) and load the merged model",
                ));
            }
            let magnitude = self.take(&AdapterKey::new(module, Part::Magnitude), &[output], rows);
            if magnitude.is_none() {
                self.missing(module, Part::Magnitude);
            }
            magnitude
        } else {
            None
        };
        let is_olora = self.config.initialization() == Initialization::Olora;
        if is_olora && (is_embedding || module == HEAD || shape.len() != 2) {
            return Err(self.config.refusal(
                "init_lora_weights",
                format!("\"olora\" for {name}"),
                "an initialization that does not change this module; merge the adapter in PEFT (merge_and_unload) and load the merged model",
            ));
        }
        if self.config.lora_bias() && !is_embedding {
            self.bias_of_b(module, output, lora.scale());
        }
        let (Some(a), Some(b)) = (a, b) else {
            self.half_missing(module, is_embedding);
            return Ok(());
        };
        let update = LowRank {
            a,
            b,
            lora,
            is_embedding,
            magnitude,
            is_olora,
        };
        match decoder_linear(module) {
            Some((block, target)) => {
                self.plan.targets.insert(target);
                if self.config.use_dora() {
                    let change = self.plan.changes.entry(format!("{module}.weight"));
                    change.or_default().low_rank = Some(update);
                } else {
                    self.plan.adapters.insert((block, target), update);
                }
            }
            None => {
                let change = self.plan.changes.entry(format!("{module}.weight"));
                change.or_default().low_rank = Some(update);
            }
        }
        Ok(())
    }

    /// Reports A or B as missing if the files have only one of them, or neither.
    fn half_missing(&mut self, module: &str, is_embedding: bool) {
        let halves = if is_embedding {
            [Part::EmbeddingA, Part::EmbeddingB]
        } else {
            [Part::LoraA, Part::LoraB]
        };
        for part in halves {
            let name = AdapterKey::new(module, part.clone());
            let was_there =
                |found: &String| AdapterKey::parse(found).is_some_and(|(found, _)| found == name);
            let used = self.plan.used.iter().any(|(found, _)| was_there(found));
            let refused = self.plan.problems.iter().any(|problem| match problem {
                Problem::Shape { key, .. } | Problem::Dtype { key, .. } => was_there(key),
                _ => false,
            });
            if !used && !refused {
                self.missing(module, part);
            }
        }
    }

    /// The bias of B: added to the module's bias, or a new one.
    fn bias_of_b(&mut self, module: &str, output: usize, scale: f64) {
        let rows = (module == HEAD).then_some(0);
        let key = AdapterKey::new(module, Part::LoraBBias);
        let Some(bias) = self.take(&key, &[output], rows) else {
            self.missing(module, Part::LoraBBias);
            return;
        };
        let own = format!("{module}.bias");
        if self.base.shapes.contains_key(&own) {
            self.plan.changes.entry(own).or_default().added = Some((bias, scale));
        } else {
            self.plan.biases.insert(module.to_owned(), (bias, scale));
        }
    }

    /// Rows of embeddings (`trainable_token_indices`).
    fn rows(&mut self) -> Result<(), CheckpointError> {
        let config = self.config;
        for (name, ids) in config.saved_rows() {
            let mut tensors = self.rest.tensors.iter();
            let found = tensors.find(|(key, tensor)| {
                key.part == Part::Rows && tensor.module.ends_with(name.as_str())
            });
            let Some(key) = found.map(|(key, _)| key.clone()) else {
                if !ids.is_empty() {
                    let key = format!("{name}.token_adapter.trainable_tokens_delta");
                    self.plan.problems.push(Problem::Missing { key });
                }
                continue;
            };
            let weight = format!("{}.weight", key.module);
            let Some(&[rows, width]) = self.base.shapes.get(&weight).map(Vec::as_slice) else {
                continue;
            };
            if let Some(id) = ids.iter().find(|&&id| id >= rows) {
                return Err(config.refusal(
                    "trainable_token_indices",
                    format!("{id} for {name}"),
                    format!(
                        "ids below {rows}, the rows of the base that are loaded; later rows belong to no token of its tokenizer"
                    ),
                ));
            }
            if let Some(tensor) = self.take(&key, &[ids.len(), width], None) {
                let change = self.plan.changes.entry(weight).or_default();
                change.rows = Some((tensor, ids.clone()));
            }
        }
        Ok(())
    }

    /// Parameters of the base that are replaced (`modules_to_save`, and trained biases).
    fn whole(&mut self) -> Result<(), CheckpointError> {
        let keys = self.rest.tensors.keys();
        let has_projector = keys
            .clone()
            .any(|key| key.is_projector() && key.part == Part::Whole("weight".to_owned()));
        let shapes = std::mem::take(&mut self.base.shapes);
        for name in self.config.modules_to_save() {
            let mut modules = shapes.keys().filter_map(|key| key.rsplit_once('.'));
            let config = self.config;
            let is_there = modules.any(|(module, _)| {
                let module = self.trainers_name(module);
                module.contains(name.as_str()) && config.is_saved_whole(&module)
            });
            if !is_there {
                return Err(config.refusal(
                    "modules_to_save",
                    format!("\"{name}\""),
                    "names of modules of this model",
                ));
            }
        }
        for (hub_key, shape) in &shapes {
            let key = AdapterKey::whole(hub_key);
            let rows = [HEAD, EMBEDDINGS]
                .contains(&key.module.as_str())
                .then_some(0);
            if self.rest.tensors.contains_key(&key) {
                if let Some(tensor) = self.take(&key, shape, rows) {
                    let change = self.plan.changes.entry(hub_key.clone()).or_default();
                    change.whole = Some(tensor);
                }
                continue;
            }
            let is_saved = self.config.is_saved_whole(&self.trainers_name(&key.module));
            let is_bias = self.config.bias() == TrainedBiases::All
                && self.rest.layout == AdapterLayout::Peft
                && key.part == Part::Whole("bias".to_owned());
            if is_saved || is_bias || (has_projector && key.is_projector()) {
                self.missing(&key.module, key.part.clone());
            }
        }
        self.base.shapes = shapes;
        Ok(())
    }

    fn finish(mut self) -> Plan {
        self.plan.refuse_unused(self.rest);
        self.plan
    }
}
