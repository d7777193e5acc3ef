//! PEFT's `adapter_config.json`: every field is supported, known to have no effect, or refused by name.

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LoraConfig;
use serde_json::Value;

use super::{
    fields::{Fields, shortened},
    initialization::Initialization,
    module_rule::{ModuleNames, ModulePattern, NamedBy},
};
use crate::{CheckpointError, file::json::read_json};

/// Name of the file.
pub(super) const CONFIG: &str = "adapter_config.json";

/// Fields that do not change what a trained adapter computes: they are for the trainer, for the record, or matter only beside a value
/// that is refused.
const WITHOUT_EFFECT: [&str; 18] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    // PEFT resets it to false for linears, and all targets here are linears.
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    // Another backward pass; the forward pass is LoRA's.
    "velora_config",
    // Learning rates and the dtype of a training with ms-swift.
    "lora_dtype",
    "lorap_emb_lr",
    "lorap_lr_ratio",
];

/// Fields that change what an adapter computes and are not supported.
const NOT_SUPPORTED: [&str; 9] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
];

/// Which biases of the base were trained (`bias`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainedBiases {
    /// None.
    #[default]
    None,
    /// All of the model's.
    All,
    /// Those of the linears with LoRA.
    LoraOnly,
}

/// An `adapter_config.json`, read.
///
/// Modules have the trainer's names: `model.language_model.layers.0.self_attn.q_proj`.
#[derive(Clone, Debug)]
pub struct PeftConfig {
    path: PathBuf,
    rank: usize,
    alpha: f64,
    dropout: f64,
    use_rslora: bool,
    use_dora: bool,
    lora_bias: bool,
    bias: TrainedBiases,
    initialization: Initialization,
    base_model: Option<String>,
    rank_pattern: Vec<(ModulePattern, usize)>,
    alpha_pattern: Vec<(ModulePattern, f64)>,
    targets: Option<ModuleNames>,
    excluded: Option<ModuleNames>,
    layers: Option<Vec<usize>>,
    layers_pattern: Vec<ModulePattern>,
    modules_to_save: Vec<String>,
    saved_rows: Vec<(String, Vec<usize>)>,
}

/// Whether a value means that the field is unset.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

