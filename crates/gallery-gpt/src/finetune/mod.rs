//! Finetuning, from a loaded base to a finetuned model: checks first, then a run folder, then the training.

mod error;
mod records;
mod run;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::{
    GalleryError, GalleryGpt, Picture,
    checkpoint::{CheckpointError, ensure_savable_adapter},
    data::{Batcher, PaintingForm, Record},
    llama::{LoraConfig, LoraTarget},
    model::{CancelToken, GenerationConfig},
    pipeline::is_cpu,
    projector::ProjectorKind,
    train::{
        AttentionMemory, AvailableMemory, PlannedModel, RunFolder, SamplePainting, Samples,
        TrainError, TrainEvent, Trainable, Trainer, TrainingConfig, TrainingPlan,
        memory_saving_options,
    },
};

pub use error::FinetuneError;
pub use records::TrainingRecords;
pub use run::{FinetuneRun, Finetuned};

/// Most tokens of a sample painting's text.
const SAMPLE_TOKENS: usize = 160;

impl GalleryGpt {
    /// Finetunes the model: with new LoRA adapters, or, if `lora` is `None`, whatever
    /// [`TrainingConfig::parts`] selects, which can be the adapter that is loaded.
    ///
    /// On a GPU the settings are those of [`TrainingConfig::on_gpu`].
    ///
    /// ```
    /// use gallery_gpt::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
    /// # let folder = std::env::temp_dir().join(format!("gallery-gpt-door-{}", std::process::id()));
    /// let base = GalleryGpt::load("datasets/tiny-base", &Device::flex())?;
    /// let training = TrainingConfig { max_steps: Some(1), ..TrainingConfig::lora(4e-3) };
    /// let finetuned = base
    ///     .finetune(LoraConfig::new(16, 32.0), training)
    ///     .records("datasets/painting-form-mini/train_samples_tuning.json", "datasets/painting-form-mini")?
    ///     .run(&folder, |event| println!("{event:?}"))?;
    /// assert!(finetuned.result().join("adapter_model.safetensors").is_file());
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(()) }
    /// ```
    pub fn finetune(
        self,
        lora: impl Into<Option<LoraConfig>>,
        mut training: TrainingConfig,
    ) -> FinetuneBuilder {
        if !is_cpu(&self.model().device()) {
            training = training.on_gpu();
        }
        FinetuneBuilder {
            base: self,
            lora: lora.into(),
            training,
        }
    }
}

/// A base and the settings of its finetuning, which lacks the records. Made by
/// [`GalleryGpt::finetune`].
#[derive(Clone, Debug)]
#[must_use = "nothing is trained before `records` and `run`"]
pub struct FinetuneBuilder {
    base: GalleryGpt,
    lora: Option<LoraConfig>,
    training: TrainingConfig,
}

impl FinetuneBuilder {
    /// Reads and checks the training records in `file`; their pictures are under `pictures`. No
    /// picture is decoded yet.
    ///
    /// # Errors
    /// The settings are out of range or do not go together, the file is not a data set, or it has
    /// bad records and [`TrainingConfig::on_bad_record`] is `Fail`.
    pub fn records(
        self,
        file: impl AsRef<Path>,
        pictures: impl Into<PathBuf>,
    ) -> Result<Finetune, FinetuneError> {
        let set = PaintingForm::load(&file)?;
        let records = TrainingRecords::check(file.as_ref(), set, self.batcher(pictures));
        self.checked(records)
    }

    /// As [`FinetuneBuilder::records`], with records that were checked before, or that come from
    /// memory ([`TrainingRecords::check`]).
    ///
    /// # Errors
    /// As [`FinetuneBuilder::records`].
    pub fn checked(self, records: TrainingRecords) -> Result<Finetune, FinetuneError> {
        let Self {
            base,
            lora,
            training,
        } = self;
        if let Some(lora) = &lora {
            lora.validate().map_err(TrainError::from)?;
        }
        training.script.check(base.model().config())?;
        ensure_fits_together(&base, lora.as_ref(), &training)?;
        let records = records.allowed_by(training.on_bad_record)?;
        let trainer = Trainer::new(training)?.with_origin(base.origin());
        Ok(Finetune {
            base,
            lora,
            trainer,
            records,
            devices: 1,
            paintings: Vec::new(),
            flags: Vec::new(),
        })
    }

