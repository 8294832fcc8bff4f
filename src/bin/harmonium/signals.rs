//! Being asked to stop: SIGINT (Ctrl-C) and SIGTERM (a machine that is taken away).

use harmonium::{Error, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Hears the first signal; a second one ends the process at once.
pub struct Signals {
    /// Whether the next signal is a second one.
    first: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Signals {
    pub fn listen() -> Result<Self> {
        let (first, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in [SIGINT, SIGTERM] {
            // In the order in which they are called: the first signal finds the flag down.
            flag::register_conditional_shutdown(signal, 128 + signal, first.clone())
                .and_then(|_| flag::register(signal, first.clone()))
                .and_then(|_| flag::register_usize(signal, number.clone(), signal.unsigned_abs() as usize))
                .map_err(|problem| Error::File { path: "signals".into(), problem: problem.to_string() })?;
        }
        Ok(Self { first, number })
    }

    /// From here on the first signal too ends the process at once.
    pub fn wait_for_none(&self) {
        self.first.store(true, Ordering::SeqCst);
    }

    /// The number of the signal that came.
    pub fn heard(&self) -> Option<u8> {
        u8::try_from(self.number.load(Ordering::SeqCst)).ok().filter(|&number| number != 0)
    }
}
