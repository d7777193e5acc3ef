//! What can go wrong with a checkpoint.

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LoraConfigError;
use gallery_gpt_model::{ModelConfigError, ModelFamily};
use gallery_gpt_text::printable;
use gallery_gpt_vision::ImageError;

/// A checkpoint that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds no weights that can be read.
    #[error("no weights in {folder}: expected {expected}, found {found}")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What the folder holds.
        found: String,
    },
    /// A file is not what its name says.
    #[error("{path} is not a valid {expected}: {found}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A Git LFS pointer in the place of a large file that was not downloaded.
    #[error(
        "{path} is a Git LFS pointer; the file itself was not downloaded: run `git lfs pull` in its repository, or download it again"
    )]
    GitLfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A file that has changed since its folder was written.
    #[error(
        "{path} has changed since it was written: {found}. Restore it from a copy, or, if the change is intended, remove its line from \"files\" in {list}"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// How it differs.
        found: String,
        /// The file with the checksums.
        list: PathBuf,
    },
    /// A folder that does not exist.
    #[error("{}", no_folder(path, *is_hub_name))]
    NoFolder {
        /// The path that was given.
        path: PathBuf,
        /// Whether it has the form of a model's name on the hub.
        is_hub_name: bool,
    },
    /// A path that is not a model's folder.
    #[error(
        "{path} is {found}, expected a model's folder with its config.json and weights; {instead}"
    )]
    NotAModel {
        /// The folder.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What to do.
        instead: String,
    },
    /// The index and the shards contradict each other.
    #[error("{index}: tensor `{key}` should be in {shard}, {found}")]
    Index {
        /// The index file.
        index: PathBuf,
        /// The tensor.
        key: String,
        /// The shard that the index names.
        shard: PathBuf,
        /// What was found instead.
        found: &'static str,
    },
    /// The tokenizer beside the weights cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] gallery_gpt_text::TokenizerError),
    /// A `config.json` that cannot be read, or asks for something that is not supported.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The settings of the image processor are not supported.
    #[error(transparent)]
    Processor(#[from] ImageError),
    /// The parts of the config contradict each other.
    #[error("{path}: {source}")]
    ModelConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelConfigError,
    },
    /// Tensor names of no known layout.
    #[error("{folder}: unknown tensor names; the first is `{first}`")]
    UnknownLayout {
        /// The folder.
        folder: PathBuf,
        /// A tensor name.
        first: String,
    },
    /// Tensor names of two layouts in one checkpoint.
    #[error(
        "{folder} mixes two checkpoints: `{}` and `{}` are names of different layouts; keep the files of one", keys[0], keys[1]
    )]
    TwoLayouts {
        /// The folder.
        folder: PathBuf,
        /// A name in each layout.
        keys: [String; 2],
    },
    /// Safetensors and PyTorch files that do not hold the same model.
    #[error(
        "{folder} holds two different checkpoints in {files}: only one of them has `{key}`; remove the one that is not meant"
    )]
    TwoCheckpoints {
        /// The folder.
        folder: PathBuf,
        /// The files.
        files: String,
        /// A tensor that only one has.
        key: String,
    },
    /// The vision tower that the config names was not found.
    #[error(
        "{folder}: its config names the vision tower `{name}`, whose folder was not found; searched {}; download it, or name its folder",
        places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoTower {
        /// The model's folder.
        folder: PathBuf,
        /// The tower's name.
        name: String,
        /// The places that were searched.
        places: Vec<PathBuf>,
    },
    /// The weights and the model do not match.
    #[error("{folder} does not match the model:{}", list(problems))]
    Mismatch {
        /// The folder.
        folder: PathBuf,
        /// Every mismatch.
        problems: Vec<Problem>,
    },
    /// A field of an adapter's config that is not supported.
    #[error("{path}: {field} is {found}, which is not supported; expected {expected}")]
    Adapter {
        /// The adapter's config.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// A supported value, or what to do instead.
        expected: String,
    },
    /// An adapter that has to be merged into weights that are quantized to 8 bits.
    #[error(
        "{path}: this adapter has to be merged into weights that are quantized; load it before quantizing"
    )]
    AdapterAfterQuantizing {
        /// The adapter's config.
        path: PathBuf,
    },
    /// An adapter that was merged into the base and cannot be saved apart from it.
    #[error(
        "the loaded adapter changes weights of the base that an adapter's folder does not hold ({} modules, the first is {}); \
         merge it into the base, and train or convert from the merged model", modules.len(), modules.first().map_or("", String::as_str)
    )]
    ChangedBase {
        /// Hub names of the modules.
        modules: Vec<String>,
    },
    /// The rank, alpha or dropout of an adapter is out of range.
    #[error("{path}: {source}")]
    LoraConfig {
        /// The adapter's config.
        path: PathBuf,
        /// What is wrong.
        source: LoraConfigError,
    },
    /// The model is quantized and cannot be saved.
    #[error(
        "the model's weights are quantized, which no layout supports; save it before quantizing"
    )]
    Quantized,
    /// The model has no adapter to save.
    #[error("the model has no LoRA adapter; apply one before saving it")]
    NoAdapter,
    /// A projector or an adapter that has to be loaded before the model gets an adapter.
    #[error(
        "{path}: the model already has an adapter; load this onto the base, a projector before the adapter"
    )]
    HasAdapter {
        /// The file or folder that was to be loaded.
        path: PathBuf,
    },
    /// The decoder's linears have biases.
    #[error(
        "an adapter with lora_bias added biases to the decoder's linears, which no layout can store; use the adapter on its base"
    )]
    DecoderBias,
    /// A vision tower chosen for a model whose tower belongs to it.
    #[error(
        "{folder} is a Qwen-VL model, whose vision tower is part of it; {chosen} cannot take its place, leave it out"
    )]
    OwnTower {
        /// The model.
        folder: PathBuf,
        /// The tower's folder.
        chosen: PathBuf,
    },
    /// A layout that cannot store a part of the model.
    #[error("{layout} layout cannot store {part}; save in {instead}")]
    CannotStore {
        /// The layout.
        layout: crate::Layout,
        /// The part.
        part: String,
        /// A layout that can.
        instead: &'static str,
    },
    /// A size that the code of a layout's models fixes.
    #[error("{layout} layout has {fixed} {part} and cannot store a model with {found}")]
    FixedSize {
        /// The layout.
        layout: crate::Layout,
        /// What is counted.
        part: &'static str,
        /// The model's number.
        found: usize,
        /// The layout's.
        fixed: usize,
    },
    /// An adapter for a model of another family.
    #[error(
        "{folder} is an adapter with modules named as in {}, but the base is a {base}; load it on the model that it was trained on{}", layout.family(), trained_on(base_model.as_deref())
    )]
    ForeignAdapter {
        /// The adapter's folder.
        folder: PathBuf,
        /// The layout of its tensors' names.
        layout: crate::Layout,
        /// The family of the base.
        base: ModelFamily,
        /// The base that its config names.
        base_model: Option<String>,
    },
    /// A projector alone, for a model whose projector is no part of its own.
    #[error(
        "the resampler of Qwen-VL is not trained or stored alone; save or load the whole model"
    )]
    NoOwnProjector,
    /// A file in the place of a folder that is to be written.
    #[error("{path} is a file, expected a folder or a free place; choose another place")]
    Occupied {
        /// The place.
        path: PathBuf,
    },
    /// A folder with files that this library did not write.
    #[error(
        "{path} holds {}, not written by this program; nothing was changed. Choose another folder, or overwrite this one",
        names(found)
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Those files, as paths in the folder.
        found: Vec<String>,
    },
    /// An output that is also an input.
    #[error("{output} cannot be written, because {input} is read from there; choose another place")]
    InputIsOutput {
        /// The output.
        output: PathBuf,
        /// The input.
        input: PathBuf,
    },
}

