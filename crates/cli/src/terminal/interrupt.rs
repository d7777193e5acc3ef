//! Ctrl-C and the other signals that stop a program: the first cancels its work, the second ends it at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gallery_gpt::model::CancelToken;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::{register, register_conditional_shutdown},
};

use crate::terminal::INTERRUPTED;

/// Cancels the token at the first Ctrl-C or SIGTERM; the second ends the program.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn cancel_on_signal() -> io::Result<CancelToken> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        cancel_or_leave(signal, &asked)?;
    }
    Ok(asked.into())
}

/// Keeps the program running when its terminal is closed.
///
/// # Errors
/// The handler cannot be installed.
pub(crate) fn ignore_hangup() -> io::Result<()> {
    #[cfg(unix)]
    register(signal_hook::consts::SIGHUP, Arc::default())?;
    Ok(())
}

/// Ctrl-C in a program that works and waits by turns: it cancels the work, and ends the program while it waits.
pub(crate) struct Interrupts {
    asked: Arc<AtomicBool>,
    waiting: Arc<AtomicBool>,
}

impl Interrupts {
    /// Installs the handlers.
    ///
    /// # Errors
    /// They cannot be installed.
    pub(crate) fn listen() -> io::Result<Self> {
        let waiting = Arc::new(AtomicBool::new(true));
        register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&waiting))?;
        let asked = Arc::new(AtomicBool::new(false));
        cancel_or_leave(SIGINT, &asked)?;
        Ok(Self { asked, waiting })
    }

    /// Runs work whose token Ctrl-C cancels.
    pub(crate) fn during<T>(&self, work: impl FnOnce(CancelToken) -> T) -> T {
        self.asked.store(false, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
        let done = work(Arc::clone(&self.asked).into());
        self.waiting.store(true, Ordering::Relaxed);
        done
    }
}

/// The first signal sets the flag; a signal while it is set ends the program.
fn cancel_or_leave(signal: i32, asked: &Arc<AtomicBool>) -> io::Result<()> {
    register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(asked))?;
    register(signal, Arc::clone(asked))?;
    Ok(())
}
