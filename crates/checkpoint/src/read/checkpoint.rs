//! A checkpoint, opened: what it is and what it holds is known, none of its numbers is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use gallery_gpt_model::{GalleryModel, GalleryModelConfig, ParamMapper, map_params};
use gallery_gpt_vision::{ImageProcessorConfig, VisionConfig};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    CheckpointError, Layout, LoadOptions, LoadReport, Problem, StoredTensor, Strictness,
    TensorDtype, TowerSource, UsedTensor, VocabRows, WeightFiles, checkpoint_key,
    config::config_file::{ConfigFile, Family, read_config, read_vision_config},
    config::named_ids::NamedIds,
    config::processor_config::Pictures,
    layout::projector_hub_key,
    read::load_report::WHOLE,
    read::model_folder,
    read::stored_tensor::Slot,
    read::tower,
    write::checksums::{hex, verify_files},
};

/// Name of the file that a projector trained alone is saved as.
pub(crate) const PROJECTOR_FILE: &str = "mm_projector.bin";

/// A model's folder, opened but not loaded.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    layout: Layout,
    config: GalleryModelConfig,
    pictures: ImageProcessorConfig,
    tower: TowerSource,
    unread: Vec<PathBuf>,
    ignored: Vec<String>,
    notes: Vec<String>,
    /// By hub name: the name in the file, and the tensor.
    tensors: BTreeMap<String, (String, StoredTensor)>,
    options: LoadOptions,
}

