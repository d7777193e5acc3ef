//! The trainer: epochs over records.

mod loader;
mod session;

use std::{collections::BTreeMap, sync::mpsc::sync_channel, thread, time::Instant};

use burn::tensor::Device;
use gallery_gpt_checkpoint::{AdapterOrigin, ensure_savable_adapter};
use gallery_gpt_data::{BadRecord, Batcher, Record, RecordSize};
use gallery_gpt_model::{CancelToken, GalleryModel};

use crate::{
    LoraSettings, OnBadRecord, PlannedModel, RecordDigest, RunFolder, RunSettings, Samples,
    TrainError, TrainEvent, TrainingConfig, TrainingPlan,
    config::{Epochs, PREFETCHED_STEPS},
    memory::Planner,
};
use loader::Loader;
use session::Session;

/// Runs a training.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainingConfig,
    validation: Vec<Record>,
    samples: Option<Samples>,
    devices: Vec<Device>,
    base: BTreeMap<String, String>,
    origin: AdapterOrigin,
    cancel: CancelToken,
}

impl Trainer {
    /// A trainer with the given settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(config: TrainingConfig) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self {
            config,
            validation: Vec::new(),
            samples: None,
            devices: Vec::new(),
            base: BTreeMap::new(),
            origin: AdapterOrigin::default(),
            cancel: CancelToken::new(),
        })
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &TrainingConfig {
        &self.config
    }

    /// Records for the validation loss, which are not trained on.
    #[must_use]
    pub fn with_validation(mut self, records: Vec<Record>) -> Self {
        self.validation = records;
        self
    }

    /// Paintings to caption before the first step and at every evaluation, for the run's page.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = Some(samples);
        self
    }

    /// More devices, which share the micro-batches of every step with the model's own (data parallelism): a step then has
    /// `gradient_accumulation_steps` micro-batches for each device. With the same micro-batches the result is that of one device, up to
    /// rounding. Evaluations and captions run on the first device alone.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    /// The base's files and their SHA-256. A resume with other ones is refused by the name of the file.
    #[must_use]
    pub fn with_base(mut self, files: BTreeMap<String, String>) -> Self {
        self.base = files;
        self
    }

    /// What the adapters were trained on, as written beside them.
    #[must_use]
    pub fn with_origin(mut self, origin: AdapterOrigin) -> Self {
        self.origin = origin;
        self
    }

    /// Stops the training when `cancel` is cancelled: the current step is finished, a checkpoint is written, and
    /// [`TrainError::Interrupted`] has its path.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Devices that share a step.
    #[must_use]
    pub fn world_size(&self) -> usize {
        1 + self.devices.len()
    }

    fn epochs(&self, records: usize) -> Epochs<'_> {
        Epochs {
            config: &self.config,
            records,
            world_size: self.world_size(),
        }
    }

    /// Steps that a training over `records` records takes.
    #[must_use]
    pub fn total_steps(&self, records: usize) -> usize {
        self.epochs(records).total_steps()
    }

    /// Steps of one epoch over `records` records.
    #[must_use]
    pub fn steps_per_epoch(&self, records: usize) -> usize {
        self.epochs(records).steps_per_epoch()
    }

    /// Plans the memory and the computation of a training, from the sizes of its records.
    #[must_use]
    pub fn plan(&self, model: &PlannedModel<'_>, records: &[RecordSize]) -> TrainingPlan {
        Planner(self.epochs(records.len())).plan(model, records)
    }

    /// The smallest number of recomputed blocks with which a training needs at most `bytes`; `None` if it needs more even when all are
    /// recomputed.
    #[must_use]
    pub fn least_recompute(
        &self,
        model: &PlannedModel<'_>,
        records: &[RecordSize],
        bytes: u64,
    ) -> Option<usize> {
        Planner(self.epochs(records.len())).least_recompute(model, records, bytes)
    }

    /// Trains a model on records and returns it, resuming from the newest checkpoint in the run folder if there is one. `observe` is
    /// called with every event. If only adapters and the projector are trained ([`TrainableParts::saved_as_adapter`]), checkpoints and the
    /// result, in the run folder's `adapter/`, are adapters in PEFT's layout; else checkpoints hold every trained parameter.
    ///
    /// On a CPU with the same number of threads, a training that was killed at any point and resumed writes the same bytes as one that
    /// was not.
    ///
    /// # Errors
    /// A bad record, a loss that is not finite, a resume that would change the training, a disk without room for what will be written, or a
    /// file that cannot be read or written; [`TrainError::Interrupted`] if it was cancelled. The files in the run folder are complete
    /// whatever the error.
    ///
    /// [`TrainableParts::saved_as_adapter`]: crate::TrainableParts::saved_as_adapter
    pub fn train(
        &self,
        model: GalleryModel,
        records: &[Record],
        batcher: &Batcher,
        run: &mut RunFolder,
        observe: impl FnMut(&TrainEvent),
    ) -> Result<GalleryModel, TrainError> {
        let span = tracing::info_span!("train", run = %run.path().display());
        let _entered = span.enter();
        self.check(&model, records)?;
        run.begin(self.run_settings(&model, records, batcher, run)?)?;
        let epochs = self.epochs(records.len());
        let mut session = Session::start(self, epochs, model, batcher, run, observe)?;
        let loader = Loader::new(epochs, records, batcher)?;
        let first = session.steps_done();
        let started = Instant::now();
        thread::scope(|scope| {
            let (send, receive) = sync_channel(PREFETCHED_STEPS);
            scope.spawn(move || loader.run(first, &send));
            session.run(&receive)
        })?;
        session.finish(started.elapsed())
    }

    /// Refuses what is known to fail before the first step, without opening a picture.
    fn check(&self, model: &GalleryModel, records: &[Record]) -> Result<(), TrainError> {
        if records.is_empty() {
            return Err(TrainError::NoRecords);
        }
        if self.config.on_bad_record == OnBadRecord::Fail {
            for record in records.iter().chain(&self.validation) {
                let checked = record.ensure_placeholders();
                checked.map_err(|cause| BadRecord::of(record, cause))?;
            }
        }
        if self.config.parts.saved_as_adapter() {
            if !model.language_model.has_lora() {
                return Err(TrainError::NoAdapter);
            }
            ensure_savable_adapter(model)?;
        }
        Ok(())
    }

    /// The settings of this training, compared with those that the run began with.
    fn run_settings(
        &self,
        model: &GalleryModel,
        records: &[Record],
        batcher: &Batcher,
        run: &RunFolder,
    ) -> Result<RunSettings, TrainError> {
        let began = run.settings()?;
        let began = began.as_ref();
        let validation = (!self.validation.is_empty()).then(|| {
            let like = began.and_then(|began| began.validation.as_ref());
            RecordDigest::of(&self.validation, batcher, like)
        });
        let mut training = self.config.clone();
        // The run folder may be moved: its path is no setting.
        training.script.output_dir = None;
        Ok(RunSettings {
            flags: Vec::new(),
            base: self.base.clone(),
            dtype: format!("{:?}", model.dtype()),
            model: RunSettings::model(model.config()),
            lora: LoraSettings::of(model),
            image_processor: format!("{:?}", batcher.processor().config()),
            template: batcher.template().name.to_owned(),
            model_max_length: batcher.model_max_length(),
            training,
            world_size: self.world_size(),
            threads: rayon::current_num_threads(),
            records: RecordDigest::of(records, batcher, began.map(|began| &began.records)),
            validation,
        })
    }
}
