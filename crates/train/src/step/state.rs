//! The state of a training, and its optimizer step.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use gallery_gpt_checkpoint::AdapterOrigin;
use gallery_gpt_data::Batch;
use gallery_gpt_model::GalleryModel;
use serde::{Deserialize, Serialize};

use super::{
    data_parallel::{Command, Peer, Reply, all_reduce, ensure_equal, replies},
    replica::{MicroBatch, Replica, Share, ShareGradients, record_ids},
};
use crate::{ParamGroups, Schedule, TrainError, TrainingConfig, global_norm, optim::Rates};

/// A model under training, on one device or on several.
#[allow(
    missing_debug_implementations,
    reason = "Burn's optimizer has no Debug; the parts that matter have accessors"
)]
pub struct TrainState {
    replica: Replica,
    /// The other devices.
    peers: Vec<Peer>,
    schedule: Schedule,
    step: usize,
}

/// The report of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// One-based.
    pub step: usize,
    /// Mean loss per supervised token, averaged as [`TrainingConfig::loss_mean`] says.
    pub loss: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of everything except the projector.
    pub learning_rate: f64,
    /// Learning rate of the projector.
    pub mm_projector_lr: f64,
    /// Tokens in the loss.
    pub supervised_tokens: usize,
    /// All tokens, pictures expanded.
    pub tokens: usize,
}

impl TrainState {
    /// Marks the trained parameters and makes the optimizer for `total_steps` steps.
    ///
    /// # Errors
    /// A setting out of range, or nothing to train.
    pub fn new(
        model: GalleryModel,
        config: &TrainingConfig,
        total_steps: usize,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self {
            replica: Replica::new(model, config)?,
            peers: Vec::new(),
            schedule: Schedule::new(config.lr_scheduler_type, total_steps, config.warmup_ratio),
            step: 0,
        })
    }

    /// Copies the model to more devices, which from now on share the micro-batches of every step.
    ///
    /// # Errors
    /// A device's thread cannot be started.
    ///
    /// # Panics
    /// If a step has been done, or the training was restored.
    pub fn with_devices(mut self, devices: &[Device]) -> Result<Self, TrainError> {
        assert_eq!(self.step, 0, "devices are added before the first step");
        for device in devices {
            let number = self.peers.len() + 1;
            let replica = &self.replica;
            let peer = Peer::start(number, replica.model(), device, replica.config())?;
            self.peers.push(peer);
        }
        Ok(self)
    }

    /// The current model, on the (first) autodiff device.
    ///
    /// # Panics
    /// If a step panicked in its update.
    #[must_use]
    pub fn model(&self) -> &GalleryModel {
        self.replica.model()
    }

    /// The trained parameters.
    #[must_use]
    pub fn groups(&self) -> &ParamGroups {
        self.replica.groups()
    }

    /// Writes what is trained into a folder: adapters with the projector in PEFT's layout if their origin is given, else every trained
    /// parameter; and the optimizer's moments.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        origin: Option<&AdapterOrigin>,
    ) -> Result<(), TrainError> {
        self.replica.save(folder.as_ref(), origin)
    }

    /// Restores the weights and moments that [`TrainState::save`] wrote after `step` steps, on all devices.
    ///
    /// # Errors
    /// A file is missing or damaged, or does not fit the model.
    pub fn restore(mut self, folder: impl AsRef<Path>, step: usize) -> Result<Self, TrainError> {
        let folder = folder.as_ref();
        for peer in &mut self.peers {
            peer.command(Command::Restore(folder.to_owned()));
        }
        self.replica.restore(folder)?;
        replies(&mut self.peers)?;
        self.step = step;
        Ok(self)
    }

    /// Steps done.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The model without an autodiff graph.
    ///
    /// # Panics
    /// If a step panicked in its update.
    #[must_use]
    pub fn into_model(self) -> GalleryModel {
        self.replica.into_model()
    }

    /// One step over some micro-batches, which are divided over the devices. If it fails before its update, the models are unchanged; on
    /// one device it cannot fail later.
    ///
    /// # Errors
    /// A batch whose placeholders and pictures do not match, or without a supervised token; a loss that is not finite; a device that fails or
    /// does not reply in time.
    ///
    /// # Panics
    /// If there is no micro-batch.
    pub fn step(&mut self, micro_batches: &[Batch]) -> Result<StepReport, TrainError> {
        assert!(!micro_batches.is_empty(), "a step needs a micro-batch");
        let number = self.step + 1;
        for batch in micro_batches {
            if batch.supervised_tokens() == 0 {
                return Err(TrainError::NothingSupervised {
                    step: number,
                    records: record_ids(micro_batches),
                });
            }
        }
        let mut shares = self.gradients(micro_batches)?;
        let supervised_tokens = shares.iter().map(|share| share.supervised_tokens).sum();
        let tokens = shares.iter().map(|share| share.tokens).sum();
        if !self.peers.is_empty() {
            all_reduce(self.replica.model(), &self.peers, &mut shares);
        }
        let mut shares = shares.into_iter();
        let Some(own) = shares.next() else {
            unreachable!("the first device has a share")
        };
        for (peer, share) in self.peers.iter_mut().zip(shares) {
            peer.command(Command::Reduced(share.grads));
        }
        let norm = global_norm(self.replica.model(), &own.grads);
        // Collect replies before synchronising this device: if a worker died inside the collective, waiting here would hang.
        let norms = replies(&mut self.peers)?;
        // The only host synchronisation of a step, before anything is changed.
        let scalar = |tensor: Option<Tensor<1>>| {
            tensor.map_or(0.0, |tensor| f64::from(tensor.into_scalar::<f32>()))
        };
        let (loss, grad_norm) = (scalar(own.loss), scalar(norm.clone()));
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    step: number,
                    what,
                    value,
                    records: record_ids(micro_batches),
                    checkpoint: None,
                });
            }
        }
        ensure_equal(&self.peers, grad_norm, &norms)?;

        let rates = Rates::at(self.step, &self.schedule, self.replica.config());
        for peer in &mut self.peers {
            peer.command(Command::Update(rates));
        }
        self.replica.update(own.grads, norm.as_ref(), rates);
        replies(&mut self.peers)?;
        self.step = number;
        Ok(StepReport {
            step: number,
            loss,
            grad_norm,
            learning_rate: rates.learning_rate,
            mm_projector_lr: rates.mm_projector_lr,
            supervised_tokens,
            tokens,
        })
    }

    /// Loss and gradients of the micro-batches, divided over the devices; one share of each device, the first device's first.
    fn gradients(&mut self, micro_batches: &[Batch]) -> Result<Vec<ShareGradients>, TrainError> {
        let devices = 1 + self.peers.len();
        let of_step = MicroBatch::of_step(micro_batches, self.replica.config().loss_mean);
        let share = |device: usize| Share {
            step: self.step,
            micro_batches: of_step
                .iter()
                .skip(device)
                .step_by(devices)
                .cloned()
                .collect(),
        };
        for (device, peer) in self.peers.iter_mut().enumerate() {
            peer.command(Command::Gradients(share(device + 1).into_owned()));
        }
        let own = self.replica.gradients(&share(0));
        let theirs = replies(&mut self.peers);
        let mut shares = vec![own?];
        shares.extend(theirs?.into_iter().filter_map(|reply| match reply {
            Reply::Gradients(share) => Some(*share),
            Reply::Done | Reply::Norm(_) => None,
        }));
        Ok(shares)
    }
}
