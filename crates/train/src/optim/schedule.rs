//! The learning-rate schedule, as in transformers' `get_scheduler`.

use crate::{SchedulerType, TrainingConfig};

/// Factor of the peak learning rate at each step: a linear warm-up from 0, then the schedule of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The schedule after the warm-up.
    pub kind: SchedulerType,
    /// Steps of the whole training.
    pub total_steps: usize,
    /// Steps of the warm-up; the first step has factor 0.
    pub warmup_steps: usize,
}

impl Schedule {
    /// A schedule whose warm-up takes `ceil(warmup_ratio * total_steps)` steps.
    #[must_use]
    pub fn new(kind: SchedulerType, total_steps: usize, warmup_ratio: f64) -> Self {
        Self {
            kind,
            total_steps,
            warmup_steps: match kind {
                SchedulerType::Constant => 0,
                _ => (warmup_ratio * total_steps as f64).ceil() as usize,
            },
        }
    }

    /// The factor at a zero-based step.
    #[must_use]
    pub fn scale(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let left = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = (step - self.warmup_steps) as f64 / left as f64;
        match self.kind {
            SchedulerType::Cosine => {
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            SchedulerType::Linear => (1.0 - progress).max(0.0),
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
        }
    }
}

/// Learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// That of everything except the projector.
    pub(crate) learning_rate: f64,
    /// That of the projector.
    pub(crate) mm_projector_lr: f64,
}

impl Rates {
    /// The rates at a zero-based step.
    pub(crate) fn at(step: usize, schedule: &Schedule, config: &TrainingConfig) -> Self {
        let scale = schedule.scale(step);
        Self {
            learning_rate: config.learning_rate * scale,
            mm_projector_lr: config.mm_projector_lr.unwrap_or(config.learning_rate) * scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_then_falls() {
        for kind in [SchedulerType::Cosine, SchedulerType::Linear] {
            let schedule = Schedule::new(kind, 100, 0.03);
            assert_eq!(schedule.warmup_steps, 3);
            assert_eq!(schedule.scale(0), 0.0);
            assert_eq!(schedule.scale(3), 1.0);
            assert!((1..100).all(|s| s <= 3 || schedule.scale(s) < schedule.scale(s - 1)));
            assert!(schedule.scale(100).abs() < 1e-12);
        }
        let linear = Schedule::new(SchedulerType::Linear, 100, 0.0);
        assert_eq!(linear.scale(25), 0.75);
    }

    #[test]
    fn a_constant_stays() {
        let warm = Schedule::new(SchedulerType::ConstantWithWarmup, 100, 0.03);
        let scales = [0, 1, 3, 99].map(|step| warm.scale(step));
        assert_eq!(scales, [0.0, 1.0 / 3.0, 1.0, 1.0]);
        let constant = Schedule::new(SchedulerType::Constant, 100, 0.03);
        assert_eq!([0, 99].map(|step| constant.scale(step)), [1.0, 1.0]);
    }
}
