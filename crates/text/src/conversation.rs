//! Conversations and the prompt templates that format them (LLaVA's `conversation.py`).

use std::str::FromStr;

use crate::UnknownName;

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

/// How a template separates its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The same separator after every part.
    Single {
        /// The separator.
        sep: &'static str,
    },
    /// One separator after the system prompt and the user, another after the assistant.
    Two {
        /// After the system prompt and after the user.
        sep: &'static str,
        /// After the assistant.
        sep2: &'static str,
    },
    /// The texts joined, without roles.
    Plain {
        /// After every text.
        sep: &'static str,
    },
}

/// A prompt template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name in LLaVA.
    pub name: &'static str,
    /// The system prompt.
    pub system: &'static str,
    /// The name of the user.
    pub user: &'static str,
    /// The name of the assistant.
    pub assistant: &'static str,
    /// Separators.
    pub style: Style,
}

/// The supported templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateKind {
    /// `vicuna_v1`, `v1`: what GalleryGPT is trained with.
    #[default]
    VicunaV1,
    /// `llava_v1`: as `vicuna_v1` with "human" for "user" in the system prompt.
    LlavaV1,
    /// `llava_v0`: the template that the original's name rule picks for the released adapter.
    LlavaV0,
    /// `plain`, `v0_plain`: picture and caption, for training the projector.
    Plain,
}

fn unknown_template(name: &str) -> UnknownName {
    let expected = "vicuna_v1 (v1), llava_v1, llava_v0 or plain";
    UnknownName::new("conversation template", name, expected)
}

impl FromStr for TemplateKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "vicuna_v1" | "v1" => Ok(Self::VicunaV1),
            "llava_v1" => Ok(Self::LlavaV1),
            "llava_v0" => Ok(Self::LlavaV0),
            "plain" | "v0_plain" => Ok(Self::Plain),
            other => Err(unknown_template(other)),
        }
    }
}

impl std::fmt::Display for TemplateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.template().name)
    }
}

impl TemplateKind {
    /// The template that `run_llava.py` picks by a model's name: `llava_v1` if the name contains
    /// "v1", else `llava_v0`.
    ///
    /// This is a trap of the original: its documented adapter is called `llava-lora-model`, so its
    /// own command prompts with `llava_v0` a model that was trained with `vicuna_v1`. Use it to
    /// compare with the original; no other function here guesses.
    ///
    /// # Errors
    /// The original would pick a template that is not supported here.
    pub fn guess_as_run_llava(model: &str) -> Result<Self, UnknownName> {
        let name = model.to_lowercase();
        let rules = [
            ("llama-2", Err("llava_llama_2")),
            ("mistral", Err("mistral_instruct")),
            ("v1.6-34b", Err("chatml_direct")),
            ("v1", Ok(Self::LlavaV1)),
            ("mpt", Err("mpt")),
        ];
        let rule = rules.into_iter().find(|(part, _)| name.contains(part));
        rule.map_or(Ok(Self::LlavaV0), |(_, picked)| picked)
            .map_err(unknown_template)
    }

    /// The template itself.
    #[must_use]
    pub fn template(self) -> Template {
        const HUMAN: &str = "A chat between a curious human and an artificial intelligence assistant. \
             The assistant gives helpful, detailed, and polite answers to the human's questions.";
        const USER: &str = "A chat between a curious user and an artificial intelligence assistant. \
             The assistant gives helpful, detailed, and polite answers to the user's questions.";
        let two = Style::Two {
            sep: " ",
            sep2: "</s>",
        };
        match self {
            Self::VicunaV1 => Template {
                name: "vicuna_v1",
                system: USER,
                user: "USER",
                assistant: "ASSISTANT",
                style: two,
            },
            Self::LlavaV1 => Template {
                name: "llava_v1",
                system: HUMAN,
                user: "USER",
                assistant: "ASSISTANT",
                style: two,
            },
            Self::LlavaV0 => Template {
                name: "llava_v0",
                system: HUMAN,
                user: "Human",
                assistant: "Assistant",
                style: Style::Single { sep: "###" },
            },
            Self::Plain => Template {
                name: "plain",
                system: "",
                user: "",
                assistant: "",
                style: Style::Plain { sep: "\n" },
            },
        }
    }
}

impl Template {
    /// The prompt of a conversation. After a last turn of the user it ends with the assistant's
    /// name, for the model to continue.
    #[must_use]
    pub fn prompt(&self, conversation: &Conversation) -> String {
        let mut prompt = String::new();
        match self.style {
            Style::Plain { sep } => {
                for turn in &conversation.turns {
                    prompt.push_str(&turn.text);
                    if turn.role == Role::Assistant {
                        prompt.push_str(sep);
                    }
                }
                return prompt;
            }
            Style::Single { sep } | Style::Two { sep, .. } => {
                prompt.push_str(conversation.system.as_deref().unwrap_or(self.system));
                prompt.push_str(sep);
            }
        }
        for turn in &conversation.turns {
            prompt.push_str(self.role(turn.role));
            prompt.push_str(": ");
            prompt.push_str(&turn.text);
            prompt.push_str(self.separator(turn.role));
        }
        if conversation
            .turns
            .last()
            .is_none_or(|turn| turn.role == Role::User)
        {
            prompt.push_str(self.assistant);
            prompt.push(':');
        }
        prompt
    }

    /// The name of a role.
    #[must_use]
    pub fn role(&self, role: Role) -> &'static str {
        match role {
            Role::User => self.user,
            Role::Assistant => self.assistant,
        }
    }

    /// The separator after a turn.
    #[must_use]
    pub fn separator(&self, role: Role) -> &'static str {
        match (self.style, role) {
            (Style::Two { sep2, .. }, Role::Assistant) => sep2,
            (Style::Single { sep } | Style::Two { sep, .. } | Style::Plain { sep }, _) => sep,
        }
    }

    /// The template's stop string, if answers do not end with the end-of-text token alone.
    #[must_use]
    pub fn stop_text(&self) -> Option<&'static str> {
        match self.style {
            Style::Single { sep } => Some(sep),
            Style::Two { .. } | Style::Plain { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llava_v0_prompt_has_single_separators() {
        let prompt = TemplateKind::LlavaV0
            .template()
            .prompt(&Conversation::question("Q"));
        assert!(
            prompt.ends_with("questions.###Human: Q###Assistant:"),
            "{prompt}"
        );
    }

    #[test]
    fn a_system_prompt_replaces_the_templates() {
        let conversation = Conversation::question("Q").with_system("Be brief.");
        let prompt = TemplateKind::VicunaV1.template().prompt(&conversation);
        assert_eq!(prompt, "Be brief. USER: Q ASSISTANT:");
    }

    #[test]
    fn names_lead_to_templates_and_back() {
        for kind in [
            TemplateKind::VicunaV1,
            TemplateKind::LlavaV1,
            TemplateKind::LlavaV0,
            TemplateKind::Plain,
        ] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("vicuna".parse::<TemplateKind>().is_err());
    }

    #[test]
    fn the_originals_guess_is_wrong_about_its_own_adapter() {
        let guess = TemplateKind::guess_as_run_llava;
        assert_eq!(guess("llava-lora-model"), Ok(TemplateKind::LlavaV0));
        assert_eq!(guess("llava-v1.5-7b"), Ok(TemplateKind::LlavaV1));
        assert!(guess("llava-llama-2-13b").is_err());
    }
}
