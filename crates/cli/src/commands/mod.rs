//! The commands, each in a file or folder of its name.

mod answer_questions;
mod caption;
mod chat;
mod check;
mod convert;
mod evaluate;
mod finetune;
mod inspect;
mod merge;
mod serve;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use toml::Table;

use crate::{
    command_line::{Line, config, finished},
    terminal::output,
};

/// The end of the help of `plan`.
const PLANS: &str = "\
Examples:
  gallery-gpt plan
  gallery-gpt plan --preset gallery_gpt --base llava-1.5-7b-hf --device_memory 24 \\
      --data train_samples_tuning.json --images art_images_data";

/// The end of the help of `completions`.
const COMPLETIONS: &str = "\
Examples:
  gallery-gpt completions bash > ~/.local/share/bash-completion/completions/gallery-gpt
  gallery-gpt completions fish > ~/.config/fish/completions/gallery-gpt.fish";

/// Finetunes and runs multimodal models that read paintings.
#[derive(Parser)]
#[command(
    name = "gallery-gpt",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 success, 1 error, 2 wrong flags, 130 stopped by Ctrl-C or SIGTERM."
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Finetune(Box<finetune::Arguments>),
    /// Prints what a training will need, in parameters, memory and steps, without reading a weight.
    #[command(after_help = PLANS)]
    Plan(Box<finetune::Arguments>),
    Caption(caption::Arguments),
    Chat(chat::Arguments),
    Serve(serve::Arguments),
    Evaluate(evaluate::Arguments),
    #[command(alias = "validate_dataset")]
    Check(check::Arguments),
    Inspect(inspect::Arguments),
    Merge(merge::Arguments),
    Convert(convert::Arguments),
    #[command(alias = "answer_questions")]
    AnswerQuestions(answer_questions::Arguments),
    /// Writes the completions of a shell to standard output.
    #[command(after_help = COMPLETIONS)]
    Completions {
        shell: Shell,
    },
}

/// All commands and their flags.
pub(crate) fn command() -> clap::Command {
    let program = Program::command()
        .mut_subcommand("finetune", finetune::with_preset_defaults)
        .mut_subcommand("plan", finetune::with_preset_defaults);
    finished(program)
}

/// Reads a command line, which begins with the program's name.
///
/// # Errors
/// As [`Line::read`].
fn parse(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<(Command, Line)> {
    let line = Line::read(words, command())?;
    let program = Program::from_arg_matches(&line.matches);
    let program = program.unwrap_or_else(|error| error.exit());
    Ok((program.command, line))
}

/// Prints the flags of a command line in the form of a file for `--config`.
fn print_config(line: &Line, others: &Table) {
    if let Some((name, matches)) = line.matches.subcommand()
        && let Some(command) = command().find_subcommand(name)
    {
        output(format_args!(
            "{}",
            config::printed(command, matches, others)
        ));
    }
}

/// Runs the command that the command line names.
///
/// # Errors
/// The command's own.
pub(crate) fn run() -> anyhow::Result<()> {
    let (command, line) = parse(std::env::args_os())?;
    let trains = matches!(command, Command::Finetune(_) | Command::Plan(_));
    if line.prints_config() && !trains {
        print_config(&line, &Table::new());
        return Ok(());
    }
    match command {
        Command::Finetune(arguments) | Command::Plan(arguments) => {
            finetune::start(*arguments, &line)
        }
        Command::Caption(arguments) => caption::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::AnswerQuestions(arguments) => answer_questions::run(&arguments),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "gallery-gpt", &mut text);
            output(format_args!("{}", String::from_utf8_lossy(&text)));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command as Flags};

    use super::command;

    #[test]
    fn every_name_under_a_heading_is_a_flag() {
        let program = command();
        let flags = program.get_subcommands().flat_map(Flags::get_arguments);
        let flags: Vec<&str> = flags.filter_map(Arg::get_long).collect();
        for (heading, name) in crate::command_line::listed() {
            assert!(flags.contains(&name), "{heading}: {name}");
        }
    }

    #[test]
    fn the_flags_are_well_formed() {
        command().debug_assert();
    }
}
