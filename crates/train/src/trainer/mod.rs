//! Epochs over records.

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
    /// A trainer of some settings.
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

    /// Records that are not trained on, for the validation loss.
    #[must_use]
    pub fn with_validation(mut self, records: Vec<Record>) -> Self {
        self.validation = records;
        self
    }

    /// Paintings to ask about before the first step and at every validation, for the run's page.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = Some(samples);
        self
    }

    /// Devices beside the model's own, which share the micro-batches of every step with it (data parallelism): a step then has
    /// `gradient_accumulation_steps` for each device. On as many micro-batches the result is that of one device but for rounding.
    /// Validation and samples stay with the first.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    /// The base's files and their SHA-256: a run that goes on with other ones is refused by the name of the file.
    #[must_use]
    pub fn with_base(mut self, files: BTreeMap<String, String>) -> Self {
        self.base = files;
        self
    }

    /// What the adapters that it writes say they were trained on.
    #[must_use]
    pub fn with_origin(mut self, origin: AdapterOrigin) -> Self {
        self.origin = origin;
        self
    }

    /// Stops the training when it is cancelled: the step at work is finished, a checkpoint is written, and
    /// [`TrainError::Interrupted`] says where it is.
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

    /// What a training on records of these sizes will need.
    #[must_use]
    pub fn plan(&self, model: &PlannedModel<'_>, records: &[RecordSize]) -> TrainingPlan {
        Planner(self.epochs(records.len())).plan(model, records)
    }

    /// The fewest blocks that the backward pass has to recompute for a training to need at most `bytes`; `None` if it needs more even
    /// when it recomputes them all.
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
    /// told what happens. Where the adapters of a model are trained ([`TrainableParts::fit_an_adapter`]), checkpoints and the result,
    /// in the run folder's `adapter/`, are adapters in PEFT's form; else checkpoints hold every trained parameter.
    ///
    /// On a CPU with the same number of threads, a training that was killed anywhere and resumed leaves the same bytes as one that was
    /// not.
    ///
    /// # Errors
    /// A record that cannot be used, a loss that is not finite, anything by which this is another training than the one that the run
    /// began with, a disk without room for what will be kept, or a file that cannot be read or written; [`TrainError::Interrupted`]
    /// where it was cancelled. What the run folder holds by then is whole.
    ///
    /// [`TrainableParts::fit_an_adapter`]: crate::TrainableParts::fit_an_adapter
    pub fn train(
        &self,
        model: GalleryModel,
        records: &[Record],
        batcher: &Batcher,
        run: &mut RunFolder,
        observe: impl FnMut(&TrainEvent),
    ) -> Result<GalleryModel, TrainError> {
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

    /// Refuses what can be known to fail before the first step and without opening a picture.
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
        if self.config.parts.fit_an_adapter() {
            if !model.language_model.has_lora() {
                return Err(TrainError::NoAdapter);
            }
            ensure_savable_adapter(model)?;
        }
        Ok(())
    }

    /// What this training is, for the run's settings: compared with what the run began with, if it did.
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
        // The run is where its settings are.
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