impl Checkpoint {
    /// Opens a folder of any layout: reads its config, and the names, shapes and places of its tensors.
    ///
    /// # Errors
    /// A file is missing or damaged, the names are nobody's, or the vision tower that the config names is not to be found.
    pub fn open(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        model_folder::check(folder)?;
        let ConfigFile { family, mut notes } = read_config(folder)?;
        let ids = NamedIds::read(folder, &mut notes)?;
        let files = WeightFiles::open(folder)?;
        let layout = Layout::detect(folder, files.iter().map(|(key, _)| key))?;
        let mut opened = Tensors::default();
        opened.add(&files, |key| layout.hub_key(key));
        if layout == Layout::Llava
            && !opened.has("multi_modal_projector.")
            && folder.join(PROJECTOR_FILE).is_file()
        {
            let projector = WeightFiles::open_single(folder.join(PROJECTOR_FILE))?;
            opened.add(&projector, projector_hub_key);
        }
        let (named, vision) = match &family {
            Family::LlavaHf { model, .. } => (None, Some(model.vision.clone())),
            Family::Llava(config) => (config.mm_vision_tower.clone(), None),
        };
        let (tower, chosen) = opened.tower(folder, named, options, &mut notes)?;
        let vision = match chosen.or(vision) {
            Some(vision) => vision,
            None => tower::config_of_shapes(|key| opened.get(key), &mut notes).ok_or_else(|| {
                CheckpointError::Config {
                    path: folder.join("config.json"),
                    reason: "no mm_vision_tower, and no whole vision tower among the weights; name the tower's folder"
                        .to_owned(),
                }
            })?,
        };
        let (mut config, says_aspect_ratio) = whole_config(&family, vision, folder, &mut notes)?;
        opened.check_sizes(folder, &config)?;
        match (&family, options.vocab_rows, opened.vocab_rows()) {
            (_, VocabRows::AsStored, Some(rows)) => config.llama.vocab_size = rows,
            (
                Family::LlavaHf {
                    image_token_index, ..
                },
                VocabRows::Tokenizer,
                _,
            ) => ids.keep_words(folder, *image_token_index, &mut config)?,
            _ => {}
        }
        let pictures = Pictures::read(folder, &tower.folder, &config, &mut notes)?;
        if !says_aspect_ratio {
            config.aspect_ratio = pictures.aspect_ratio(&mut notes);
        }
        let pictures = pictures.config(&config, &mut notes)?;
        config.end_ids = ids.ends;
        let Tensors { tensors, ignored } = opened;
        Ok(Self {
            folder: folder.to_owned(),
            layout,
            config,
            pictures,
            tower,
            unread: files.unread().to_vec(),
            ignored,
            notes,
            tensors,
            options: options.clone(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose names its tensors have.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The model it is of.
    #[must_use]
    pub fn config(&self) -> &GalleryModelConfig {
        &self.config
    }

    /// How its pictures are made.
    #[must_use]
    pub fn image_processor(&self) -> &ImageProcessorConfig {
        &self.pictures
    }

    /// Where its vision tower is.
    #[must_use]
    pub fn tower(&self) -> &TowerSource {
        &self.tower
    }

    /// Its tensors: hub name, name in the file, and what is stored.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|(hub_key, (key, tensor))| (hub_key.as_str(), key.as_str(), tensor))
    }

    /// Numbers in all its tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let sizes = self.tensors.values();
        let sizes = sizes.map(|(_, tensor)| tensor.shape.iter().product::<usize>() as u64);
        sizes.sum()
    }

    /// Asks for another number type than the options it was opened with.
    #[must_use]
    pub fn with_dtype(mut self, dtype: Option<TensorDtype>) -> Self {
        self.options.dtype = dtype;
        self
    }

    /// What loading would do, without doing it. Every number is read once, for the fingerprint and to find those that are none.
    #[must_use]
    pub fn check(&self, device: &Device) -> LoadReport {
        let (_, report) = self.fill(device, false);
        report
    }

    /// Loads the model, tensor by tensor, in the stored number type unless the options say another.
    ///
    /// # Errors
    /// The weights do not match the config, a tensor cannot be read, or a file of a folder that this library wrote is not what was
    /// written.
    pub fn load(self, device: &Device) -> Result<(GalleryModel, LoadReport), CheckpointError> {
        // Where another tower was chosen, the folder's own is not used.
        verify_files(&self.folder, |name| {
            !(self.tower.chosen && name.starts_with("vision_tower/"))
        })?;
        let (model, report) = self.fill(device, true);
        if self.options.strictness == Strictness::Strict && !report.problems.is_empty() {
            return Err(CheckpointError::Mismatch {
                folder: self.folder,
                problems: report.problems,
            });
        }
        Ok((model, report))
    }

    fn fill(&self, device: &Device, read: bool) -> (GalleryModel, LoadReport) {
        let mut filler = Filler {
            checkpoint: self,
            read,
            taken: BTreeMap::new(),
            report: LoadReport {
                folder: self.folder.clone(),
                layout: self.layout,
                fingerprint: None,
                tower: self.tower.clone(),
                used: Vec::new(),
                unused: Vec::new(),
                ignored: self.ignored.clone(),
                unread: self.unread.clone(),
                missing: Vec::new(),
                problems: Vec::new(),
                notes: self.notes.clone(),
                bytes: 0,
                parameters: 0,
            },
        };
        // A model's parameters are made when first used: the ones replaced here never are.
        let model = map_params(self.config.init(device), &mut filler);
        let Filler {
            taken, mut report, ..
        } = filler;
        let used: Vec<(&String, usize)> = taken
            .iter()
            .filter_map(|(hub_key, bytes)| Some((hub_key, (*bytes)?)))
            .collect();
        let examined = used.par_iter().map(|&(hub_key, bytes)| {
            let (key, tensor) = &self.tensors[hub_key];
            (hub_key, examine(key, tensor, bytes))
        });
        let mut digests = BTreeMap::new();
        for (hub_key, examined) in examined.collect::<Vec<_>>() {
            match examined {
                Ok(digest) => drop(digests.insert(hub_key, digest)),
                Err(problem) => report.problems.push(problem),
            }
        }
        if digests.len() == used.len() {
            report.fingerprint = Some(fingerprint(&digests, ""));
            report.tower.fingerprint = Some(fingerprint(&digests, "vision_tower."));
        }
        for (hub_key, (key, tensor)) in &self.tensors {
            if !taken.contains_key(hub_key) {
                report.unused.push(key.clone());
                report.problems.push(Problem::Unused {
                    key: key.clone(),
                    file: tensor.file.clone(),
                });
            }
        }
        (model, report)
    }
}

/// The model's config with all rows of the vocabulary, and whether it says how pictures become square.
fn whole_config(
    family: &Family,
    vision: VisionConfig,
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<(GalleryModelConfig, bool), CheckpointError> {
    match family {
        Family::LlavaHf {
            model,
            names_aspect_ratio,
            image_seq_length,
            ..
        } => {
            let mut model = model.clone();
            model.vision = vision;
            model
                .validate()
                .map_err(|source| CheckpointError::ModelConfig {
                    path: folder.join("config.json"),
                    source,
                })?;
            let tokens = model.tokens_per_picture();
            if let Some(said) = image_seq_length.filter(|&said| said != tokens) {
                notes.push(format!(
                    "{}: image_seq_length is {said}, but the tower gives {tokens} tokens a picture, and so many are used",
                    folder.join("config.json").display()
                ));
            }
            Ok((model, *names_aspect_ratio))
        }
        // Without a word of it the original cuts.
        Family::Llava(config) => Ok((config.clone().with_vision(vision)?, true)),
    }
}

/// Tensors by hub name, while a checkpoint is opened.
#[derive(Default)]
struct Tensors {
    tensors: BTreeMap<String, (String, StoredTensor)>,
    ignored: Vec<String>,
}

impl Tensors {
    fn add(&mut self, files: &WeightFiles, hub_key: impl Fn(&str) -> Option<String>) {
        for (key, tensor) in files.iter() {
            match hub_key(key) {
                Some(hub_key) => {
                    self.tensors
                        .insert(hub_key, (key.to_owned(), tensor.clone()));
                }
                None => self.ignored.push(key.to_owned()),
            }
        }
    }

    fn get(&self, hub_key: &str) -> Option<&StoredTensor> {
        self.tensors.get(hub_key).map(|(_, tensor)| tensor)
    }

    fn has(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|key| key.starts_with(prefix))
    }

    /// Adds the tower's tensors if they are elsewhere. The config is its folder's, where there is such a folder.
    fn tower(
        &mut self,
        folder: &Path,
        named: Option<String>,
        options: &LoadOptions,
        notes: &mut Vec<String>,
    ) -> Result<(TowerSource, Option<VisionConfig>), CheckpointError> {
        let has_tower = self.has("vision_tower.");
        // A chosen tower before the checkpoint's own, and that before the one its config names.
        let tower_folder = match (&options.vision_tower, has_tower, &named) {
            (Some(chosen), _, _) => Some(chosen.clone()),
            (None, false, Some(name)) => Some(tower::find(folder, name)?),
            // Its numbers are here; only its config is looked for.
            (None, true, Some(name)) => tower::find(folder, name).ok(),
            (None, _, None) => None,
        };
        let mut tower = TowerSource {
            folder: folder.to_owned(),
            named,
            chosen: options.vision_tower.is_some(),
            fingerprint: None,
        };
        let Some(tower_folder) = tower_folder else {
            return Ok((tower, None));
        };
        let vision = read_vision_config(&tower_folder, notes)?;
        if tower.chosen || !has_tower {
            self.forget("vision_tower.");
            self.add(&WeightFiles::open(&tower_folder)?, tower::hub_key);
            tower.folder = tower_folder;
        }
        Ok((tower, Some(vision)))
    }

    /// Rows of the embedding.
    fn vocab_rows(&self) -> Option<usize> {
        let embedding = self.get("language_model.model.embed_tokens.weight")?;
        embedding.shape.first().copied()
    }

    /// Refuses more layers than there are tensors, as the model would be built first and only then be found wanting, and more
    /// rows of the vocabulary than the embedding has.
    fn check_sizes(
        &self,
        folder: &Path,
        config: &GalleryModelConfig,
    ) -> Result<(), CheckpointError> {
        let wrong = |reason: String| CheckpointError::Config {
            path: folder.join("config.json"),
            reason,
        };
        let rows = self.vocab_rows().unwrap_or(usize::MAX);
        if config.llama.vocab_size > rows {
            return Err(wrong(format!(
                "vocab_size is {}, but the embedding has {rows} rows",
                config.llama.vocab_size
            )));
        }
        for (part, prefix, layers) in [
            (
                "decoder",
                "language_model.model.layers.",
                config.llama.num_hidden_layers,
            ),
            (
                "vision tower",
                "vision_tower.vision_model.encoder.layers.",
                config.vision.num_hidden_layers,
            ),
        ] {
            let keys = self.tensors.keys();
            let numbers = keys.filter_map(|key| key.strip_prefix(prefix)?.split('.').next());
            let found = numbers.collect::<BTreeSet<_>>().len();
            if layers > self.tensors.len() {
                return Err(wrong(format!(
                    "num_hidden_layers of the {part} is {layers}, but the files have {found} layers of it"
                )));
            }
        }
        Ok(())
    }

    fn forget(&mut self, prefix: &str) {
        self.tensors.retain(|hub_key, (key, _)| {
            let forget = hub_key.starts_with(prefix);
            if forget {
                self.ignored.push(key.clone());
            }
            !forget
        });
    }
}

struct Filler<'a> {
    checkpoint: &'a Checkpoint,
    read: bool,
    /// By hub name: bytes used, or nothing where a tensor does not fit.
    taken: BTreeMap<String, Option<usize>>,
    report: LoadReport,
}

/// The digest of the part of a tensor that is used, once its values are known to be finite.
fn examine(key: &str, tensor: &StoredTensor, used: usize) -> Result<[u8; 32], Problem> {
    let bytes = tensor.readable(key)?.slice(..used);
    tensor.check_finite(key, &bytes)?;
    let mut hash = Sha256::new();
    if let Some(dtype) = tensor.dtype {
        hash.update(dtype.torch());
    }
    hash.update(&bytes);
    Ok(hash.finalize().into())
}

/// Digest of all tensors whose hub names start with `prefix`.
fn fingerprint(digests: &BTreeMap<&String, [u8; 32]>, prefix: &str) -> String {
    let mut hash = Sha256::new();
    for (hub_key, digest) in digests.iter().filter(|(key, _)| key.starts_with(prefix)) {
        hash.update(hub_key.as_bytes());
        hash.update(digest);
    }
    format!("{WHOLE}{}", hex(hash))
}

impl Filler<'_> {
    /// What is used of a tensor, and its values if they are read.
    fn value<const D: usize>(
        &self,
        hub_key: &str,
        tensor: &StoredTensor,
        slot: &Slot<'_>,
    ) -> Result<(UsedTensor, Option<Tensor<D>>), Problem> {
        let (dtype, count) = tensor.fits(slot)?;
        let used = UsedTensor {
            key: slot.key.to_owned(),
            hub_key: hub_key.to_owned(),
            file: tensor.file.clone(),
            dtype,
            bytes: (count * dtype.size()) as u64,
        };
        // Whether the values are finite is found for all tensors in parallel, with their digests.
        let value = self.read.then(|| tensor.load_unchecked(slot)).transpose()?;
        Ok((used, value))
    }
}

