//! Answers as JSON lines, in a file that a later run resumes, or to a stream.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, stdout},
    path::Path,
};

use anyhow::Context;
use gallery_gpt::{AnswersError, AnswersFile, WrittenBy, eval::EvalError};
use serde_json::{Map, Value};

/// A file or a stream of answers.
pub(crate) struct AnswerOutput {
    answers: AnswersFile,
    name: String,
}

impl AnswerOutput {
    /// Opens it: `-` is standard output. A path that is no regular file (`/dev/stdout` in a pipe) is written to and never read.
    ///
    /// # Errors
    /// It cannot be opened, or something else wrote what is in it.
    pub(crate) fn open(
        path: &Path,
        key: &'static str,
        written_by: WrittenBy,
    ) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let is_stream = path
            .metadata()
            .is_ok_and(|found| !found.is_file() && !found.is_dir());
        let answers = if path == Path::new("-") {
            AnswersFile::stream("standard output", stdout(), key, written_by)
        } else if is_stream {
            let stream = OpenOptions::new().write(true).open(path);
            let stream = stream.with_context(|| format!("cannot write {name}"))?;
            AnswersFile::stream(path, stream, key, written_by)
        } else {
            AnswersFile::resume(path, key, written_by)?
        };
        Ok(Self { answers, name })
    }

    /// Its path, as it was given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether something has its answer.
    pub(crate) fn has(&self, about: &Value) -> bool {
        self.answers.done(about).is_some()
    }

    /// All its answers.
    pub(crate) fn answers(&self) -> &AnswersFile {
        &self.answers
    }

    /// Writes an answer. Returns false if its reader has closed the pipe.
    ///
    /// # Errors
    /// The disk refuses it.
    pub(crate) fn push(&mut self, answer: Map<String, Value>) -> anyhow::Result<bool> {
        match self.answers.push(answer) {
            Err(AnswersError::File(EvalError::Write { source, .. }))
                if source.kind() == ErrorKind::BrokenPipe =>
            {
                Ok(false)
            }
            pushed => Ok(pushed.map(|()| true)?),
        }
    }
}
