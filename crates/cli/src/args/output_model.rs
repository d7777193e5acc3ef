//! What a command that writes a model or an adapter needs to know: where, in which dtype, in files of which size.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use gallery_gpt::{
    checkpoint::{CheckpointError, Destination},
    prelude::*,
};

/// The folder to write, and how.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct OutputModel {
    /// Folder to write; one that holds anything other than what was written there before is refused.
    #[arg(long, visible_alias = "save_model_path")]
    pub(crate) output_dir: PathBuf,
    /// Replace the folder, whatever it holds. A folder that is read is never replaced.
    #[arg(long)]
    overwrite: bool,
    /// Dtype of the files: f32, f16 or bf16 [default: that of the base].
    #[arg(long, help_heading = "Output")]
    pub(crate) dtype: Option<TensorDtype>,
    /// Largest file: a number of bytes, or a size such as 5GB or 500MiB.
    #[arg(long, default_value = "5GB", value_parser = shard_size)]
    pub(crate) max_shard_size: u64,
}

impl OutputModel {
    /// Where to write, apart from what is read.
    pub(crate) fn destination<'a>(
        &self,
        inputs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<Destination, CheckpointError> {
        let destination = Destination::new(&self.output_dir)
            .overwriting(self.overwrite)
            .apart_from(inputs);
        destination.check()?;
        Ok(destination)
    }
}

/// Bytes of a size as transformers takes it: `5GB`, `500MiB`, or a number of bytes.
fn shard_size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse()?;
    match size.as_u64() {
        0 => Err("expected at least one byte".to_owned()),
        bytes => Ok(bytes),
    }
}