    /// A batcher of records with pictures under `pictures`, for [`TrainingRecords::check`].
    #[must_use]
    pub fn batcher(&self, pictures: impl Into<PathBuf>) -> Batcher {
        let model_max_length = self.training.script.model_max_length;
        self.base.batcher(pictures, model_max_length)
    }
}

/// Refuses adapters that nothing would train, and parts that are not there to be trained.
fn ensure_fits_together(
    base: &GalleryGpt,
    lora: Option<&LoraConfig>,
    training: &TrainingConfig,
) -> Result<(), FinetuneError> {
    if base.model().language_model.is_quantized() {
        return Err(FinetuneError::Quantized);
    }
    let loaded = base.model().language_model.has_lora();
    let trains_adapters = training.parts.language_model == Trainable::Lora;
    if lora.is_some() && loaded {
        return Err(FinetuneError::TwoAdapters);
    }
    if (lora.is_some() || loaded) && !trains_adapters {
        return Err(FinetuneError::AdapterNotTrained);
    }
    let config = base.model().config();
    if let Some(target) = lora.and_then(|lora| lora.targets.missing_among(config.llama.linears())) {
        let linears = config.llama.linears();
        let has = linears.map(LoraTarget::name).collect::<Vec<_>>().join(", ");
        return Err(FinetuneError::MissingTarget {
            target: target.name(),
            has,
        });
    }
    let resampler = matches!(config.projector, ProjectorKind::Resampler { .. });
    let whole = training.parts.language_model == Trainable::Full;
    if resampler && training.parts.projector != Trainable::Frozen && !whole {
        return Err(FinetuneError::ResamplerNotSaved);
    }
    if training.parts.saved_as_adapter() {
        match ensure_savable_adapter(base.model()) {
            Err(CheckpointError::NoAdapter) if lora.is_some() => {}
            Err(CheckpointError::NoAdapter) => return Err(TrainError::NoAdapter.into()),
            savable => savable.map_err(GalleryError::from)?,
        }
    }
    Ok(())
}

/// A finetuning whose settings and records are checked. It begins with [`Finetune::run`], or with
/// [`Finetune::begin`] for a look at the run before its first step.
#[derive(Debug)]
#[must_use = "nothing is trained before `run`"]
pub struct Finetune {
    base: GalleryGpt,
    lora: Option<LoraConfig>,
    trainer: Trainer,
    records: TrainingRecords,
    /// The base's device, and those that share its steps.
    devices: usize,
    paintings: Vec<SamplePainting>,
    flags: Vec<String>,
}

impl Finetune {
    /// Evaluates on the records in `file`, which are not trained on, every
    /// [`TrainingConfig::eval_steps`]; the adapter with the lowest loss is kept in the run folder's
    /// `best/`. Their pictures are where those of the training records are.
    ///
    /// # Errors
    /// The file is not a data set, or one of its records cannot be used.
    pub fn validation(self, file: impl AsRef<Path>) -> Result<Self, FinetuneError> {
        let set = PaintingForm::load(&file)?;
        let checked = TrainingRecords::check(file, set, self.records.batcher().clone());
        let (records, bad) = checked.into_parts();
        match bad.into_iter().next() {
            None => Ok(self.validation_records(records)),
            Some((path, bad)) => Err(FinetuneError::BadValidation {
                path,
                bad: Box::new(bad),
            }),
        }
    }

    /// As [`Finetune::validation`], with records from memory.
    pub fn validation_records(mut self, records: Vec<Record>) -> Self {
        self.trainer = self.trainer.with_validation(records);
        self
    }

