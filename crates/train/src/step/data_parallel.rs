//! Data parallelism: each device computes gradients for its share of the micro-batches, Burn's collective sums them (NCCL between GPUs,
//! copies between other devices), and each device makes the same update.
//!
//! Burn can also reduce from inside the backward pass (`DistributedContext`). Its devices then wait for each other without a timeout,
//! so a failure of one leaves the others hanging; and it expects one backward pass per step, where recomputed blocks have many. Here
//! one thread starts the collective after every device has replied. A device that fails or does not reply ends the step with an error
//! that names it.
//!
//! Each device has one worker thread for the whole training, so that its kernels run in one stream.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, distributed::ReduceOperation},
};
use gallery_gpt_model::GalleryModel;

use super::replica::{Replica, Share, ShareGradients};
use crate::{
    TrainError, TrainingConfig, global_norm,
    memory::{catch, message},
    optim::Rates,
};

/// A command to a device's worker thread.
pub(crate) enum Command {
    /// Restore the weights and moments from a folder.
    Restore(PathBuf),
    /// Compute the gradients of a share.
    Gradients(Share<'static>),
    /// Take the gradients of the whole step, and reply with their norm.
    Reduced(GradientsParams),
    /// Update the weights.
    Update(Rates),
}

/// The reply when it is done.
pub(crate) enum Reply {
    Done,
    Gradients(Box<ShareGradients>),
    Norm(f64),
}

/// A device other than the first, with its worker thread.
pub(crate) struct Peer {
    device: Device,
    name: String,
    timeout: Duration,
    commands: Sender<(u64, Command)>,
    replies: Receiver<(u64, Result<Reply, TrainError>)>,
    /// Number of the last command: late replies to earlier ones are dropped.
    last: u64,
}

impl Peer {
    /// Copies a model to a device and starts its worker thread.
    ///
    /// # Errors
    /// Nothing is trained, or the thread cannot be started.
    pub(crate) fn start(
        number: usize,
        model: &GalleryModel,
        device: &Device,
        config: &TrainingConfig,
    ) -> Result<Self, TrainError> {
        let mut replica = Replica::new(model.valid().to_device(device), config)?;
        let mut reduced = None;
        Self::with(number, device, config, move |command| {
            Ok(match command {
                Command::Restore(folder) => {
                    replica.restore(&folder)?;
                    Reply::Done
                }
                Command::Gradients(share) => {
                    let run = || replica.gradients(&share);
                    let grads = catch(share.step + 1, replica.config(), run)?;
                    Reply::Gradients(Box::new(grads))
                }
                Command::Reduced(grads) => {
                    let norm = global_norm(replica.model(), &grads);
                    let read = |norm: &Tensor<1>| f64::from(norm.clone().into_scalar::<f32>());
                    let value = norm.as_ref().map_or(0.0, read);
                    reduced = Some((grads, norm));
                    Reply::Norm(value)
                }
                Command::Update(rates) => {
                    if let Some((grads, norm)) = reduced.take() {
                        replica.update(grads, norm.as_ref(), rates);
                    }
                    Reply::Done
                }
            })
        })
    }

