//! What a load did.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{Layout, Problem};

/// Every tensor of a checkpoint and what became of it.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Where it came from.
    pub folder: PathBuf,
    /// Whose names it has.
    pub layout: Layout,
    /// Tensors used, with their file and stored number type.
    pub used: Vec<(String, PathBuf, String)>,
    /// Tensors not used, ignored buffers left out.
    pub unused: Vec<String>,
    /// Parameters that kept their initial value. Only a partial load has any.
    pub missing: Vec<String>,
    /// Everything that did not match, in a partial load.
    pub problems: Vec<Problem>,
    /// Bytes of the tensors used.
    pub bytes: u64,
    /// Parameters filled.
    pub parameters: u64,
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, _, dtype) in &self.used {
            *dtypes.entry(dtype).or_default() += 1;
        }
        let dtypes: Vec<String> = dtypes
            .into_iter()
            .map(|(dtype, count)| format!("{count} {dtype}"))
            .collect();
        write!(
            f,
            "{}: {:?}, {} parameters in {} tensors ({}), {:.1} MB",
            self.folder.display(),
            self.layout,
            self.parameters,
            self.used.len(),
            dtypes.join(", "),
            self.bytes as f64 / 1e6
        )?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
