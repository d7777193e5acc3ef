//! The prompt templates that format conversations.

use std::{borrow::Cow, str::FromStr};

use crate::{
    Conversation, ConversationError, Role, Tokenizer, UnknownName,
    chat_ml::{self, Names},
    encode_prompt, image_question,
    tokenizer::Kind,
};

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
    /// `<|im_start|>`, role, newline, text and `<|im_end|>`, each tokenized on its own.
    ChatMl,
}

/// A prompt template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name in LLaVA; `chatml` for Qwen's.
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
    /// `chatml`, `qwen`, `qwen_vl_chat`: what Qwen-VL-Chat of 2023 is trained with.
    ChatMl,
}

fn unknown_template(name: &str) -> UnknownName {
    let expected = "vicuna_v1 (v1), llava_v1, llava_v0, plain or chatml (qwen)";
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
            "chatml" | "qwen" | "qwen_vl_chat" => Ok(Self::ChatMl),
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
            Self::ChatMl => Template {
                name: "chatml",
                system: "You are a helpful assistant.",
                user: "user",
                assistant: "assistant",
                style: Style::ChatMl,
            },
        }
    }
}

impl Template {
    /// The prompt of a conversation as one text. After a last turn of the user it ends with the assistant's
    /// name, for the model to continue. Its ids are given by [`Template::encode`].
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
            Style::ChatMl => return chat_ml::prompt_text(self.names(), conversation),
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

    /// The ids of a conversation's prompt, with [`crate::IMAGE_TOKEN_INDEX`] for each `<image>`.
    ///
    /// LLaVA's templates give what [`encode_prompt`] makes of [`Template::prompt`]. ChatML tokenizes role, newline and text apart, and
    /// of the special texts only the tags of regions become their ids in a turn. Its pictures are three ids each, `<img>`, the
    /// placeholder and `</img>`, and count as 258 in the `window`: with one, the oldest exchanges are left out until the prompt without its last
    /// question has fewer tokens than that, as in the original's `max_window_size`. System prompt and question are always there. The pictures of
    /// what was left out are the first ones of the conversation; as many of the last ones as the ids have placeholders are still in the
    /// prompt. LLaVA's templates leave nothing out, whatever the window.
    ///
    /// # Errors
    /// The tokenizer is not one that the template belongs to, or it rejects a text.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        window: Option<usize>,
    ) -> Result<Vec<i64>, ConversationError> {
        Ok(match self.tokenizer(tokenizer)? {
            Kind::Llama(_) => encode_prompt(tokenizer, &self.prompt(conversation))?,
            Kind::Qwen(qwen) => chat_ml::prompt_ids(qwen, self.names(), conversation, window)?,
        })
    }

    pub(crate) fn names(&self) -> Names {
        Names {
            system: self.system,
            user: self.user,
            assistant: self.assistant,
        }
    }

    /// The tokenizer, if the template belongs to it.
    ///
    /// # Errors
    /// It belongs to another.
    pub(crate) fn tokenizer<'t>(
        &self,
        tokenizer: &'t Tokenizer,
    ) -> Result<&'t Kind, ConversationError> {
        let instead = match (tokenizer.kind(), self.style == Style::ChatMl) {
            (Kind::Llama(_), false) | (Kind::Qwen(_), true) => return Ok(tokenizer.kind()),
            (Kind::Llama(_), true) => "vicuna_v1",
            (Kind::Qwen(_), false) => "chatml",
        };
        Err(ConversationError::ForeignTemplate {
            template: self.name,
            tokenizer: tokenizer.family(),
            instead,
        })
    }

    /// A question about `pictures` pictures after the `earlier` turns of a conversation.
    ///
    /// LLaVA's templates give [`image_question`]. ChatML numbers its placeholders besides, as [`Template::number_pictures`], after those
    /// of the `earlier` questions: `Picture 1: <image>`, a newline, the question.
    ///
    /// ```
    /// use gallery_gpt_text::{Conversation, TemplateKind};
    ///
    /// let template = TemplateKind::ChatMl.template();
    /// let first = template.image_question(&Conversation::default(), "What is this?", 1);
    /// assert_eq!(first, "Picture 1: <image>\nWhat is this?");
    /// let talk = Conversation::question(first).answer("A harbour.");
    /// let next = template.image_question(&talk, "And this?", 1);
    /// assert_eq!(next, "Picture 2: <image>\nAnd this?");
    /// ```
    #[must_use]
    pub fn image_question(
        &self,
        earlier: &Conversation,
        question: &str,
        pictures: usize,
    ) -> String {
        let question = image_question(question, pictures);
        match self.style {
            Style::ChatMl => chat_ml::numbered_question(earlier, &question),
            _ => question,
        }
    }

    /// The conversation with its pictures named as the template's model knows them.
    ///
    /// For ChatML, the placeholders of all questions are counted from 1. `Picture N: ` is put in front of each, and a newline behind it
    /// unless there is one, as the original's `from_list_format` does. A placeholder that already stands behind `Picture`, a blank, a number and a
    /// colon, with or without another blank, is left as it is. Other templates change nothing.
    #[must_use]
    pub fn number_pictures<'c>(&self, conversation: &'c Conversation) -> Cow<'c, Conversation> {
        match self.style {
            Style::ChatMl => {
                Cow::Owned(chat_ml::numbered_pictures(conversation, |text| text.into()))
            }
            _ => Cow::Borrowed(conversation),
        }
    }

    /// The conversation of a record in LLaVA's form, as the template's model is trained on it: for ChatML, a question's only placeholder moves to
    /// its front ([`crate::image_first`]) unless it is numbered already, and all are numbered ([`Template::number_pictures`]), so that
    /// `<image>\nQ` becomes `Picture 1: <image>\nQ`. Other templates change nothing; [`crate::encode_conversation`] moves their
    /// placeholders.
    #[must_use]
    pub fn arrange_pictures<'c>(&self, conversation: &'c Conversation) -> Cow<'c, Conversation> {
        match self.style {
            Style::ChatMl => Cow::Owned(chat_ml::numbered_pictures(
                conversation,
                chat_ml::picture_first,
            )),
            _ => Cow::Borrowed(conversation),
        }
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
            (Style::ChatMl, _) => "<|im_end|>\n",
        }
    }

    /// The template's stop string, if answers do not end with tokens alone. Those of ChatML are
    /// [`crate::ChatMlTokens::end_ids`].
    #[must_use]
    pub fn stop_text(&self) -> Option<&'static str> {
        match self.style {
            Style::Single { sep } => Some(sep),
            Style::Two { .. } | Style::Plain { .. } | Style::ChatMl => None,
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
            TemplateKind::ChatMl,
        ] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("qwen_vl_chat".parse(), Ok(TemplateKind::ChatMl));
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
