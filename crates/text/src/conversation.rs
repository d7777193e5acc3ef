//! Conversations and the prompt templates that format them (LLaVA's `conversation.py`, and Qwen's ChatML).

/// The speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user (`human` in the data).
    User,
    /// The model (`gpt` in the data).
    Assistant,
}

impl Role {
    /// The role's name in PaintingForm's records.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Self::User => "human",
            Self::Assistant => "gpt",
        }
    }
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its speaker.
    pub role: Role,
    /// Its text, with an `<image>` placeholder for each picture.
    pub text: String,
}

/// A sequence of turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The system prompt, instead of the template's own.
    pub system: Option<String>,
    /// The turns.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// A conversation of one question that waits for its answer.
    #[must_use]
    pub fn question(text: impl Into<String>) -> Self {
        Self::default().ask(text)
    }

    /// Sets the system prompt. The model was trained with the template's own and may ignore
    /// another.
    #[must_use]
    pub fn with_system(mut self, text: impl Into<String>) -> Self {
        self.system = Some(text.into());
        self
    }

    /// Adds a turn of the user.
    #[must_use]
    pub fn ask(mut self, text: impl Into<String>) -> Self {
        self.turns.push(Turn {
            role: Role::User,
            text: text.into(),
        });
        self
    }

    /// Adds a turn of the assistant.
    #[must_use]
    pub fn answer(mut self, text: impl Into<String>) -> Self {
        self.turns.push(Turn {
            role: Role::Assistant,
            text: text.into(),
        });
        self
    }
}