    /// Starts a worker thread that replies to commands with `work`.
    fn with(
        number: usize,
        device: &Device,
        config: &TrainingConfig,
        mut work: impl FnMut(Command) -> Result<Reply, TrainError> + Send + 'static,
    ) -> Result<Self, TrainError> {
        let (commands, received) = channel::<(u64, Command)>();
        let (reply, replies) = channel();
        let name = format!("{number} ({device:?})");
        let thread_name = name.clone();
        let run = move || {
            for (ticket, command) in received {
                let done = catch_unwind(AssertUnwindSafe(|| work(command)))
                    .unwrap_or_else(|panic| Err(failed(&thread_name, words(&*panic))));
                // The receiver is gone: the training is over.
                if reply.send((ticket, done)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name(format!("device {number}"))
            .spawn(run)
            .map_err(|error| failed(&name, error.to_string()))?;
        Ok(Self {
            device: device.clone(),
            name,
            timeout: Duration::from_secs_f64(config.ddp_timeout),
            commands,
            replies,
            last: 0,
        })
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.last += 1;
        // If the thread has ended, waiting for its reply says so.
        let _ = self.commands.send((self.last, command));
    }

    /// Waits for the reply to the last command.
    ///
    /// # Errors
    /// It failed, or did not reply within the timeout.
    fn reply(&mut self) -> Result<Reply, TrainError> {
        loop {
            let cause = match self.replies.recv_timeout(self.timeout) {
                Ok((ticket, reply)) if ticket == self.last => return reply,
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => format!(
                    "no reply for {} s (ddp_timeout)",
                    self.timeout.as_secs_f64()
                ),
                Err(RecvTimeoutError::Disconnected) => "its thread has ended".to_owned(),
            };
            return Err(failed(&self.name, cause));
        }
    }
}

/// Waits for all replies and returns them, or the first error among them.
pub(crate) fn replies(peers: &mut [Peer]) -> Result<Vec<Reply>, TrainError> {
    let all: Vec<_> = peers.iter_mut().map(Peer::reply).collect();
    all.into_iter().collect()
}

/// Checks that the copies of the model have not diverged.
///
/// # Errors
/// A device has another norm of the summed gradients than the first.
pub(crate) fn ensure_equal(
    peers: &[Peer],
    first: f64,
    replies: &[Reply],
) -> Result<(), TrainError> {
    for (peer, reply) in peers.iter().zip(replies) {
        if let Reply::Norm(norm) = reply {
            let equal = (norm - first).abs() <= 1e-3 * first.abs();
            if !equal {
                let cause = format!(
                    "the norm of the same gradients is {norm} on it and {first} on the first device"
                );
                return Err(failed(&peer.name, cause));
            }
        }
    }
    Ok(())
}

/// Replaces each device's gradients and loss by the sum over all devices. A missing gradient counts as 0.
pub(crate) fn all_reduce(model: &GalleryModel, peers: &[Peer], all: &mut [ShareGradients]) {
    let first = model.valid().device();
    let mut devices = vec![first];
    devices.extend(peers.iter().map(|peer| peer.device.clone()));
    let losses = all.iter_mut().zip(&devices);
    let losses = losses.map(|(share, device)| {
        share
            .loss
            .take()
            .unwrap_or_else(|| Tensor::zeros([1], device))
    });
    let losses = Tensor::all_reduce(losses.collect(), ReduceOperation::Sum);
    for (share, loss) in all.iter_mut().zip(losses) {
        share.loss = Some(loss);
    }
    model.visit(&mut Reducer { all, devices });
}

struct Reducer<'a> {
    all: &'a mut [ShareGradients],
    devices: Vec<Device>,
}

impl ModuleVisitor for Reducer<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grads = self
            .all
            .iter_mut()
            .map(|share| share.grads.remove::<D>(param.id));
        let grads: Vec<Option<Tensor<D>>> = grads.collect();
        let Some((shape, dtype)) = grads
            .iter()
            .flatten()
            .next()
            .map(|grad| (grad.shape(), grad.dtype()))
        else {
            return;
        };
        let grads = grads.into_iter().zip(&self.devices).map(|(grad, device)| {
            grad.unwrap_or_else(|| Tensor::zeros(shape.clone(), (device, dtype)))
        });
        let sums = Tensor::all_reduce(grads.collect(), ReduceOperation::Sum);
        for (share, sum) in self.all.iter_mut().zip(sums) {
            share.grads.register(param.id, sum);
        }
    }
}

fn failed(device: &str, cause: String) -> TrainError {
    TrainError::Device {
        device: device.to_owned(),
        cause,
        checkpoint: None,
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    message(panic)
        .unwrap_or("a panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn peer(
        seconds: f64,
        work: impl FnMut(Command) -> Result<Reply, TrainError> + Send + 'static,
    ) -> Peer {
        let config = TrainingConfig {
            ddp_timeout: seconds,
            ..TrainingConfig::lora(1e-3)
        };
        Peer::with(3, &Device::flex(), &config, work).expect("a thread")
    }

    fn update() -> Command {
        Command::Update(Rates {
            learning_rate: 0.0,
            mm_projector_lr: 0.0,
        })
    }

    #[test]
    fn a_device_that_panics_is_named_and_the_others_still_reply() {
        let mut peers = [
            peer(60.0, |_| panic!("CUDA_ERROR_ILLEGAL_ADDRESS")),
            peer(60.0, |_| Ok(Reply::Done)),
        ];
        peers.iter_mut().for_each(|peer| peer.command(update()));
        let error = replies(&mut peers).err().expect("a failure").to_string();
        assert!(
            error.contains("device 3 (") && error.contains("ILLEGAL_ADDRESS"),
            "{error}"
        );
        // Its thread is still there: it replies again, and so do the others.
        peers.iter_mut().for_each(|peer| peer.command(update()));
        assert!(replies(&mut peers[1..]).is_ok() && replies(&mut peers[..1]).is_err());
    }

    #[test]
    fn a_device_without_a_reply_ends_the_step_and_its_late_reply_is_dropped() {
        let (wake, woken) = channel();
        let mut first = true;
        let mut peers = [peer(0.2, move |_| {
            if std::mem::take(&mut first) {
                let _ = woken.recv();
                return Ok(Reply::Norm(1.0));
            }
            Ok(Reply::Done)
        })];
        peers[0].command(update());
        let began = Instant::now();
        let error = replies(&mut peers).err().expect("silence").to_string();
        assert!(error.contains("ddp_timeout"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
        wake.send(()).expect("it listens");
        peers[0].timeout = Duration::from_secs(60);
        peers[0].command(update());
        assert!(matches!(replies(&mut peers).as_deref(), Ok([Reply::Done])));
    }

    #[test]
    fn copies_that_diverge_are_found() {
        let peers = [peer(60.0, |_| Ok(Reply::Done))];
        for (norm, equal) in [(2.0, true), (2.001, true), (2.1, false), (f64::NAN, false)] {
            let found = ensure_equal(&peers, 2.0, &[Reply::Norm(norm)]);
            assert_eq!(found.is_ok(), equal, "{norm}");
        }
    }
}
