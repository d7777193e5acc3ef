//! Reads a command line: spellings of flags, files of flags, headings of the help.

pub(crate) mod config;
mod headings;
mod script_only;
pub(crate) mod spelling;

#[cfg(test)]
pub(crate) use headings::listed;

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, Command};

/// Commands that take the arguments of the original's training script.
const TRAINING: [&str; 2] = ["finetune", "plan"];

/// The flag that names a file of flags.
const CONFIG: &str = "config";
/// The flag that prints the flags in place of running the command.
const PRINT_CONFIG: &str = "print_config";

/// A command line.
pub(crate) struct Line {
    /// The flags after the command, those of a file first.
    pub(crate) flags: Vec<OsString>,
    pub(crate) matches: ArgMatches,
}

impl Line {
    /// Reads a command line, which begins with the program's name. The program ends here if clap refuses it, or if it asks for help.
    ///
    /// # Errors
    /// A value of the original's script that is not supported, or a file of flags that cannot be read.
    pub(crate) fn read(
        typed: impl IntoIterator<Item = OsString>,
        command: Command,
    ) -> anyhow::Result<Self> {
        let mut words = spelling::underscored(typed);
        let name = words.get(1).and_then(|word| word.to_str());
        let Some(chosen) = name.and_then(|name| command.find_subcommand(name)) else {
            return Ok(Self {
                flags: Vec::new(),
                matches: command.get_matches_from(words),
            });
        };
        let name = chosen.get_name().to_owned();
        let mut flags = words.split_off(2);
        if TRAINING.contains(&name.as_str()) {
            flags = script_only::without_fixed(flags)?;
        }
        if TRAINING.contains(&name.as_str()) || name == "check" {
            flags = spelling::template_named(flags);
        }
        let takes_words = chosen.get_positionals().next().is_some();
        flags = spelling::joined_booleans(flags, &booleans(chosen), takes_words);
        let (config, given) = config::taken(flags);
        let mut flags = match &config {
            Some(path) => config::flags(chosen, path, &given)?,
            None => Vec::new(),
        };
        flags.extend(given);
        if name == "plan" {
            flags.push("--plan".into());
        }
        words.extend(flags.iter().cloned());
        let matches = command.try_get_matches_from(words);
        let matches = matches.unwrap_or_else(|error| {
            if let Some(path) = config.filter(|_| error.use_stderr()) {
                note!("with the flags of {}:", path.display());
            }
            error.exit()
        });
        Ok(Self { flags, matches })
    }

    /// Whether the flags are to be printed.
    pub(crate) fn prints_config(&self) -> bool {
        let flags = self.matches.subcommand().map(|(_, flags)| flags);
        flags
            .is_some_and(|flags| matches!(flags.try_get_one::<bool>(PRINT_CONFIG), Ok(Some(&true))))
    }
}

/// A program's commands with what all of them share: booleans as Python writes them, flags that may be repeated (the last one
/// wins), headings, a file of flags.
pub(crate) fn finished(program: Command) -> Command {
    program.mut_subcommands(|command| {
        if command.get_arguments().all(|arg| arg.get_long().is_none()) {
            return command;
        }
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_hint(clap::ValueHint::FilePath)
            .value_parser(clap::value_parser!(std::path::PathBuf))
            .help("Read flags from a TOML file (`lora_r = 8`). Flags on the command line win")
            .help_heading("Configuration");
        let print = Arg::new(PRINT_CONFIG)
            .long(PRINT_CONFIG)
            .action(ArgAction::SetTrue)
            .help("Print all flags in the form of such a file, and exit")
            .help_heading("Configuration");
        command
            .args_override_self(true)
            .arg(file)
            .arg(print)
            .mut_args(|arg| headings::under_its_heading(python_boolean(arg)))
    })
}

/// A boolean is given alone, or with a value as Python writes it.
fn python_boolean(arg: Arg) -> Arg {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    if !is_switch && !is_boolean(&arg) {
        return arg;
    }
    let arg = arg
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("True|False")
        .value_parser(spelling::boolean);
    if is_switch {
        return arg.default_value("false").hide_default_value(true);
    }
    arg
}

fn is_boolean(arg: &Arg) -> bool {
    arg.get_action().takes_values()
        && arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>()
}

/// All spellings of the booleans of a command.
fn booleans(command: &Command) -> Vec<String> {
    let booleans = command.get_arguments().filter(|arg| is_boolean(arg));
    booleans
        .flat_map(|arg| names(arg).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// All spellings of a flag, its own first.
fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(aliases)
}

/// The name in `--name` or `--name=value`.
fn flag_name(word: &OsStr) -> Option<&str> {
    let flag = word.to_str()?.strip_prefix("--")?;
    Some(flag.split_once('=').map_or(flag, |(name, _)| name))
}

/// Whether a flag is one that every command has, and not a setting.
fn is_about_flags(id: &clap::Id) -> bool {
    [CONFIG, PRINT_CONFIG, "help", "version"].contains(&id.as_str())
}
