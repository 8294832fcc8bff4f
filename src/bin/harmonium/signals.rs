//! SIGINT (Ctrl-C) and SIGTERM (a machine that shuts down).

use harmonium::{Error, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Records the first signal. A second one ends the process at once.
pub struct Signals {
    /// Whether a first signal has come.
    first: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Signals {
    pub fn listen() -> Result<Self> {
        let (first, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal must find the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, first.clone())
                .and_then(|_| flag::register(signal, first.clone()))
                .and_then(|_| flag::register_usize(signal, number.clone(), signal.unsigned_abs() as usize))
                .map_err(|problem| Error::File { path: "signals".into(), problem: problem.to_string() })?;
        }
        Ok(Self { first, number })
    }

    /// From now on the first signal, too, ends the process at once.
    pub fn end_at_once(&self) {
        self.first.store(true, Ordering::SeqCst);
    }

    /// The number of the first signal, if one has come.
    pub fn received(&self) -> Option<u8> {
        u8::try_from(self.number.load(Ordering::SeqCst)).ok().filter(|&number| number != 0)
    }
}
