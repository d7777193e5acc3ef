//! Talks about a picture in several turns.
//!
//! `/help` lists the commands. Ctrl-C stops an answer and keeps the conversation. From a pipe, each line is a turn.

use std::{
    collections::BTreeSet,
    env::{home_dir, var_os},
    io::{IsTerminal, Stdin},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use gallery_gpt::{
    checkpoint::{Destination, write_file},
    model::{FinishReason, GenerationError},
    prelude::*,
    text::{Turn, literal_image, original_text},
    vision::PixelValues,
};
use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::{Value, json};

use crate::{
    args::{GenerationFlags, ModelFlags, sample::TEST_PAINTING},
    terminal::{self, interrupt::Interrupts, rate::print_rate, wrapping::Wrapping},
};

const COMMANDS: &str = "\
/image FILE   begin a new conversation about another picture
/clear        begin a new conversation about the same picture
/save FILE    write the conversation as a training record (JSON)
/help         show these commands
/quit         leave, as exit, quit and Ctrl-D do
Ctrl-C stops an answer and keeps the conversation; any other line is a question to the model";

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt chat
  gallery-gpt chat painting.jpg --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter";

/// Talks about a picture.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = format!("{COMMANDS}\n\n{EXAMPLES}"))]
pub(crate) struct Arguments {
    /// The picture [default: a test painting of the sample].
    #[arg(value_name = "PICTURE", conflicts_with = "image")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFlags,
    /// The picture, as a flag.
    #[arg(long, visible_alias = "image_file", value_name = "PICTURE")]
    image: Option<PathBuf>,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.generation.check()?;
    let gallery = arguments.model.load()?;
    let mut config = arguments.generation.config(&gallery)?;
    let stop_text = gallery.stop_text().map(str::to_owned);
    config.stop_strings.extend(stop_text);
    let image = arguments.picture.as_ref().or(arguments.image.as_ref());
    let image = image.map_or(Path::new(TEST_PAINTING), PathBuf::as_path);
    let mut chat = Chat::about(&gallery, image)?;
    let interrupts = Interrupts::listen()?;
    let mut input = Input::open()?;
    if let Input::Terminal { .. } = input {
        say!("{}; /help lists the commands", chat.image.display());
    }
    while let Some(line) = input.line()? {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        // A turn that fails prints why, and leaves the conversation as it was.
        let done = match command {
            "" => Ok(()),
            "/quit" | "/exit" | "/bye" => return Ok(()),
            _ if ["exit", "quit"].contains(&line) => return Ok(()),
            "/help" | "/?" => {
                say!("{COMMANDS}");
                Ok(())
            }
            "/clear" => {
                chat.conversation = Conversation::default();
                note!("new conversation about {}", chat.image.display());
                Ok(())
            }
            "/image" => file_of(command, rest)
                .and_then(|path| Chat::about(&gallery, &path))
                .map(|new| {
                    note!("new conversation about {}", new.image.display());
                    chat.image = new.image;
                    chat.picture = new.picture;
                    chat.conversation = new.conversation;
                }),
            "/save" => file_of(command, rest).and_then(|path| chat.save(&path)),
            _ if command.starts_with('/') => {
                Err(anyhow::anyhow!("{command} is no command:\n{COMMANDS}"))
            }
            _ => chat.turn(&gallery, line, &config, &interrupts),
        };
        if let Err(error) = done {
            note!("{}", terminal::sentence(&error));
        }
        if terminal::is_closed() {
            break;
        }
    }
    Ok(())
}

/// The file that a command names: plain, or with the quotes and escapes of a path that a terminal pastes; `~` is the home folder.
fn file_of(command: &str, text: &str) -> anyhow::Result<PathBuf> {
    let text = text.trim();
    ensure!(!text.is_empty(), "{command} needs a file: {command} FILE");
    let unquoted = match shlex::split(text).as_deref() {
        Some([one]) if !Path::new(text).exists() => one.clone(),
        _ => text.to_owned(),
    };
    let is_quoted = text.starts_with(['\'', '"']);
    Ok(match (unquoted.strip_prefix('~'), home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with(['/', '\\']) && !is_quoted => {
            home.join(&rest[1..])
        }
        _ => unquoted.into(),
    })
}

/// The source of lines.
enum Input {
    /// With line editing, and a history that is kept between runs.
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
    },
    Pipe(Stdin),
}

