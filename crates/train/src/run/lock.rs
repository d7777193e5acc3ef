//! The lock of a run folder: one process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{TrainError, error::write_error};

/// Its name in a run folder. The file stays; what counts is the system's lock on it, which is released when a process ends, however it
/// ends.
pub(super) const LOCK: &str = "lock";

/// The lock of a run folder, held until this is dropped.
#[derive(Debug)]
pub(super) struct RunLock(File);

/// The process that holds the lock, for messages.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    /// In seconds since 1970.
    since: u64,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl RunLock {
    /// Locks a folder.
    ///
    /// # Errors
    /// Another process holds the lock, or its file cannot be written.
    pub(super) fn take(run: &Path) -> Result<Self, TrainError> {
        let path = run.join(LOCK);
        let failed = write_error(&path);
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let mut file = open.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let holder: Option<Holder> = serde_json::from_str(&text).ok();
                return Err(TrainError::Locked {
                    run: run.to_owned(),
                    pid: holder.as_ref().map(|holder| holder.pid),
                    seconds: holder.map_or(0, |holder| now().saturating_sub(holder.since)),
                });
            }
            // A file system without locks: the folder is used without one.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let holder = Holder {
            pid: std::process::id(),
            since: now(),
        };
        let text = serde_json::to_string(&holder).map_err(|error| failed(error.into()))?;
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(failed)?;
        Ok(Self(file))
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // The lock itself is released with the file's handle.
        let _ = self.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::take(folder.path()).unwrap();
        let second = RunLock::take(folder.path()).unwrap_err();
        let pid = std::process::id();
        assert!(
            matches!(second, TrainError::Locked { pid: Some(found), seconds: 0..60, .. } if found == pid),
            "{second}"
        );
        assert!(second.to_string().contains(&pid.to_string()), "{second}");
        drop(first);
        assert_eq!(std::fs::read(folder.path().join(LOCK)).unwrap(), b"");
        RunLock::take(folder.path()).unwrap();
    }
}
