//! What several commands read and write: named pictures, files of answers, small pictures for pages.

pub(crate) mod answer_output;
pub(crate) mod pictures;
mod thumbnail;

pub(crate) use answer_output::AnswerOutput;
pub(crate) use thumbnail::thumbnail;
