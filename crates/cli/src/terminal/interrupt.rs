//! Ctrl-C and the other signals that ask a program to end: the first asks, the second ends it.

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
/// The system takes no handler.
pub(crate) fn first_asks() -> io::Result<CancelToken> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        cancel_or_leave(signal, &asked)?;
    }
    Ok(asked.into())
}

/// Lets the program go on when its terminal goes.
///
/// # Errors
/// The system takes no handler.
pub(crate) fn outlive_terminal() -> io::Result<()> {
    #[cfg(unix)]
    register(signal_hook::consts::SIGHUP, Arc::default())?;
    Ok(())
}

/// Ctrl-C of a program that works now and then: it cancels what is worked on, and ends a program that waits.
pub(crate) struct Interrupts {
    asked: Arc<AtomicBool>,
    waiting: Arc<AtomicBool>,
}

impl Interrupts {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system takes no handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let waiting = Arc::new(AtomicBool::new(true));
        register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&waiting))?;
        let asked = Arc::new(AtomicBool::new(false));
        cancel_or_leave(SIGINT, &asked)?;
        Ok(Self { asked, waiting })
    }

    /// Does a piece of work; Ctrl-C cancels its token.
    pub(crate) fn during<T>(&self, work: impl FnOnce(CancelToken) -> T) -> T {
        self.asked.store(false, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
        let done = work(Arc::clone(&self.asked).into());
        self.waiting.store(true, Ordering::Relaxed);
        done
    }
}

/// The first signal sets the flag; one that comes while it is set ends the program.
fn cancel_or_leave(signal: i32, asked: &Arc<AtomicBool>) -> io::Result<()> {
    register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(asked))?;
    register(signal, Arc::clone(asked))?;
    Ok(())
}
