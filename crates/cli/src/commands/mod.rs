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

use clap::{Parser, Subcommand};

use crate::args::spelling;

/// Finetunes and runs multimodal models that read paintings.
#[derive(Parser)]
#[command(name = "gallery-gpt", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Finetune(Box<finetune::Arguments>),
    /// Says what a training will need, in parameters, memory and steps; no weight is read.
    Plan(Box<finetune::Arguments>),
    Caption(caption::Arguments),
    Chat(chat::Arguments),
    Serve(serve::Arguments),
    Evaluate(evaluate::Arguments),
    Check(check::Arguments),
    Inspect(inspect::Arguments),
    Merge(merge::Arguments),
    Convert(convert::Arguments),
    AnswerQuestions(answer_questions::Arguments),
}

/// Runs the command that the command line names.
///
/// # Errors
/// The command's own.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut typed = spelling::arguments();
    let is = |name: &str| typed.get(1).is_some_and(|command| command == name);
    if is("plan") {
        typed.push(OsString::from("--plan"));
        typed = finetune::without_fixed(typed)?;
    } else if is("finetune") {
        typed = finetune::without_fixed(typed)?;
    }
    match Program::parse_from(&typed).command {
        Command::Finetune(arguments) | Command::Plan(arguments) => {
            finetune::start(*arguments, &typed[2..])
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
    }
}
