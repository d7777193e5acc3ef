//! Training records, independent of the format they were read from.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use gallery_gpt_text::{Conversation, IMAGE_TOKEN, Role};
use image::RgbImage;

use crate::{BadRecord, RecordError, RecordLength};

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
/// assert!(record.ensure_placeholders().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its index in the file, from 0.
    pub index: usize,
    /// Its id, such as `identity_0`; `none` if it has none.
    pub id: String,
    /// The pictures, in the order of the `<image>` placeholders.
    pub pictures: Vec<RecordPicture>,
    /// The questions and answers.
    pub conversation: Conversation,
    /// The format it was read from.
    pub format: RecordFormat,
}

impl Record {
    /// A record that is not read from a file, with index 0.
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
            format: RecordFormat::InMemory,
        }
    }

    /// The length that LLaVA groups records by.
    #[must_use]
    pub fn length(&self) -> RecordLength {
        let turns = self.conversation.turns.iter();
        RecordLength {
            words: turns.map(|turn| turn.text.split_whitespace().count()).sum(),
            has_picture: !self.pictures.is_empty(),
        }
    }

    /// Checks that the questions have one `<image>` placeholder for each picture.
    ///
    /// # Errors
    /// They have more or fewer.
    pub fn ensure_placeholders(&self) -> Result<(), RecordError> {
        // An answer before the first question is left out of training.
        let turns = self.conversation.turns.iter();
        let turns = turns.skip(usize::from(self.answers_first()));
        let placeholders = turns
            .map(|turn| turn.text.matches(IMAGE_TOKEN).count())
            .sum();
        let pictures = self.pictures.len();
        if placeholders == pictures {
            return Ok(());
        }
        Err(RecordError::Placeholders {
            placeholders,
            pictures,
        })
    }

    /// Whether an answer comes before the first question.
    fn answers_first(&self) -> bool {
        let first = self.conversation.turns.first();
        first.is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// The kinds it belongs to, as [`count_kinds`] counts them.
    pub fn kinds(&self) -> impl Iterator<Item = RecordKind> + use<> {
        let pictures = match self.pictures.len() {
            0 => RecordKind::TextOnly,
            1 => RecordKind::OnePicture,
            _ => RecordKind::SeveralPictures,
        };
        let own_prompt = self.conversation.system.is_some();
        [
            Some(pictures),
            own_prompt.then_some(RecordKind::SystemPrompt),
            self.answers_first().then_some(RecordKind::AnswersFirst),
            Some(RecordKind::Format(self.format)),
        ]
        .into_iter()
        .flatten()
    }
}

impl BadRecord {
    /// A record and why it cannot be used.
    #[must_use]
    pub fn of(record: &Record, cause: RecordError) -> Self {
        Self {
            index: record.index,
            id: record.id.clone(),
            cause,
        }
    }
}

/// Where a picture comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum RecordPicture {
    /// A file, by the name in the record ([`crate::PictureFolder::find`]).
    File(String),
    /// The contents of a picture file, such as a PNG or a JPEG.
    Bytes(Arc<[u8]>),
    /// A decoded picture.
    Pixels(Arc<RgbImage>),
}

impl RecordPicture {
    /// Its file name; a description if it is in memory. For messages.
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

    /// Bytes that identify it: the name of a file, or the data in memory.
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

/// The format of a record in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordFormat {
    /// `conversations` with `from`, human or gpt, and `value`: PaintingForm's and LLaVA's.
    Llava,
    /// `ShareGPT`: `conversations` with other roles or keys.
    ShareGpt,
    /// OpenAI's `messages` with `role` and `content`.
    Messages,
    /// `messages` whose content is a list of text and image parts.
    Parts,
    /// Qwen-VL's: `conversations` with `from`, user or assistant, and `value`, in which `<img>PATH</img>` stands for a picture. The pictures are
    /// taken out, and a placeholder is left for each.
    QwenVl,
    /// `instruction`, `input` and `output`, or `query` and `response`.
    Instruction,
    /// None: the record was made by a program.
    InMemory,
}

/// A kind of records, to count them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordKind {
    /// One picture.
    OnePicture,
    /// Several pictures.
    SeveralPictures,
    /// No picture.
    TextOnly,
    /// A system prompt of its own, instead of the template's.
    SystemPrompt,
    /// An answer before the first question, which is left out.
    AnswersFirst,
    /// The format it was read from.
    Format(RecordFormat),
}

impl RecordKind {
    /// Whether PaintingForm has records of this kind only.
    #[must_use]
    pub fn is_painting_form(self) -> bool {
        matches!(self, Self::OnePicture | Self::Format(RecordFormat::Llava))
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OnePicture => "with one picture",
            Self::SeveralPictures => "with several pictures",
            Self::TextOnly => "text only",
            Self::SystemPrompt => "with their own system prompt",
            Self::AnswersFirst => "with an answer before the first question, which is left out",
            Self::Format(RecordFormat::Llava) => "as `conversations` of human and gpt",
            Self::Format(RecordFormat::ShareGpt) => "as `conversations` with other roles or keys",
            Self::Format(RecordFormat::Messages) => "as `messages`",
            Self::Format(RecordFormat::Parts) => "as `messages` with content parts",
            Self::Format(RecordFormat::QwenVl) => "as Qwen-VL's, with `<img>` in the text",
            Self::Format(RecordFormat::Instruction) => "as an instruction and its answer",
            Self::Format(RecordFormat::InMemory) => "not from a file",
        })
    }
}

/// Number of records of each kind, and the position of the first of them in the list.
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