    /// Asks a question about some pictures before the first step and at every evaluation, greedily,
    /// for the run's page.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn samples(
        mut self,
        pictures: &[impl AsRef<Path>],
        question: &str,
    ) -> Result<Self, FinetuneError> {
        let paintings = pictures.iter().map(|path| self.sample(path, question));
        self.paintings = paintings.collect::<Result<_, _>>()?;
        self.trainer = self.trainer.with_samples(Samples {
            paintings: self.paintings.clone(),
            tokenizer: self.base.tokenizer().clone(),
            generation: GenerationConfig::greedy(SAMPLE_TOKENS),
        });
        Ok(self)
    }

    fn sample(
        &self,
        path: impl AsRef<Path>,
        question: &str,
    ) -> Result<SamplePainting, GalleryError> {
        let path = path.as_ref();
        let picture = Picture::File(path);
        let pixels = picture.process(self.base.processor())?;
        Ok(SamplePainting {
            name: path.display().to_string(),
            picture: picture.thumbnail(self.base.processor())?,
            prompt: self.base.prompt(question, vec![pixels])?,
        })
    }

    /// Shares the micro-batches of every step with more devices ([`Trainer::with_devices`]).
    pub fn devices(mut self, others: Vec<Device>) -> Self {
        self.devices = 1 + others.len();
        self.trainer = self.trainer.with_devices(others);
        self
    }

    /// Stops when the token is cancelled: after the step at work, with a checkpoint
    /// ([`TrainError::Interrupted`]).
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.trainer = self.trainer.with_cancel(token);
        self
    }

    /// Arguments that resume the run in the program that begins it, for
    /// [`RunSettings::flags`](crate::train::RunSettings::flags).
    pub fn flags(mut self, flags: Vec<String>) -> Self {
        self.flags = flags;
        self
    }

    /// The base.
    #[must_use]
    pub fn base(&self) -> &GalleryGpt {
        &self.base
    }

    /// The records.
    #[must_use]
    pub fn training_records(&self) -> &TrainingRecords {
        &self.records
    }

    /// The settings, those that depend on the device included.
    #[must_use]
    pub fn config(&self) -> &TrainingConfig {
        self.trainer.config()
    }

    /// Steps that the training takes.
    #[must_use]
    pub fn total_steps(&self) -> usize {
        self.trainer.total_steps(self.records.len())
    }

    /// The memory, parameters and steps that the training needs.
    #[must_use]
    pub fn plan(&self) -> TrainingPlan {
        let model = self.base.model();
        let loaded = self.base.adapter_file().map(|adapter| &adapter.lora);
        let attention = if is_cpu(&model.device()) {
            AttentionMemory::Scores
        } else {
            AttentionMemory::Fused
        };
        let planned = PlannedModel {
            config: model.config(),
            lora: self.lora.as_ref().or(loaded),
            bytes: model.dtype().size(),
            attention,
            threads: rayon::current_num_threads(),
        };
        self.trainer.plan(&planned, self.records.sizes())
    }

    /// Refuses a training that the plan says will not fit into a CPU's memory, where the system
    /// would end the process without a word. On other devices nothing is refused.
    fn ensure_it_fits(&self) -> Result<(), FinetuneError> {
        let on_cpu = is_cpu(&self.base.model().device());
        let Some(available) = on_cpu.then(AvailableMemory::now).flatten() else {
            return Ok(());
        };
        let memory = self.plan().memory;
        // The weights are there already, and several CPU devices share them.
        let needed = (memory.peak - memory.weights) * self.devices as u64;
        if needed > available.bytes {
            return Err(FinetuneError::OutOfMemory {
                needed,
                available,
                options: memory_saving_options(self.config()),
            });
        }
        Ok(())
    }

    /// Begins in a new run folder, without a step.
    ///
    /// # Errors
    /// The plan does not fit the memory, the folder holds a run or anything else, another process
    /// has it, or there are more bad records than may be left out.
    pub fn begin(self, folder: impl Into<PathBuf>) -> Result<FinetuneRun, FinetuneError> {
        self.ensure_it_fits()?;
        FinetuneRun::new(self, RunFolder::create(folder)?)
    }

    /// Resumes the run in a folder, without a step. Its newest checkpoint is loaded by
    /// [`FinetuneRun::train`], which refuses settings, records or a base by which this would be
    /// another training.
    ///
    /// # Errors
    /// As [`Finetune::begin`], or the folder holds no run.
    pub fn resume(self, folder: impl Into<PathBuf>) -> Result<FinetuneRun, FinetuneError> {
        self.ensure_it_fits()?;
        FinetuneRun::new(self, RunFolder::resume(folder)?)
    }

    /// Trains in a new run folder, tells `observe` what happens, and returns the finetuned model.
    ///
    /// # Errors
    /// As [`Finetune::begin`] and [`FinetuneRun::train`].
    pub fn run(
        self,
        folder: impl Into<PathBuf>,
        observe: impl FnMut(&TrainEvent),
    ) -> Result<Finetuned, FinetuneError> {
        self.begin(folder)?.train(observe)
    }
}
