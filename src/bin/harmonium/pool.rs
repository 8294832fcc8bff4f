//! The thread pool of a run.

use crate::Failure;

/// Runs the whole `job` inside one pool of `threads` workers, by default one for each processor. Entering a pool costs as much as a few
/// Gibbs steps, so it happens once.
#[cfg(feature = "rayon")]
pub fn install<T: Send>(
    threads: Option<usize>, job: impl FnOnce() -> harmonium::Result<T> + Send,
) -> Result<T, Failure> {
    // 0 lets rayon choose.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build().map_err(|problem| {
        harmonium::Error::Argument {
            what: "--threads",
            expected: "no more threads than the system allows".into(),
            found: format!("{}: {problem}", threads.unwrap_or(0)),
        }
    })?;
    Ok(pool.install(job)?)
}

/// Runs `job`. More than one thread needs feature `rayon`.
#[cfg(not(feature = "rayon"))]
pub fn install<T>(threads: Option<usize>, job: impl FnOnce() -> harmonium::Result<T>) -> Result<T, Failure> {
    match threads {
        Some(2..) => Err(Failure::Usage("--threads: expected 1, as this build lacks feature rayon".into())),
        _ => Ok(job()?),
    }
}
