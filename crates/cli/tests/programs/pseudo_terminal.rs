//! A command in a terminal, which `script` of util-linux makes; keys are what is written to its standard input.

use std::process::{Command, Stdio};

/// The command as a child of a terminal, whose screen is its standard output; with `None`, a line on standard error says that this was not
/// tested.
pub(crate) fn in_a_terminal(command: &Command) -> Option<Command> {
    let version = Command::new("script").arg("--version").output();
    if !version.is_ok_and(|output| output.stdout.starts_with(b"script from util-linux")) {
        let line = b"NOT TESTED: a command in a terminal: no `script` of util-linux here\n";
        std::io::Write::write_all(&mut std::io::stderr(), line).unwrap();
        return None;
    }
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''")))
        .collect();
    // A program that waits for a key that never comes must not hold up the tests.
    let mut terminal = Command::new("timeout");
    terminal.args(["--foreground", "120", "script"]);
    terminal.args(["--quiet", "--return", "--flush", "--command"]);
    terminal.arg(words.join(" ")).arg("/dev/null");
    if let Some(folder) = command.get_current_dir() {
        terminal.current_dir(folder);
    }
    terminal.env("TERM", "xterm");
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped());
    Some(terminal)
}
