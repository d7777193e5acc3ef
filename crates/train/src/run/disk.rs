//! Checks before the first step that the disk has room for everything that a run will write.

use std::path::Path;

use super::{RunFolder, TrainingCheckpoint, checkpoint::bytes_of};
use crate::TrainError;

/// Bytes of settings, curve and page.
const PAGES: u64 = 1 << 20;
/// Bytes of a step in both logs.
const LINES: u64 = 600;

/// The size of what a run keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Number of trained parameters, in f32.
    pub(crate) trained: u64,
    /// Parameters of the whole model if that is the result; 0 if the trained part is.
    pub(crate) result: u64,
    /// Checkpoints at a time.
    pub(crate) checkpoints: u64,
    /// Whether the best adapter is kept.
    pub(crate) best: bool,
    /// Steps that are logged.
    pub(crate) steps: u64,
}

impl Kept {
    /// Bytes on disk at the moment that needs the most.
    fn bytes(&self) -> u64 {
        let weights = 4 * self.trained;
        // With Adam's two moments.
        let checkpoint = 3 * weights;
        // A new one is complete before an old one is removed.
        let checkpoints = match self.checkpoints {
            0 => 0,
            kept => (kept + 1) * checkpoint,
        };
        let best = if self.best { 2 * weights } else { 0 };
        let result = if self.result > 0 {
            4 * self.result
        } else {
            weights
        };
        checkpoints + best + result + PAGES + LINES * self.steps
    }
}

/// Refuses to begin a run if the disk has no room for it.
///
/// # Errors
/// Less is free than the run will add to what is there.
pub(crate) fn ensure_room(run: &RunFolder, kept: Kept) -> Result<(), TrainError> {
    let there = TrainingCheckpoint::bytes(&run.checkpoints())
        + bytes_of(&run.best())
        + bytes_of(&run.adapter());
    let needed = kept.bytes().saturating_sub(there);
    match free(run.path()) {
        Some(free) if free < needed => Err(TrainError::DiskFull {
            folder: run.path().to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// Free bytes of the disk of a folder, if the system says so.
#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_kept_is_counted() {
        let run = Kept {
            trained: 1_000_000,
            result: 0,
            checkpoints: 2,
            best: true,
            steps: 100,
        };
        // Three checkpoints of 12 MB, the best twice, the adapter.
        assert_eq!(
            run.bytes() - PAGES - 100 * LINES,
            36_000_000 + 8_000_000 + 4_000_000
        );
        let alone = Kept {
            checkpoints: 0,
            best: false,
            result: 7_000_000_000,
            ..run
        };
        assert_eq!(alone.bytes() - PAGES - 100 * LINES, 28_000_000_000);
    }
}