impl Input {
    fn open() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self::Pipe(stdin));
        }
        let mut editor = Box::new(DefaultEditor::new()?);
        let history = history_file();
        if let Some(file) = &history {
            // There is none before the first run.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal { editor, history })
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Terminal { editor, history } => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    if let Some(file) = history {
                        // A chat works without its history.
                        let _ = editor.append_history(file);
                    }
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => {
                    note!("Ctrl-D or /quit leaves");
                    Ok(Some(String::new()))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Pipe(stdin) => {
                let mut line = String::new();
                Ok((stdin.read_line(&mut line)? > 0).then_some(line))
            }
        }
    }
}

/// The file of the history, in the folder that the system has for a user's state.
fn history_file() -> Option<PathBuf> {
    let state = var_os("XDG_STATE_HOME").or_else(|| var_os("LOCALAPPDATA"));
    let state = state.filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = state
        .or_else(|| Some(home_dir()?.join(".local/state")))?
        .join("gallery-gpt");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat_history"))
}

/// A picture and the conversation about it.
struct Chat {
    image: PathBuf,
    picture: PixelValues,
    conversation: Conversation,
    /// Files that were saved here, and may be replaced.
    saved: BTreeSet<PathBuf>,
}

impl Chat {
    fn about(gallery: &GalleryGpt, image: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            image: image.to_owned(),
            picture: gallery.processor().process_file(image)?,
            conversation: Conversation::default(),
            saved: BTreeSet::new(),
        })
    }

    fn turn(
        &mut self,
        gallery: &GalleryGpt,
        line: &str,
        config: &GenerationConfig,
        interrupts: &Interrupts,
    ) -> anyhow::Result<()> {
        // The picture belongs to the first turn.
        let pictures = usize::from(self.conversation.turns.is_empty());
        let template = gallery.template().template();
        let question = template.image_question(&self.conversation, line, pictures);
        let asked = self.conversation.clone().ask(question);
        let prompt = gallery.continuation(&asked, vec![self.picture.clone()])?;
        if prompt.pictures.is_empty() {
            note!(
                "the conversation is longer than the model's window: its oldest turns and the picture are left out; /clear begins anew"
            );
        }
        let began = Instant::now();
        let mut output = Wrapping::new();
        let (text, written) = interrupts.during(|cancel| {
            let mut stream = match gallery.stream_until(prompt, config, cancel) {
                Err(GalleryError::Generation(GenerationError::Cancelled)) => bail!("stopped"),
                stream => stream?,
            };
            for piece in &mut stream {
                output.push(&piece?);
                if terminal::is_closed() {
                    break;
                }
            }
            Ok((stream.text().trim().to_owned(), stream.finish()))
        })?;
        if written.finish != FinishReason::Stop {
            output.push("…");
        }
        output.finish();
        // What the model writes is no picture, even where it looks like the tag of one.
        self.conversation = asked.answer(literal_image(&text));
        match written.finish {
            FinishReason::Stop => print_rate(&written, began),
            FinishReason::Length => note!(
                "cut: the answer reached --max_new_tokens ({}) or the end of the context",
                config.max_new_tokens
            ),
            FinishReason::Cancelled => note!("stopped; the conversation continues"),
        }
        Ok(())
    }

    /// Writes the conversation in the form of PaintingForm's records.
    fn save(&mut self, path: &Path) -> anyhow::Result<()> {
        Destination::new(path)
            .apart_from([&self.image])
            .check_file()?;
        ensure!(
            !path.exists() || self.saved.contains(path),
            "not saved: {} exists; choose another file",
            path.display()
        );
        let turns = self.conversation.turns.iter();
        let turns: Vec<Value> = turns
            .map(|Turn { role, text }| json!({ "from": role.record_name(), "value": original_text(text) }))
            .collect();
        let record = json!({ "image": self.image, "conversations": turns });
        write_file(path, format!("{record:#}\n").as_bytes()).context("not saved")?;
        self.saved.insert(path.to_owned());
        note!("saved: {}", path.display());
        Ok(())
    }
}