impl PeftConfig {
    /// Reads the file of an adapter's folder.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or has a field that is not supported.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = folder.as_ref().join(CONFIG);
        let json = read_json(&path)?;
        Self::from_json(path, json)
    }

    /// Parses the bytes of a file; the path is for messages.
    ///
    /// # Errors
    /// It is not JSON, or has a field that is not supported.
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let path = path.into();
        match serde_json::from_slice(bytes) {
            Ok(json) => Self::from_json(path, json),
            Err(error) => Err(CheckpointError::Malformed {
                path,
                expected: "PEFT adapter config",
                found: error.to_string(),
            }),
        }
    }

    fn from_json(path: PathBuf, json: Value) -> Result<Self, CheckpointError> {
        let Value::Object(json) = json else {
            return Err(CheckpointError::Malformed {
                path,
                expected: "PEFT adapter config",
                found: shortened(&json),
            });
        };
        let fields = Fields {
            path: &path,
            json: &json,
        };
        if let Some(kind) = fields.get("peft_type")
            && kind != "LORA"
        {
            return Err(fields.wrong("peft_type", "\"LORA\""));
        }
        let required = |field| {
            fields
                .get(field)
                .ok_or_else(|| fields.wrong(field, "a number"))
        };
        let layers_pattern = fields.list("layers_pattern", Fields::text)?;
        let layers_pattern = layers_pattern.unwrap_or_default().into_iter();
        let config = Self {
            rank: fields.count("r", required("r")?)?,
            alpha: fields.number("lora_alpha", required("lora_alpha")?)?,
            dropout: match fields.get("lora_dropout") {
                None => 0.0,
                Some(value) => fields.number("lora_dropout", value)?,
            },
            use_rslora: fields.bool("use_rslora")?,
            use_dora: fields.bool("use_dora")?,
            lora_bias: fields.bool("lora_bias")?,
            bias: match fields.get("bias").map(Value::as_str) {
                None | Some(Some("none")) => TrainedBiases::None,
                Some(Some("all")) => TrainedBiases::All,
                Some(Some("lora_only")) => TrainedBiases::LoraOnly,
                Some(_) => {
                    return Err(fields.wrong("bias", "\"none\", \"all\" or \"lora_only\""));
                }
            },
            initialization: fields.initialization()?,
            base_model: match fields.get("base_model_name_or_path") {
                None => None,
                Some(value) => Some(fields.text("base_model_name_or_path", value)?),
            },
            rank_pattern: fields.by_module("rank_pattern", Fields::count)?,
            alpha_pattern: fields.by_module("alpha_pattern", Fields::number)?,
            targets: fields.modules("target_modules")?,
            excluded: fields.modules("exclude_modules")?,
            layers: fields
                .list("layers_to_transform", Fields::count)?
                .filter(|layers| !layers.is_empty()),
            layers_pattern: layers_pattern
                .map(|text| fields.pattern("layers_pattern", &text, NamedBy::Layer))
                .collect::<Result<_, _>>()?,
            modules_to_save: fields
                .list("modules_to_save", Fields::text)?
                .unwrap_or_default(),
            saved_rows: fields.saved_rows()?,
            path: path.clone(),
        };
        config.refuse_the_rest(&fields)?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses fields that are not supported or unknown.
    fn refuse_the_rest(&self, fields: &Fields<'_>) -> Result<(), CheckpointError> {
        const SUPPORTED: [&str; 18] = [
            "alpha_pattern",
            "base_model_name_or_path",
            "bias",
            "exclude_modules",
            "init_lora_weights",
            "layers_pattern",
            "layers_to_transform",
            "lora_alpha",
            "lora_bias",
            "lora_dropout",
            "modules_to_save",
            "peft_type",
            "r",
            "rank_pattern",
            "target_modules",
            "trainable_token_indices",
            "use_dora",
            "use_rslora",
        ];
        for (field, value) in fields.json {
            let name = field.as_str();
            if SUPPORTED.contains(&name) || WITHOUT_EFFECT.contains(&name) || is_nothing(value) {
                continue;
            }
            let what = if NOT_SUPPORTED.contains(&name) {
                "no value: the field changes what the adapter computes; merge the adapter into its base in PEFT (merge_and_unload) where \
                 that is possible, and load the merged model"
            } else {
                "no value: the field is unknown and might change what the adapter computes; merge it into its base in PEFT \
                 (merge_and_unload) and load the merged model, or remove the field if it has no effect"
            };
            return Err(fields.wrong(field, what));
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), CheckpointError> {
        let patterns = self
            .rank_pattern
            .iter()
            .map(|(_, rank)| (*rank, self.alpha));
        let alphas = self
            .alpha_pattern
            .iter()
            .map(|(_, alpha)| (self.rank, *alpha));
        for (rank, alpha) in [(self.rank, self.alpha)]
            .into_iter()
            .chain(patterns)
            .chain(alphas)
        {
            let lora = LoraConfig::new(rank, alpha).with_dropout(self.dropout);
            lora.validate()
                .map_err(|source| CheckpointError::LoraConfig {
                    path: self.path.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The base it was trained on, if the file says so.
    #[must_use]
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// The settings of modules that match no pattern.
    #[must_use]
    pub fn settings(&self) -> LoraConfig {
        LoraConfig::new(self.rank, self.alpha)
            .with_dropout(self.dropout)
            .with_rslora(self.use_rslora)
    }

    /// The settings of a module with LoRA: rank and alpha by the first pattern that matches it, else `r` and `lora_alpha`.
    ///
    /// # Errors
    /// A regular expression exceeds its limit on the name.
    pub fn lora_of(&self, module: &str) -> Result<LoraConfig, CheckpointError> {
        let rank =
            first_match(&self.rank_pattern, module).map_err(self.over_limit("rank_pattern"))?;
        let alpha =
            first_match(&self.alpha_pattern, module).map_err(self.over_limit("alpha_pattern"))?;
        let settings = self.settings();
        Ok(LoraConfig {
            rank: rank.unwrap_or(settings.rank),
            alpha: alpha.unwrap_or(settings.alpha),
            ..settings
        })
    }

    /// Whether a module has LoRA. True of every module if `target_modules` is not given.
    ///
    /// # Errors
    /// A regular expression exceeds its limit on the name.
    pub fn is_target(&self, module: &str) -> Result<bool, CheckpointError> {
        let Some(targets) = &self.targets else {
            return Ok(true);
        };
        let inside = format!(".{module}.");
        let mut saved = self.modules_to_save.iter();
        if saved.any(|name| inside.contains(&format!(".{name}."))) {
            return Ok(false);
        }
        if let Some(excluded) = &self.excluded
            && excluded
                .contains(module)
                .map_err(self.over_limit("exclude_modules"))?
        {
            return Ok(false);
        }
        let found = targets
            .contains(module)
            .map_err(self.over_limit("target_modules"))?;
        let (true, ModuleNames::List(_), Some(layers)) = (found, targets, &self.layers) else {
            return Ok(found);
        };
        let number = if self.layers_pattern.is_empty() {
            ModulePattern::any_layer(module)
        } else {
            let mut found = None;
            for pattern in &self.layers_pattern {
                let number = pattern.layer(module);
                found = number.map_err(self.over_limit("layers_pattern"))?;
                if found.is_some() {
                    break;
                }
            }
            found
        };
        Ok(number.is_some_and(|number| layers.contains(&number)))
    }

    /// Whether `target_modules` is given.
    pub(super) fn names_targets(&self) -> bool {
        self.targets.is_some()
    }

    /// Whether a module is in `modules_to_save`, or inside a module that is.
    #[must_use]
    pub fn is_saved_whole(&self, module: &str) -> bool {
        let parts = module.match_indices('.').map(|(at, _)| at);
        let mut modules = parts.chain([module.len()]).map(|end| &module[..end]);
        modules.any(|module| {
            self.modules_to_save
                .iter()
                .any(|name| module.ends_with(name.as_str()))
        })
    }

    /// `modules_to_save`.
    #[must_use]
    pub fn modules_to_save(&self) -> &[String] {
        &self.modules_to_save
    }

    /// Ids of the trained rows of embeddings, by the end of the embedding's name (`trainable_token_indices`).
    #[must_use]
    pub fn saved_rows(&self) -> &[(String, Vec<usize>)] {
        &self.saved_rows
    }

    /// Whether modules with LoRA also have magnitudes (DoRA, Liu et al. 2024, <https://arxiv.org/abs/2402.09353>).
    #[must_use]
    pub fn use_dora(&self) -> bool {
        self.use_dora
    }

    /// Whether B has a bias.
    #[must_use]
    pub fn lora_bias(&self) -> bool {
        self.lora_bias
    }

    /// Which biases of the base were trained.
    #[must_use]
    pub fn bias(&self) -> TrainedBiases {
        self.bias
    }

    pub(super) fn initialization(&self) -> Initialization {
        self.initialization
    }

    /// An error about a field that is not supported.
    pub(super) fn refusal(
        &self,
        field: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> CheckpointError {
        CheckpointError::Adapter {
            path: self.path.clone(),
            field: field.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    fn over_limit(&self, field: &'static str) -> impl Fn(String) -> CheckpointError + '_ {
        move |reason| {
            self.refusal(
                field,
                reason,
                "regular expressions that can be matched within the limit",
            )
        }
    }
}

fn first_match<T: Copy>(
    patterns: &[(ModulePattern, T)],
    module: &str,
) -> Result<Option<T>, String> {
    for (pattern, value) in patterns {
        if pattern.fits(module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}