impl ParamMapper for Filler<'_> {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(wanted) = checkpoint_key(path) else {
            return param;
        };
        let checkpoint = self.checkpoint;
        let Some((key, tensor)) = checkpoint.tensors.get(&wanted.key) else {
            let key = self.checkpoint.layout.key_of(&wanted.key);
            self.report.missing.push(key.clone());
            self.report.problems.push(Problem::Missing { key });
            return param;
        };
        let is_vocab = key.ends_with("embed_tokens.weight") || key.ends_with("lm_head.weight");
        let options = &checkpoint.options;
        let slot = Slot {
            key,
            shape: &param.lazy_shape(),
            placement: wanted.placement,
            more_rows: is_vocab && options.vocab_rows == VocabRows::Tokenizer,
            dtype: options.dtype,
            device: &param.lazy_device(),
        };
        let value = self.value::<D>(&wanted.key, tensor, &slot);
        let used = value.as_ref().ok().map(|(used, _)| used.bytes as usize);
        self.taken.insert(wanted.key, used);
        match value {
            Err(problem) => {
                self.report.problems.push(problem);
                param
            }
            Ok((used, value)) => {
                self.report.bytes += used.bytes;
                self.report.parameters += used.parameters();
                self.report.used.push(used);
                match value {
                    Some(value) => {
                        let id = param.id;
                        param.transform_for_load(value, id)
                    }
                    None => param,
                }
            }
        }
    }
}
