//! Several processes that make one run, as `mpirun` starts them: every rank runs the whole command, and each call that computes
//! shares its work among them. Only the first one prints and writes files.

pub use joined::*;

use harmonium::{Device, Place, Rbm, Result, Rows, Shape, Sums};

/// The number of processes that an MPI launcher has started, by its environment variables: Open MPI, MPICH and its
/// derivatives, MVAPICH, and Slurm with PMIx. `None` without a launcher.
fn launched() -> Option<usize> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let by_slurm = || std::env::var_os("PMIX_RANK").and_then(|_| number("SLURM_NTASKS").or(Some(1)));
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"].into_iter().find_map(number).or_else(by_slurm)
}

/// Whether `is_true` is true on any rank.
pub fn any(is_true: bool) -> bool {
    greatest(is_true.into()) > 0
}

#[cfg(feature = "mpi")]
mod joined {
    use super::*;
    #[cfg(feature = "cuda")]
    use crate::console::complain;
    use crate::console::complain_anyway;
    use harmonium::{
        Cpu, Ranks,
        checkpoint::{VERSION, fingerprint},
        storage,
    };
    use std::{
        env, fs, panic,
        process::ExitCode,
        sync::{Mutex, PoisonError},
        thread,
        time::Duration,
    };

    /// A rank that fails waits this long for the ranks before it, which may report the same error.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// The ranks, if there are several, and the number of them on this machine.
    static ALL: Mutex<Option<(Ranks, u64)>> = Mutex::new(None);

    fn all() -> Option<Ranks> {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(ranks, _)| ranks.clone())
    }

    /// The ranks until this is dropped.
    pub struct Joined(Ranks);

    impl Drop for Joined {
        fn drop(&mut self) {
            *ALL.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Joins the other ranks, if there are any.
    pub fn join() -> Result<Option<Joined>> {
        if launched().is_none() {
            return Ok(None);
        }
        let ranks = Ranks::join(Cpu::detect()?)?;
        if ranks.len() > 1 {
            let here = ranks.neighbours("")? as u64;
            *ALL.lock().unwrap_or_else(PoisonError::into_inner) = Some((ranks.clone(), here));
            if ranks.rank() > 0 {
                storage::write_nothing();
            }
            // The others would wait forever for a rank that panicked.
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                usual(what);
                if let Some(ranks) = all() {
                    ranks.abort(101);
                }
            }));
        }
        let joined = Joined(ranks);
        if let Err(problem) = check_words() {
            joined.fail(&problem.to_string(), 2);
        }
        Ok(Some(joined))
    }

    /// All ranks must have the same options, except for the number of threads.
    fn check_words() -> Result<()> {
        let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let mut same = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--threads" => drop(words.next()),
                _ if word.starts_with("--threads=") => {}
                _ => same.push(word),
            }
        }
        check_same("version", VERSION)?;
        check_same("options", &format!("\"{}\"", same.join(" ")))
    }

    impl Joined {
        /// Reports why this rank fails, unless a rank before it has reported an error, and ends all of them.
        pub fn fail(&self, text: &str, status: u8) -> ExitCode {
            let Self(ranks) = self;
            if ranks.len() == 1 {
                complain_anyway(&format!("error: {text}"));
                return ExitCode::from(status);
            }
            if ranks.rank() == 0 {
                complain_anyway(&format!("error: {text}"));
            } else {
                thread::sleep(PATIENCE + PATIENCE / 10 * ranks.rank().min(100) as u32);
                complain_anyway(&format!(
                    "error: rank {} of {} on {}: {text}",
                    ranks.rank(),
                    ranks.len(),
                    ranks.machine()
                ));
            }
            ranks.abort(status)
        }
    }

    /// Whether this rank prints and writes files.
    pub fn is_first() -> bool {
        all().is_none_or(|ranks| ranks.rank() == 0)
    }

    /// The greatest number of all ranks.
    pub fn greatest(number: u64) -> u64 {
        all().map_or(number, |ranks| ranks.greatest(number))
    }

    /// Fails on all ranks if the text of one differs from that of rank 0.
    pub fn check_same(what: &'static str, text: &str) -> Result<()> {
        all().map_or(Ok(()), |ranks| ranks.check_same(what, text))
    }

    /// Fails on all ranks if the rows of one differ from those of rank 0.
    pub fn check_rows(rows: Option<Rows<'_>>) -> Result<()> {
        let Some(ranks) = all() else { return Ok(()) };
        let text =
            rows.map_or("no rows".into(), |rows| format!("{} rows, fingerprint {}", rows.len(), fingerprint(rows)));
        ranks.check_same("rows", &text)
    }

    /// The model of the first rank.
    pub fn of_first(shape: Shape, model: impl FnOnce() -> Result<Rbm>) -> Result<Rbm> {
        let Some(ranks) = all() else { return model() };
        let mut rbm = if ranks.rank() == 0 { model()? } else { Rbm::new(shape, 0) };
        ranks.broadcast(&mut rbm)?;
        Ok(rbm)
    }

    /// Opens a device, or with several ranks this one's.
    pub fn open(place: Place, sums: Sums) -> Result<Device> {
        let Some(ranks) = all() else { return place.open(sums) };
        let device = place.open_among(&ranks, sums)?;
        #[cfg(feature = "cuda")]
        if let Device::CudaRanks(on) = &device {
            let most = ranks.greatest(on.sharing() as u64);
            if most > 1 {
                complain(&format!("notice: {most} ranks share a GPU, as a machine has fewer GPUs than ranks"));
            }
        }
        Ok(device)
    }

    /// The number of ranks on this machine.
    pub fn on_this_machine() -> u64 {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(1, |(_, here)| *here)
    }

    /// The requested number of threads; by default this rank's part of the processors that it may use: all of them if no other rank
    /// of this machine is bound to the same ones.
    pub fn threads(requested: Option<usize>) -> Result<Option<usize>> {
        let Some(ranks) = all() else { return Ok(requested) };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bound = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap_or_default();
        let sharing = ranks.neighbours(bound)?;
        let may_use = thread::available_parallelism().map_or(1, usize::from);
        Ok(requested.or(Some((may_use / sharing).max(1))))
    }
}

