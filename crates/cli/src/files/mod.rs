//! What several commands read and write: named pictures and files of answers.

pub(crate) mod answer_output;
pub(crate) mod pictures;

pub(crate) use answer_output::AnswerOutput;
