//! A training record, whatever form it was written in.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role};
use image::RgbImage;

use crate::{RecordError, RecordLength};

/// A conversation about a picture, about several, or about none.
///
/// Read from a file ([`crate::PaintingForm`]) or made by a program:
///
/// ```
/// use gallery_gpt_data::{RecordPicture, Record};
/// use gallery_gpt_text::Conversation;
///
/// let talk = Conversation::question("<image>\nDescribe the light.").answer("It is warm.");
/// let record = Record::new("mine", vec![RecordPicture::from("images/0.png")], talk);
/// assert!(record.ensure_marks().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Zero-based position in the file.
    pub index: usize,
    /// Its id, `identity_0` and so on.
    pub id: String,
    /// The pictures, in the order of the `<image>` marks.
    pub pictures: Vec<RecordPicture>,
    /// What is asked and answered.
    pub conversation: Conversation,
    /// How it was written.
    pub dialect: Dialect,
}

impl Record {
    /// A record that no file holds, at position 0.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        pictures: Vec<RecordPicture>,
        conversation: Conversation,
    ) -> Self {
        Self {
            index: 0,
            id: id.into(),
            pictures,
            conversation,
            dialect: Dialect::Program,
        }
    }

    /// The length LLaVA groups by: white-space separated words of all turns, and whether there is a picture.
    #[must_use]
    pub fn length(&self) -> RecordLength {
        let turns = self.conversation.turns.iter();
        RecordLength {
            words: turns.map(|turn| turn.text.split_whitespace().count()).sum(),
            has_picture: !self.pictures.is_empty(),
        }
    }

    /// Whether the questions have as many `<image>` marks as there are pictures.
    ///
    /// # Errors
    /// They have not.
    pub fn ensure_marks(&self) -> Result<(), RecordError> {
        // A first turn of the model is no part of the training.
        let turns = self.conversation.turns.iter();
        let turns = turns.skip(usize::from(self.answers_first()));
        let marks = turns
            .map(|turn| turn.text.matches(IMAGE_TOKEN).count())
            .sum();
        let pictures = self.pictures.len();
        if marks == pictures {
            return Ok(());
        }
        Err(RecordError::Marks { marks, pictures })
    }

    fn answers_first(&self) -> bool {
        let first = self.conversation.turns.first();
        first.is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// All that it is.
    pub fn kinds(&self) -> impl Iterator<Item = RecordKind> + use<> {
        let pictures = match self.pictures.len() {
            0 => RecordKind::TextOnly,
            1 => RecordKind::OnePicture,
            _ => RecordKind::SeveralPictures,
        };
        let own_system = self.conversation.system.is_some();
        [
            Some(pictures),
            own_system.then_some(RecordKind::OwnSystem),
            self.answers_first().then_some(RecordKind::AnswersFirst),
            Some(RecordKind::Written(self.dialect)),
        ]
        .into_iter()
        .flatten()
    }
}

/// Where a picture comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum RecordPicture {
    /// A file, as its record names it: [`crate::PictureFolder::find`] tells which.
    File(String),
    /// A picture file in memory: PNG, JPEG and so on.
    Bytes(Arc<[u8]>),
    /// Pixels.
    Pixels(Arc<RgbImage>),
}

impl RecordPicture {
    /// Its name, or what it is.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::File(name) => name.into(),
            Self::Bytes(bytes) => format!("a picture of {} bytes in memory", bytes.len()).into(),
            Self::Pixels(pixels) => {
                let (width, height) = pixels.dimensions();
                format!("a picture of {width}x{height} pixels in memory").into()
            }
        }
    }

    /// What tells it from another: the name of a file, or the bytes in memory.
    #[must_use]
    pub fn identity(&self) -> &[u8] {
        match self {
            Self::File(name) => name.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Pixels(pixels) => pixels.as_raw(),
        }
    }
}

impl From<&str> for RecordPicture {
    fn from(name: &str) -> Self {
        Self::File(name.to_owned())
    }
}

impl fmt::Debug for RecordPicture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(formatter, "File({name:?})"),
            memory => formatter.write_str(&memory.name()),
        }
    }
}

/// How a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// `conversations` with `from`, human or gpt, and `value`: PaintingForm's and LLaVA's.
    Llava,
    /// The same with other names of roles or keys.
    ShareGpt,
    /// `messages` with `role` and `content`.
    Messages,
    /// The same with content in parts.
    Parts,
    /// `instruction`, `input` and `output`, or `query` and `response`.
    Instruction,
    /// Not read from a file.
    Program,
}

/// Something a record is, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordKind {
    /// One picture.
    OnePicture,
    /// Several pictures.
    SeveralPictures,
    /// No picture.
    TextOnly,
    /// A system text of its own in the place of the template's.
    OwnSystem,
    /// A first turn of the model, which is left out.
    AnswersFirst,
    /// How it was written.
    Written(Dialect),
}

impl RecordKind {
    /// Whether PaintingForm's records are of this kind.
    #[must_use]
    pub fn is_usual(self) -> bool {
        matches!(self, Self::OnePicture | Self::Written(Dialect::Llava))
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OnePicture => "with one picture",
            Self::SeveralPictures => "with several pictures",
            Self::TextOnly => "text only",
            Self::OwnSystem => "with a system text of their own",
            Self::AnswersFirst => "with a first turn of the model, which is left out",
            Self::Written(Dialect::Llava) => "as `conversations` of human and gpt",
            Self::Written(Dialect::ShareGpt) => "as `conversations` in other words",
            Self::Written(Dialect::Messages) => "as `messages`",
            Self::Written(Dialect::Parts) => "as `messages` in parts",
            Self::Written(Dialect::Instruction) => "as an instruction and its answer",
            Self::Written(Dialect::Program) => "not from a file",
        })
    }
}

/// How many records are of each kind, and the position in the list of the first of them.
#[must_use]
pub fn count_kinds<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeMap<RecordKind, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for (position, record) in records.into_iter().enumerate() {
        for kind in record.kinds() {
            counts.entry(kind).or_insert((0, position)).0 += 1;
        }
    }
    counts
}
