//! An opened checkpoint: its config and the names, shapes and dtypes of its tensors are known, but no values are read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gallery_gpt_model::{GalleryModelConfig, ModelFamily};
use gallery_gpt_vision::{ImageProcessorConfig, VisionConfig};

use super::{
    model_folder,
    opened_tensors::OpenedTensors,
    options::{LoadOptions, VocabRows},
    tower::{self, TowerSource},
    weight_files::WeightFiles,
};
use crate::{
    CheckpointError, Layout, StoredTensor, TensorDtype,
    config::{
        chat::ChatSettings,
        file::{ConfigFile, ConfigKind, read_config},
        llava_hf::LlavaHfConfig,
        named_ids::NamedIds,
        processor::Pictures,
    },
    layout::{PROJECTOR_FILE, projector_hub_key},
};

/// A model's folder, opened but not loaded.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) folder: PathBuf,
    pub(super) layout: Layout,
    pub(super) config: GalleryModelConfig,
    pub(super) pictures: ImageProcessorConfig,
    chat: Option<ChatSettings>,
    pub(super) tower: TowerSource,
    pub(super) unread: Vec<PathBuf>,
    pub(super) ignored: Vec<String>,
    pub(super) notes: Vec<String>,
    /// By hub name: the name in the file, and the tensor.
    pub(super) tensors: BTreeMap<String, (String, StoredTensor)>,
    pub(super) options: LoadOptions,
}

impl Checkpoint {
    /// Opens a folder of any layout: reads its config, and the names and shapes of its tensors.
    ///
    /// # Errors
    /// A file is missing or damaged, the layout is not known, or the vision tower that the config names is not found.
    pub fn open(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        model_folder::check(folder)?;
        let ConfigFile { kind, mut notes } = read_config(folder)?;
        let ids = NamedIds::read(folder)?;
        let (end_ids, chat) = match &kind {
            ConfigKind::QwenVl(model) => {
                let chat = ChatSettings::read(folder, &mut notes)?;
                (ids.ends_of_chat(folder, model, &mut notes)?, Some(chat))
            }
            _ => (ids.ends_of_llava(folder, &mut notes)?, None),
        };
        let files = WeightFiles::open(folder)?;
        let layout = Layout::detect(folder, files.iter().map(|(key, _)| key))?;
        ensure_same_family(folder, &kind, layout)?;
        let mut opened = OpenedTensors::default();
        opened.add(&files, |key| layout.hub_key(key));
        if layout == Layout::Llava
            && !opened.has("multi_modal_projector.")
            && folder.join(PROJECTOR_FILE).is_file()
        {
            let projector = WeightFiles::open_single(folder.join(PROJECTOR_FILE))?;
            opened.add(&projector, projector_hub_key);
        }
        let (named, vision) = match &kind {
            ConfigKind::LlavaHf(LlavaHfConfig { model, .. }) | ConfigKind::QwenVl(model) => {
                (None, Some(model.vision.clone()))
            }
            ConfigKind::Llava(config) => (config.mm_vision_tower.clone(), None),
        };
        if let (ConfigKind::QwenVl(_), Some(chosen)) = (&kind, &options.vision_tower) {
            return Err(CheckpointError::OwnTower {
                folder: folder.to_owned(),
                chosen: chosen.clone(),
            });
        }
        let (tower, chosen) = opened.tower(folder, named, options, &mut notes)?;
        let vision = match chosen.or(vision) {
            Some(vision) => vision,
            None => tower::config_of_shapes(|key| opened.get(key), &mut notes).ok_or_else(|| {
                CheckpointError::Config {
                    path: folder.join("config.json"),
                    reason: "no mm_vision_tower, and no complete vision tower among the weights; name the tower's folder"
                        .to_owned(),
                }
            })?,
        };
        let (mut config, says_aspect_ratio) = whole_config(&kind, vision, folder, &mut notes)?;
        opened.check_sizes(folder, &config)?;
        match (&kind, options.vocab_rows, opened.vocab_rows()) {
            (_, VocabRows::AsStored, Some(rows)) => config.llama.vocab_size = rows,
            (
                ConfigKind::LlavaHf(LlavaHfConfig {
                    image_token_index, ..
                }),
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
        config.end_ids = end_ids;
        let OpenedTensors { tensors, ignored } = opened;
        Ok(Self {
            folder: folder.to_owned(),
            layout,
            config,
            pictures,
            chat,
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

    /// How its tensors are named.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The config of its model.
    #[must_use]
    pub fn config(&self) -> &GalleryModelConfig {
        &self.config
    }

    /// The settings of its image processor.
    #[must_use]
    pub fn image_processor(&self) -> &ImageProcessorConfig {
        &self.pictures
    }

    /// How its answers are made by default, from its `generation_config.json`; `None` of a LLaVA, whose file is not followed.
    #[must_use]
    pub fn chat_settings(&self) -> Option<&ChatSettings> {
        self.chat.as_ref()
    }

    /// Where its vision tower is.
    #[must_use]
    pub fn tower(&self) -> &TowerSource {
        &self.tower
    }

    /// Its tensors: hub name, name in the file, and the stored tensor.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|(hub_key, (key, tensor))| (hub_key.as_str(), key.as_str(), tensor))
    }

    /// Number of values in all its tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let sizes = self.tensors.values();
        let sizes = sizes.map(|(_, tensor)| tensor.shape.iter().product::<usize>() as u64);
        sizes.sum()
    }

    /// Sets the dtype to load in, in place of the one in the options it was opened with.
    #[must_use]
    pub fn with_dtype(mut self, dtype: Option<TensorDtype>) -> Self {
        self.options.dtype = dtype;
        self
    }
}

/// The model's config with all rows of the vocabulary, and whether it says how pictures are made square.
fn whole_config(
    kind: &ConfigKind,
    vision: VisionConfig,
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<(GalleryModelConfig, bool), CheckpointError> {
    match kind {
        ConfigKind::LlavaHf(LlavaHfConfig {
            model,
            names_aspect_ratio,
            image_seq_length,
            ..
        }) => {
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
                    "{}: image_seq_length is {said}, but the tower gives {tokens} tokens a picture; {tokens} are used",
                    folder.join("config.json").display()
                ));
            }
            Ok((model, *names_aspect_ratio))
        }
        // The original's default is to crop.
        ConfigKind::Llava(config) => Ok((config.clone().with_vision(vision)?, true)),
        ConfigKind::QwenVl(model) => Ok((model.clone(), true)),
    }
}

/// Refuses weights whose names belong to another family than the config.
fn ensure_same_family(
    folder: &Path,
    kind: &ConfigKind,
    layout: Layout,
) -> Result<(), CheckpointError> {
    let family = match kind {
        ConfigKind::LlavaHf(_) | ConfigKind::Llava(_) => ModelFamily::Llava,
        ConfigKind::QwenVl(_) => ModelFamily::QwenVl,
    };
    if layout.family() == family {
        return Ok(());
    }
    Err(CheckpointError::Config {
        path: folder.join("config.json"),
        reason: format!(
            "it is of {family}, but the tensors beside it are named as {layout}; one of the files belongs to another model"
        ),
    })
}
