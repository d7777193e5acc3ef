//! The records of a training, checked before its first step.

use std::path::{Path, PathBuf};

use super::FinetuneError;
use crate::{
    data::{BadRecord, Batcher, PaintingForm, Record, RecordSize, RepeatedId},
    train::OnBadRecord,
};

/// The records of a training: the usable ones with their sizes, and the others with their causes.
#[derive(Debug)]
pub struct TrainingRecords {
    path: PathBuf,
    batcher: Batcher,
    records: Vec<Record>,
    sizes: Vec<RecordSize>,
    bad: Vec<BadRecord>,
    repeated: Vec<RepeatedId>,
}

impl TrainingRecords {
    /// Checks every record of a set: that it has a label mask, fits the context, and that its
    /// pictures can be opened. `path` names the set in messages.
    #[must_use]
    pub fn check(path: impl AsRef<Path>, set: PaintingForm, batcher: Batcher) -> Self {
        let repeated = set.repeated_ids();
        let mut bad = set.bad;
        let checked = batcher.check(set.records);
        bad.extend(checked.bad);
        bad.sort_by_key(|record| record.index);
        Self {
            path: path.as_ref().to_owned(),
            batcher,
            records: checked.records,
            sizes: checked.sizes,
            bad,
            repeated,
        }
    }

    /// Refuses bad records where the policy is to fail, and a set without a usable record.
    ///
    /// # Errors
    /// The set is refused; the error names the first bad record.
    pub fn allowed_by(mut self, policy: OnBadRecord) -> Result<Self, FinetuneError> {
        let fails = policy == OnBadRecord::Fail && !self.bad.is_empty();
        if !fails && !self.records.is_empty() {
            return Ok(self);
        }
        let (path, bad) = (self.path, self.bad.len());
        let first = (bad > 0).then(|| Box::new(self.bad.swap_remove(0)));
        Err(match first {
            Some(first) if fails => FinetuneError::BadRecords {
                path,
                bad,
                total: bad + self.records.len(),
                first,
            },
            first => FinetuneError::NothingUsable { path, first },
        })
    }

    /// The usable records.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The size of each usable record.
    #[must_use]
    pub fn sizes(&self) -> &[RecordSize] {
        &self.sizes
    }

    /// The records that cannot be used, in the order of the file.
    #[must_use]
    pub fn bad(&self) -> &[BadRecord] {
        &self.bad
    }

    /// The ids that several usable records have: no error, but often a set joined with itself.
    #[must_use]
    pub fn repeated_ids(&self) -> &[RepeatedId] {
        &self.repeated
    }

    /// Number of usable records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The batcher that they were checked with.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batcher
    }

    /// Takes the bad records out.
    pub(super) fn take_bad(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.bad)
    }

    /// The usable records, and the first bad one with the name of the set.
    pub(super) fn into_parts(self) -> (Vec<Record>, Option<(PathBuf, BadRecord)>) {
        let first = self.bad.into_iter().next();
        (self.records, first.map(|bad| (self.path, bad)))
    }
}
