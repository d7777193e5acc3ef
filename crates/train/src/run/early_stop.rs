//! Early stopping.

use super::{EvaluationLine, history::Evaluations};

/// Ends a training whose validation loss no longer improves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlyStop {
    /// Evaluations without improvement after which a training stops; `None` never stops early.
    patience: Option<usize>,
}

impl EarlyStop {
    pub(crate) fn new(patience: Option<usize>) -> Self {
        Self { patience }
    }

    /// The best evaluation, if `patience` evaluations without improvement have followed it.
    pub(crate) fn check(self, evaluations: &Evaluations) -> Option<EvaluationLine> {
        let patience = self.patience?;
        let best = evaluations.best()?;
        (evaluations.since_best() >= patience).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_after_as_many_evaluations_without_improvement() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut evaluations = Evaluations::new(folder.path());
        let stop = EarlyStop::new(Some(2));
        // The second of two equal losses is no improvement, so the patience counts from the first.
        let losses = [3.0, 2.0, 2.0, 1.0, 1.5, 1.0];
        let stops = [None, None, None, None, None, Some(4)];
        for (nth, (loss, expected)) in losses.into_iter().zip(stops).enumerate() {
            let step = nth + 1;
            evaluations
                .push(EvaluationLine { step, loss })
                .expect("writable");
            let best = stop.check(&evaluations).map(|best| best.step);
            assert_eq!(best, expected, "step {step}");
            assert!(EarlyStop::new(None).check(&evaluations).is_none());
        }
    }
}
