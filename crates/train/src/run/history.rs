//! The history of a run: its evaluations, the best of them, and the captions of its sample paintings.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json_lines::{append, keep_lines};
use crate::{CurvePoint, SampleLine, TrainError};

/// An evaluation on the validation records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// Steps done before it.
    pub step: usize,
    /// Mean loss per supervised token.
    pub loss: f64,
}

/// The evaluations of a run, and their file.
#[derive(Debug)]
pub(crate) struct Evaluations {
    file: PathBuf,
    lines: Vec<EvaluationLine>,
}

impl Evaluations {
    /// Those of a run folder; nothing is read yet.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            file: folder.join("evaluations.jsonl"),
            lines: Vec::new(),
        }
    }

    /// Reads those up to a step, and removes the later ones from the file.
    pub(super) fn rewind(&mut self, step: usize) -> Result<(), TrainError> {
        self.lines = keep_lines(&self.file, |line: &EvaluationLine| line.step <= step)?;
        Ok(())
    }

    /// Adds one.
    ///
    /// # Errors
    /// The line cannot be written.
    pub(crate) fn push(&mut self, line: EvaluationLine) -> Result<(), TrainError> {
        self.lines.push(line);
        append(&self.file, &line, true)
    }

    /// The evaluation with the lowest loss (the earliest on ties), and its index.
    fn best_with_index(&self) -> Option<(usize, EvaluationLine)> {
        let lines = self.lines.iter().copied().enumerate();
        lines.min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss))
    }

    /// The evaluation with the lowest loss, the earliest on ties.
    pub(crate) fn best(&self) -> Option<EvaluationLine> {
        self.best_with_index().map(|(_, best)| best)
    }

    /// Evaluations after the best one.
    pub(super) fn since_best(&self) -> usize {
        self.best_with_index()
            .map_or(0, |(index, _)| self.lines.len() - 1 - index)
    }

    /// Their losses.
    pub(super) fn losses(&self) -> Vec<CurvePoint> {
        let points = self.lines.iter();
        let points = points.map(|&EvaluationLine { step, loss }| CurvePoint { step, loss });
        points.collect()
    }
}

/// The captions of the sample paintings in the course of a run, and their file.
#[derive(Debug)]
pub(crate) struct SampleHistory {
    file: PathBuf,
    lines: Vec<SampleLine>,
}

impl SampleHistory {
    /// Those of a run folder; nothing is read yet.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            file: folder.join("samples.jsonl"),
            lines: Vec::new(),
        }
    }

    /// Reads those up to a step, and removes the later ones from the file.
    pub(super) fn rewind(&mut self, step: usize) -> Result<(), TrainError> {
        self.lines = keep_lines(&self.file, |line: &SampleLine| line.step <= step)?;
        Ok(())
    }

    /// Adds those of a step.
    ///
    /// # Errors
    /// The line cannot be written.
    pub(crate) fn push(&mut self, line: SampleLine) -> Result<(), TrainError> {
        append(&self.file, &line, true)?;
        self.lines.push(line);
        Ok(())
    }

    /// Whether there are captions of a step.
    pub(crate) fn has(&self, step: usize) -> bool {
        self.lines.iter().any(|line| line.step == step)
    }

    pub(super) fn lines(&self) -> &[SampleLine] {
        &self.lines
    }
}
