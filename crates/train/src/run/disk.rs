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
    ensure_free(run.path(), needed, free(run.path()))
}

/// Refuses a folder on a disk with less than `needed` bytes free; what the system does not tell is believed to be enough.
fn ensure_free(folder: &Path, needed: u64, free: Option<u64>) -> Result<(), TrainError> {
    match free {
        Some(free) if free < needed => Err(TrainError::DiskFull {
            folder: folder.to_owned(),
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
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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

    #[test]
    fn a_disk_with_less_room_than_a_run_needs_is_refused() {
        let folder = Path::new("runs/monet");
        let error = ensure_free(folder, 48_000_000, Some(47_999_999)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "runs/monet is on a disk with 48.0 MB free, but the run needs up to 48.0 MB there; make room, or keep fewer checkpoints (save_total_limit)"
        );
        assert!(
            matches!(
                error,
                TrainError::DiskFull {
                    needed: 48_000_000,
                    free: 47_999_999,
                    ..
                }
            ),
            "{error:?}"
        );
        ensure_free(folder, 48_000_000, Some(48_000_000)).unwrap();
        ensure_free(folder, 48_000_000, None).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn what_a_run_has_written_needs_no_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path().join("run")).unwrap();
        let free = free(run.path()).unwrap();
        // A result of 4 bytes a parameter that just does not fit, on a disk that others may fill or free by a gigabyte meanwhile.
        let kept = Kept {
            trained: 0,
            result: (free + (1 << 30)) / 4,
            checkpoints: 0,
            best: false,
            steps: 0,
        };
        let error = ensure_room(&run, kept).unwrap_err();
        assert!(
            matches!(&error, TrainError::DiskFull { folder, .. } if folder == run.path()),
            "{error:?}"
        );
        // A sparse file takes no room, and counts as written.
        std::fs::create_dir_all(run.adapter()).unwrap();
        let file = std::fs::File::create(run.adapter().join("adapter_model.safetensors")).unwrap();
        file.set_len(3 << 30).unwrap();
        ensure_room(&run, kept).unwrap();
    }
}
