//! Errors of tokenizer files and of conversations.

use std::path::PathBuf;

use crate::printable;

/// A tokenizer file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("cannot read tokenizer {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder has no tokenizer file.
    #[error(
        "no tokenizer in {folder}: expected `tokenizer.model`, `tokenizer.json` or `qwen.tiktoken` there"
    )]
    NotFound {
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// The file is not what its name says.
    #[error("{path} is not a {expected}: {found}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The file asks for an unsupported setting, without which its ids would be wrong.
    #[error(
        "{path} asks for {setting}, which is not supported: the ids would be wrong; a LLaMA tokenizer has none of it"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: String,
    },
    /// The file is a Git LFS pointer.
    #[error(
        "{path} is a Git LFS pointer, the file itself was not downloaded; run `git lfs pull` where it was cloned"
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A token that the model has no embedding for.
    #[error(
        "{path}: `{token}` has id {id}, but the model's embedding has {rows} rows; take the tokenizer that belongs to the model, or add the rows"
    )]
    NoRow {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A token that every LLaMA vocabulary has is missing.
    #[error("{path} has no token `{token}`, which a LLaMA vocabulary must have")]
    MissingToken {
        /// The file.
        path: PathBuf,
        /// The token.
        token: String,
    },
    /// A text could not be encoded.
    #[error("cannot encode the text {text:?}: {reason}")]
    Encode {
        /// The start of the text.
        text: String,
        /// Why.
        reason: String,
    },
    /// Ids of a picture that the original would not read, or could not write.
    #[error("ids of a picture: {reason}")]
    PictureIds {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A vocabulary could not be learned.
    #[error("cannot train a tokenizer: {reason}")]
    Train {
        /// The library's reason.
        reason: String,
    },
    /// A tokenizer could not be written.
    #[error("cannot write tokenizer {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A text whose `<img>PATH</img>` tags cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureTagError {
    /// A tag is not closed before the next one, or at all.
    #[error(
        "`<img>` without `</img>` before `{}`; close it, or remove it if no picture is meant",
        printable(start)
    )]
    Unclosed {
        /// The start of the text after it.
        start: String,
    },
    /// A tag is closed that was not opened.
    #[error("`</img>` without `<img>`; remove it, or write `<img>PATH</img>`")]
    Unopened,
    /// There is nothing between the tags.
    #[error("no path between `<img>` and `</img>`; write `<img>PATH</img>`")]
    NoPath,
    /// A path contains a tag.
    #[error("the path of a picture contains `{tag}`; rename the file")]
    TagInPath {
        /// The tag.
        tag: &'static str,
    },
    /// A path is longer than the original can read.
    #[error(
        "the path `{}` has {bytes} bytes, more than {limit}; name the picture relative to the picture folder, or rename it",
        printable(path)
    )]
    LongPath {
        /// The path.
        path: String,
        /// Its bytes, normalized.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
}

/// A conversation that cannot be encoded. Callers add which record it is in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversationError {
    /// There is no turn.
    #[error("the conversation is empty; expected a question and an answer")]
    Empty,
    /// Two turns of the same role in a row.
    #[error("turn {turn} is from `{found}`, expected `{expected}`: the roles must alternate")]
    Roles {
        /// The turn, from 0.
        turn: usize,
        /// The role expected.
        expected: &'static str,
        /// The role found.
        found: &'static str,
    },
    /// The last turn is a question.
    #[error("turn {turn} has no answer: the conversation must end with a turn of the assistant")]
    Unanswered {
        /// The turn of the question, from 0.
        turn: usize,
    },
    /// A turn without text.
    #[error("turn {turn} has no text")]
    EmptyTurn {
        /// The turn, from 0.
        turn: usize,
    },
    /// A turn contains text that the tokenizer or the template would interpret.
    #[error("turn {turn} contains `{text}`, which {why}; remove it from the text")]
    ReservedText {
        /// The turn, from 0.
        turn: usize,
        /// The text.
        text: String,
        /// How it would be interpreted.
        why: &'static str,
    },
    /// The system prompt contains text that the tokenizer or the template would interpret.
    #[error("the system prompt contains `{text}`, which {why}; remove it from the text")]
    ReservedInSystemPrompt {
        /// The text.
        text: String,
        /// How it would be interpreted.
        why: &'static str,
    },
    /// A system prompt for a template without one.
    #[error(
        "template `{template}` has no system prompt; remove that of the conversation, or train with `vicuna_v1`"
    )]
    NoSystemPrompt {
        /// The template.
        template: &'static str,
    },
    /// A question without a picture, for a template that drops the text of questions.
    #[error(
        "turn {turn} has no <image>, and template `{template}` drops the text of questions; train with `vicuna_v1`"
    )]
    NothingKept {
        /// The turn, from 0.
        turn: usize,
        /// The template.
        template: &'static str,
    },
    /// A token crosses the boundary of an answer, so that the label mask would be wrong.
    #[error(
        "token {token:?} of turn {turn} crosses the boundary of the answer: the label mask would be wrong"
    )]
    Misaligned {
        /// The turn, from 0.
        turn: usize,
        /// The token's text.
        token: String,
    },
    /// The template has no label mask, only prompts.
    #[error("template `{template}` has no label mask; train with `vicuna_v1` or `plain`")]
    NotTrainable {
        /// The template.
        template: &'static str,
    },
    /// The template was not made for the tokenizer.
    #[error(
        "template `{template}` does not belong to the tokenizer, which is {tokenizer}'s; use template `{instead}`, or the model that the template belongs to"
    )]
    ForeignTemplate {
        /// The template.
        template: &'static str,
        /// Whose tokenizer it is.
        tokenizer: &'static str,
        /// A template that belongs to it.
        instead: &'static str,
    },
    /// The text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
