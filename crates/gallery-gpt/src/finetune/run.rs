//! A finetuning in its run folder, and what it ends with.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};

use super::{Finetune, FinetuneError};
use crate::{
    GalleryError, GalleryGpt,
    checkpoint::{
        CheckpointError, Destination, Layout, SaveOptions, save_model, save_projector, sha256_file,
    },
    model::GalleryModel,
    train::{
        RunFolder, SamplePainting, TrainError, TrainEvent, TrainableParts, TrainingCheckpoint,
    },
};

/// A finetuning that has its run folder, before its first step. No other process can use the folder
/// as long as this value lives.
#[derive(Debug)]
#[must_use = "nothing is trained before `train`"]
pub struct FinetuneRun {
    finetune: Finetune,
    run: RunFolder,
    steps_done: usize,
}

impl FinetuneRun {
    /// Takes the folder, and lists the bad records in it.
    pub(super) fn new(mut finetune: Finetune, run: RunFolder) -> Result<Self, FinetuneError> {
        let mut run = run.with_flags(finetune.flags.clone());
        let policy = finetune.config().on_bad_record;
        for bad in finetune.records.take_bad() {
            run.skip_record(bad, policy)?;
        }
        let newest = TrainingCheckpoint::newest(&run.checkpoints())?;
        Ok(Self {
            finetune,
            run,
            steps_done: newest.map_or(0, |newest| newest.state.step),
        })
    }

    /// The run folder.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.run
    }

    /// The base.
    #[must_use]
    pub fn base(&self) -> &GalleryGpt {
        self.finetune.base()
    }

    /// Steps that its newest checkpoint has.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// Whether its last step is done, so that [`FinetuneRun::train`] only loads the result.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.steps_done >= self.finetune.total_steps()
    }

    /// Trains to the last step, tells `observe` what happens, and writes the result: an adapter, the
    /// projector, or a whole model, by what was trained.
    ///
    /// # Errors
    /// What ends the training ([`Trainer::train`](crate::train::Trainer::train)), or a result that
    /// cannot be written.
    pub fn train(self, observe: impl FnMut(&TrainEvent)) -> Result<Finetuned, FinetuneError> {
        let Self {
            finetune, mut run, ..
        } = self;
        let base = finetune.base;
        let trainer = finetune
            .trainer
            .with_base(base_files(&base).map_err(GalleryError::from)?);
        let start = match &finetune.lora {
            Some(lora) => base.model().clone().apply_lora(lora),
            None => base.model().clone(),
        };
        let records = &finetune.records;
        let model = trainer.train(
            start,
            records.records(),
            records.batcher(),
            &mut run,
            observe,
        )?;
        let result = save_result(&base, &model, trainer.config().parts, &run);
        Ok(Finetuned {
            result: result.map_err(GalleryError::from)?,
            gallery: base.with_model(model),
            run,
            paintings: finetune.paintings,
        })
    }
}

/// The files that a training begins from, with their SHA-256: the base's, and those of an adapter
/// that is trained further.
fn base_files(base: &GalleryGpt) -> Result<BTreeMap<String, String>, CheckpointError> {
    let mut files = base.report().identity()?.files;
    let adapter = base.adapter_file().map(|adapter| adapter.used.iter());
    for (_, file) in adapter.into_iter().flatten() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("adapter/{name}");
        if let Entry::Vacant(entry) = files.entry(name) {
            entry.insert(sha256_file(file)?);
        }
    }
    Ok(files)
}

/// Writes the projector or the model, where the trainer has not written an adapter; returns where
/// the result is.
fn save_result(
    base: &GalleryGpt,
    model: &GalleryModel,
    parts: TrainableParts,
    run: &RunFolder,
) -> Result<PathBuf, CheckpointError> {
    if parts.saved_as_adapter() {
        return Ok(run.adapter());
    }
    let own = |name: &str| Destination::new(run.path().join(name)).overwriting(true);
    let folder = if parts == TrainableParts::PROJECTOR {
        let folder = own("projector");
        save_projector(model, folder.clone())?;
        folder
    } else {
        let folder = own("model");
        let options = SaveOptions {
            companions: Some(base.report().folder.clone()),
            layout: Layout::default_of(model.config().family),
            ..SaveOptions::default()
        };
        save_model(model, folder.clone(), &options)?;
        folder
    };
    Ok(folder.path().to_owned())
}

/// A finetuned model, and where it is.
#[derive(Debug)]
pub struct Finetuned {
    gallery: GalleryGpt,
    result: PathBuf,
    run: RunFolder,
    paintings: Vec<SamplePainting>,
}

impl Finetuned {
    /// The finetuned model, ready to describe pictures.
    #[must_use]
    pub fn gallery(&self) -> &GalleryGpt {
        &self.gallery
    }

    /// The finetuned model, without its run.
    #[must_use]
    pub fn into_gallery(self) -> GalleryGpt {
        self.gallery
    }

    /// Folder of the adapter, the projector or the model that was written.
    #[must_use]
    pub fn result(&self) -> &Path {
        &self.result
    }

    /// The run folder.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.run
    }

    /// Writes the run's page again, with a `test.json` that was put into the folder since.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_page(&self) -> Result<(), TrainError> {
        self.run.write_page(&self.paintings, true)
    }
}