/// One way in which weights and a model do not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A tensor of the model that is in no file.
    Missing {
        /// The name it would have in this layout.
        key: String,
    },
    /// A tensor in a file that the model does not use.
    Unused {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A tensor of LoRA for a module that `adapter_config.json` does not target.
    NotTargeted {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A tensor of another shape.
    Shape {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
        /// The shape the model needs.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor whose values cannot be read.
    Unreadable {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A tensor with an infinity or NaN.
    NotFinite {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
        /// Index of the first one, row by row.
        at: usize,
    },
    /// Two tensors for the same parameter.
    Duplicate {
        /// Their names.
        keys: [String; 2],
        /// The file of the second.
        file: PathBuf,
    },
    /// A tensor whose dtype is not one of a weight.
    Dtype {
        /// Its name.
        key: String,
        /// The file.
        file: PathBuf,
        /// The dtype in the file.
        found: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { key } => write!(f, "missing: {key}"),
            Self::Unused { key, file } => write!(f, "unused: {key} in {}", file.display()),
            Self::NotTargeted { key, file } => write!(
                f,
                "not targeted: {key} in {}: target_modules, layers_to_transform, exclude_modules and modules_to_save of \
                 adapter_config.json leave its module out",
                file.display()
            ),
            Self::Shape {
                key,
                file,
                expected,
                found,
            } => write!(
                f,
                "mis-shaped: {key} in {}: expected {expected:?}, found {found:?}",
                file.display()
            ),
            Self::Unreadable { key, file, reason } => {
                write!(f, "unreadable: {key} in {}: {reason}", file.display())
            }
            Self::NotFinite { key, file, at } => write!(
                f,
                "not finite: {key} in {} has an infinity or NaN at index {at}; the file is damaged, or was saved after the training diverged",
                file.display()
            ),
            Self::Duplicate { keys, file } => write!(
                f,
                "duplicate: {} in {} is the same parameter as {}",
                keys[1],
                file.display(),
                keys[0]
            ),
            Self::Dtype { key, file, found } => write!(
                f,
                "not a weight: {key} in {}: expected F32, F16 or BF16, found {found}",
                file.display()
            ),
        }
    }
}

fn names(found: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = found[..found.len().min(SHOWN)].join(", ");
    if found.len() > SHOWN {
        text.push_str(&format!(" and {} more", found.len() - SHOWN));
    }
    text
}

fn trained_on(base: Option<&str>) -> String {
    let base = base.filter(|base| !base.is_empty());
    base.map_or(String::new(), |base| format!(" ({})", printable(base)))
}

fn no_folder(path: &std::path::Path, is_hub_name: bool) -> String {
    let name = path.display();
    if is_hub_name {
        format!(
            "no such folder: {name}; if that is a model's name on the hub: models are not downloaded here, `hf download {name}` does it"
        )
    } else {
        format!("no such folder: {name}")
    }
}

fn list(problems: &[Problem]) -> String {
    const SHOWN: usize = 20;
    let mut text: String = problems
        .iter()
        .take(SHOWN)
        .map(|problem| format!("\n  {problem}"))
        .collect();
    if problems.len() > SHOWN {
        text.push_str(&format!("\n  ... and {} more", problems.len() - SHOWN));
    }
    text
}

/// Makes the error of a path that cannot be read.
pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> CheckpointError + Copy + '_ {
    |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Makes the error of a path that cannot be written.
pub(crate) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> CheckpointError + Copy + '_ {
    |source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    }
}
