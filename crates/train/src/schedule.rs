//! Cosine with linear warm-up (`get_cosine_schedule_with_warmup` of `transformers`).

/// Scale of the peak rate at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CosineSchedule {
    /// Steps of the whole training.
    pub total_steps: usize,
    /// Steps over which the scale rises; the first step has scale 0.
    pub warmup_steps: usize,
}

impl CosineSchedule {
    /// A schedule whose warm-up takes `ceil(warmup_ratio * total_steps)` steps.
    #[must_use]
    pub fn new(total_steps: usize, warmup_ratio: f64) -> Self {
        Self {
            total_steps,
            warmup_steps: (warmup_ratio * total_steps as f64).ceil() as usize,
        }
    }

    /// The scale at a zero-based step.
    #[must_use]
    pub fn scale(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let left = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = (step - self.warmup_steps) as f64 / left as f64;
        (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_then_falls() {
        let schedule = CosineSchedule::new(100, 0.03);
        assert_eq!(schedule.warmup_steps, 3);
        assert_eq!(schedule.scale(0), 0.0);
        assert_eq!(schedule.scale(3), 1.0);
        assert!((1..100).all(|s| s <= 3 || schedule.scale(s) < schedule.scale(s - 1)));
        assert!(schedule.scale(100).abs() < 1e-12);
    }
}
