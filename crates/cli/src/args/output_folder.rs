//! The folder that a program writes, kept apart from what it reads.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use gallery_gpt::checkpoint::{CheckpointError, Destination};

/// The folder to write.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct OutputFolder {
    /// Folder to write; one that holds anything else than what was written there before is refused.
    #[arg(long, visible_alias = "save_model_path")]
    pub(crate) output_dir: PathBuf,
    /// Replaces the folder whatever it holds. A folder that is read is never written.
    #[arg(long)]
    overwrite: bool,
}

impl OutputFolder {
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

/// Bytes of a size as transformers take it: `5GB`, `500MiB`, or a number of bytes.
pub(crate) fn shard_size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse()?;
    match size.as_u64() {
        0 => Err("expected at least one byte".to_owned()),
        bytes => Ok(bytes),
    }
}
