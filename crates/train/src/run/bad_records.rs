//! Bad records that a run skips, up to a limit.

use std::{collections::HashSet, fs, path::PathBuf};

use gallery_gpt_data::BadRecord;
use serde::{Deserialize, Serialize};

use super::json_lines::append;
use crate::{OnBadRecord, TrainError};

/// The records that a run skips, and the file that lists them.
#[derive(Debug)]
pub(crate) struct BadRecords {
    list: PathBuf,
    /// Their indices in the data.
    indices: HashSet<usize>,
}

/// A line of the list.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    index: usize,
    id: String,
    cause: String,
}

impl BadRecords {
    /// An empty list; its file is made with the first record.
    pub(super) fn new(list: PathBuf) -> Self {
        Self {
            list,
            indices: HashSet::new(),
        }
    }

    /// Reads the list. Its last line may be incomplete: that record will be found again.
    pub(super) fn read(&mut self) {
        let text = fs::read_to_string(&self.list).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        self.indices = lines.map(|line: Line| line.index).collect();
    }

    pub(super) fn count(&self) -> usize {
        self.indices.len()
    }

    /// Skips a record and lists it, unless it is listed already.
    ///
    /// # Errors
    /// `policy` does not allow it, or the list cannot be written.
    pub(super) fn skip(
        &mut self,
        record: BadRecord,
        policy: OnBadRecord,
    ) -> Result<(), TrainError> {
        let OnBadRecord::Skip { max } = policy else {
            return Err(record.into());
        };
        if self.indices.insert(record.index) {
            let line = Line {
                index: record.index,
                id: record.id.clone(),
                cause: record.cause.to_string(),
            };
            append(&self.list, &line, true)?;
        }
        if self.count() > max {
            return Err(TrainError::TooManyBadRecords {
                count: self.count(),
                max,
                list: self.list.clone(),
                last: Box::new(record),
            });
        }
        Ok(())
    }
}
