//! The speed of generation.

use std::{io::IsTerminal, time::Instant};

use gallery_gpt::model::Generation;

/// Prints how fast an answer was generated, if standard error is a terminal.
pub(crate) fn print_rate(written: &Generation, began: Instant) {
    if std::io::stderr().is_terminal() {
        let tokens = written.ids.len();
        let seconds = began.elapsed().as_secs_f64();
        let rate = tokens as f64 / seconds.max(1e-9);
        note!("{tokens} tokens in {seconds:.1} s, {rate:.0} tokens/s");
    }
}
