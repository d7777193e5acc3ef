//! How fast an answer was written.

use std::{io::IsTerminal, time::Instant};

use gallery_gpt::model::Generation;

/// Says on a terminal how fast an answer was written.
pub(crate) fn say_rate(written: &Generation, began: Instant) {
    if std::io::stderr().is_terminal() {
        let tokens = written.ids.len();
        let seconds = began.elapsed().as_secs_f64();
        let rate = tokens as f64 / seconds.max(1e-9);
        note!("{tokens} tokens in {seconds:.1} s, {rate:.0} a second");
    }
}
