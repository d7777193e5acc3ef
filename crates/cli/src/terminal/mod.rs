//! Output of the program. A closed pipe or a full disk never makes it panic.

/// Writes a line to standard output.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::terminal::output(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Writes a line to standard error.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::terminal::remark(format_args!($($argument)*))
    };
}

pub(crate) mod interrupt;
pub(crate) mod rate;
pub(crate) mod wrapping;

use std::{
    fmt::Arguments,
    io::{ErrorKind, Write},
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether standard output was closed.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// Exit code of a program that Ctrl-C ended, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// The error of a command that was stopped by Ctrl-C: the message to end with.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

/// The first error of standard output, other than that it was closed.
static FAILED: OnceLock<std::io::Error> = OnceLock::new();

/// Writes text to standard output and flushes it. After standard output was closed or has failed, nothing more is written to it: a
/// command with work to do continues, one that only prints checks [`is_closed`].
pub(crate) fn output(text: Arguments<'_>) {
    if is_closed() || FAILED.get().is_some() {
        return;
    }
    let mut stdout = std::io::stdout().lock();
    match stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            CLOSED.store(true, Ordering::Relaxed);
        }
        Err(error) => {
            let _ = FAILED.set(error);
        }
    }
}

/// Writes a line to standard error, whether it can be written or not. Control characters, which names of files and records may have,
/// are escaped.
pub(crate) fn remark(text: Arguments<'_>) {
    let text = text.to_string();
    let is_escaped = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    let shown: String = text
        .chars()
        .map(|letter| {
            if is_escaped(letter) {
                letter.escape_default().to_string()
            } else {
                letter.into()
            }
        })
        .collect();
    let _ = writeln!(std::io::stderr(), "{shown}");
}

/// Whether standard output was closed.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Whether everything was written to standard output so far.
pub(crate) fn is_written() -> bool {
    !is_closed() && FAILED.get().is_none()
}

/// Runs a program, and prints its error.
pub(crate) fn main(program: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    let mut done = program();
    if let (Ok(()), Some(error)) = (&done, FAILED.get()) {
        done = Err(anyhow::anyhow!("cannot write standard output: {error}"));
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => {
            note!("{error}");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            note!("Error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one sentence. A cause that the sentence contains already is left out.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
