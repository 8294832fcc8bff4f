//! The threads of a run.

use crate::Failure;

/// Does `job` from beginning to end inside one pool of `threads` workers, by default as many as there are processors.
/// Entering a pool costs as much as some Gibbs steps, so it happens once.
#[cfg(feature = "rayon")]
pub fn install<T: Send>(
    threads: Option<usize>, job: impl FnOnce() -> harmonium::Result<T> + Send,
) -> Result<T, Failure> {
    // 0 lets rayon choose.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build().map_err(|problem| {
        harmonium::Error::Argument {
            what: "--threads",
            expected: "as many as the system allows".into(),
            found: format!("{}: {problem}", threads.unwrap_or(0)),
        }
    })?;
    Ok(pool.install(job)?)
}

/// Does `job`; more than one thread would need the feature `rayon`.
#[cfg(not(feature = "rayon"))]
pub fn install<T>(threads: Option<usize>, job: impl FnOnce() -> harmonium::Result<T>) -> Result<T, Failure> {
    match threads {
        Some(2..) => Err(Failure::Usage("--threads: expected 1, as this was built without its feature rayon".into())),
        _ => Ok(job()?),
    }
}