#[cfg(not(feature = "mpi"))]
mod joined {
    use super::*;
    use harmonium::Error;
    use std::{convert::Infallible, env, process::ExitCode};

    /// No ranks.
    pub struct Joined(Infallible);

    /// Fails if there are others: all of them would write the same files.
    pub fn join() -> Result<Option<Joined>> {
        match launched() {
            None | Some(1) => Ok(None),
            Some(n) => Err(Error::Argument {
                what: "ranks",
                expected: "one process, because this build lacks the feature mpi".into(),
                found: format!("{n} processes from an MPI launcher"),
            }),
        }
    }

    impl Joined {
        pub fn fail(&self, _: &str, _: u8) -> ExitCode {
            match self.0 {}
        }
    }

    /// By the launcher's environment variables.
    pub fn is_first() -> bool {
        let is_other = |name| env::var(name).is_ok_and(|rank| rank != "0");
        !["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"].into_iter().any(is_other)
    }

    pub fn greatest(number: u64) -> u64 {
        number
    }

    pub fn check_same(_: &'static str, _: &str) -> Result<()> {
        Ok(())
    }

    pub fn check_rows(_: Option<Rows<'_>>) -> Result<()> {
        Ok(())
    }

    pub fn of_first(_: Shape, model: impl FnOnce() -> Result<Rbm>) -> Result<Rbm> {
        model()
    }

    pub fn open(place: Place, sums: Sums) -> Result<Device> {
        place.open(sums)
    }

    pub fn on_this_machine() -> u64 {
        1
    }

    pub fn threads(requested: Option<usize>) -> Result<Option<usize>> {
        Ok(requested)
    }
}
