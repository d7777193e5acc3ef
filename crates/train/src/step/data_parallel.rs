//! A step over several devices: each computes gradients for its share of the micro-batches, Burn's collective adds them up (NCCL
//! between GPUs, copies between devices that have none), and each makes the same update.
//!
//! Burn can also reduce from inside the backward pass (`DistributedContext`). Its devices then wait for each other without end, so
//! one that fails leaves the others hanging, and it counts one backward pass a step where recomputed blocks have many. Here a
//! collective is begun by one thread, once every device has answered; one that fails or falls silent ends the step with its name.
//!
//! A device has one thread for the whole training: its kernels then run in one stream.

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

/// What a device is told to do.
pub(crate) enum Order {
    /// Take the weights and moments in a folder.
    Restore(PathBuf),
    /// Compute the gradients of a share.
    Gradients(Share<'static>),
    /// Take the gradients of the whole step, and say their norm.
    Reduced(GradientsParams),
    /// Make the update.
    Update(Rates),
}

/// What it says when it is done.
pub(crate) enum Answer {
    Done,
    Gradients(Box<ShareGradients>),
    Norm(f64),
}

/// A device beside the first, with a thread of its own.
pub(crate) struct Peer {
    device: Device,
    name: String,
    patience: Duration,
    orders: Sender<(u64, Order)>,
    answers: Receiver<(u64, Result<Answer, TrainError>)>,
    /// Number of the last order: an answer to an earlier one is one that nobody waited for.
    last: u64,
}

impl Peer {
    /// Copies a model to a device and starts its thread.
    ///
    /// # Errors
    /// Nothing is trained, or the system gives no thread.
    pub(crate) fn start(
        number: usize,
        model: &GalleryModel,
        device: &Device,
        config: &TrainingConfig,
    ) -> Result<Self, TrainError> {
        let mut replica = Replica::new(model.valid().to_device(device), config)?;
        let mut reduced = None;
        Self::with(number, device, config, move |order| {
            Ok(match order {
                Order::Restore(folder) => {
                    replica.restore(&folder)?;
                    Answer::Done
                }
                Order::Gradients(share) => {
                    let run = || replica.gradients(&share);
                    let grads = catch(share.step + 1, replica.config(), run)?;
                    Answer::Gradients(Box::new(grads))
                }
                Order::Reduced(grads) => {
                    let norm = global_norm(replica.model(), &grads);
                    let read = |norm: &Tensor<1>| f64::from(norm.clone().into_scalar::<f32>());
                    let value = norm.as_ref().map_or(0.0, read);
                    reduced = Some((grads, norm));
                    Answer::Norm(value)
                }
                Order::Update(rates) => {
                    if let Some((grads, norm)) = reduced.take() {
                        replica.update(grads, norm.as_ref(), rates);
                    }
                    Answer::Done
                }
            })
        })
    }

    /// A thread that answers orders by `work`.
    fn with(
        number: usize,
        device: &Device,
        config: &TrainingConfig,
        mut work: impl FnMut(Order) -> Result<Answer, TrainError> + Send + 'static,
    ) -> Result<Self, TrainError> {
        let (orders, told) = channel::<(u64, Order)>();
        let (say, answers) = channel();
        let name = format!("{number} ({device:?})");
        let thread_name = name.clone();
        let run = move || {
            for (ticket, order) in told {
                let answer = catch_unwind(AssertUnwindSafe(|| work(order)))
                    .unwrap_or_else(|panic| Err(failed(&thread_name, words(&*panic))));
                // Nobody listens: the training is over.
                if say.send((ticket, answer)).is_err() {
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
            patience: Duration::from_secs_f64(config.ddp_timeout),
            orders,
            answers,
            last: 0,
        })
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.last += 1;
        // If its thread is gone, the answer will say so.
        let _ = self.orders.send((self.last, order));
    }

    /// What it says to the last order.
    ///
    /// # Errors
    /// It failed, or says nothing for too long.
    fn answer(&mut self) -> Result<Answer, TrainError> {
        loop {
            let cause = match self.answers.recv_timeout(self.patience) {
                Ok((ticket, answer)) if ticket == self.last => return answer,
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => format!(
                    "it has said nothing for {} s (--ddp_timeout)",
                    self.patience.as_secs_f64()
                ),
                Err(RecvTimeoutError::Disconnected) => "its thread has ended".to_owned(),
            };
            return Err(failed(&self.name, cause));
        }
    }
}

/// Waits for all answers, then gives them, or the first failure among them.
pub(crate) fn answers(peers: &mut [Peer]) -> Result<Vec<Answer>, TrainError> {
    let all: Vec<_> = peers.iter_mut().map(Peer::answer).collect();
    all.into_iter().collect()
}

/// Refuses to go on with copies that have come apart.
///
/// # Errors
/// The norm of the summed gradients is another on some device.
pub(crate) fn ensure_alike(
    peers: &[Peer],
    first: f64,
    answers: &[Answer],
) -> Result<(), TrainError> {
    for (peer, answer) in peers.iter().zip(answers) {
        if let Answer::Norm(norm) = answer {
            let alike = (norm - first).abs() <= 1e-3 * first.abs();
            if !alike {
                let cause = format!(
                    "the norm of the same gradients is {norm} on it and {first} on the first device"
                );
                return Err(failed(&peer.name, cause));
            }
        }
    }
    Ok(())
}

/// The sum of all devices' gradients and losses in place of each one's own. What a device has no gradient of counts as 0.
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
    message(panic).unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn peer(
        seconds: f64,
        work: impl FnMut(Order) -> Result<Answer, TrainError> + Send + 'static,
    ) -> Peer {
        let config = TrainingConfig {
            ddp_timeout: seconds,
            ..TrainingConfig::lora(1e-3)
        };
        Peer::with(3, &Device::flex(), &config, work).expect("a thread")
    }

    fn update() -> Order {
        Order::Update(Rates {
            learning_rate: 0.0,
            mm_projector_lr: 0.0,
        })
    }

    #[test]
    fn a_device_that_panics_is_named_and_the_others_are_heard() {
        let mut peers = [
            peer(60.0, |_| panic!("CUDA_ERROR_ILLEGAL_ADDRESS")),
            peer(60.0, |_| Ok(Answer::Done)),
        ];
        peers.iter_mut().for_each(|peer| peer.order(update()));
        let error = answers(&mut peers).err().expect("a failure").to_string();
        assert!(
            error.contains("device 3 (") && error.contains("ILLEGAL_ADDRESS"),
            "{error}"
        );
        // Its thread lives: it answers again, and so do the others.
        peers.iter_mut().for_each(|peer| peer.order(update()));
        assert!(answers(&mut peers[1..]).is_ok() && answers(&mut peers[..1]).is_err());
    }

    #[test]
    fn a_silent_device_ends_the_step_and_its_late_answer_is_no_other_ones() {
        let (wake, woken) = channel();
        let mut first = true;
        let mut peers = [peer(0.2, move |_| {
            if std::mem::take(&mut first) {
                let _ = woken.recv();
                return Ok(Answer::Norm(1.0));
            }
            Ok(Answer::Done)
        })];
        peers[0].order(update());
        let began = Instant::now();
        let error = answers(&mut peers).err().expect("silence").to_string();
        assert!(error.contains("--ddp_timeout"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
        wake.send(()).expect("it listens");
        peers[0].patience = Duration::from_secs(60);
        peers[0].order(update());
        assert!(matches!(answers(&mut peers).as_deref(), Ok([Answer::Done])));
    }

    #[test]
    fn copies_that_come_apart_are_found() {
        let peers = [peer(60.0, |_| Ok(Answer::Done))];
        for (norm, alike) in [(2.0, true), (2.001, true), (2.1, false), (f64::NAN, false)] {
            let found = ensure_alike(&peers, 2.0, &[Answer::Norm(norm)]);
            assert_eq!(found.is_ok(), alike, "{norm}");
        }
    }
}
