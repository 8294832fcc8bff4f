//! The number of epochs for `--minutes`, measured in a trial run whose result is discarded.

use super::{BUSY, EXCHANGE_STRIDE, Job, Switch, learner::Learner};
use crate::ranks;
use harmonium::{Device, Result};
use std::time::Instant;

/// The trial's fraction of the time, and its greatest length in seconds.
const TRIAL: f64 = 0.05;
const MOST_SECONDS: f64 = 20.0;
/// The fraction of the time for evaluation and files, and for later updates that are slower.
const BESIDES: f64 = 0.08;

/// The number of epochs that fit into the time, including the trial; at least one.
pub fn epochs_within(job: &Job, device: &Device, minutes: f64) -> Result<usize> {
    let mut epochs = job.epochs()?;
    let mut rbm = job.initial_model(&mut epochs)?.on(device)?;
    let mut trainer = job.trainer(device, &rbm, &mut epochs)?;
    let began = Instant::now();
    let window = job.window(0);
    let shown = job.show(&mut epochs, 0, window.clone())?;
    let (data, mut learner) = (device.load(shown.rows.rows())?, Learner::new(&job.options)?);
    let windows = job.in_epoch().div_ceil(window.end);
    let an_epoch = began.elapsed().as_secs_f64() * windows as f64;
    let batches: Vec<_> = window.map(|n| job.batch(n)).collect();
    let seconds = (TRIAL * 60.0 * minutes).min(MOST_SECONDS);
    let mut next_batch = batches.iter().cycle();
    let (mut per_update, mut done) = (0.0, 0_u64);
    // Each number of Gibbs steps gets its part of the trial. The first half of a part is a warm-up of the chains.
    for (k, part) in job.options.k.parts() {
        trainer.set_k(k)?;
        let (begin, mut counted) = (Instant::now(), None);
        let mut n = 0_u64;
        while ranks::any(begin.elapsed().as_secs_f64() < seconds * part) || n < 4 {
            if let Some(range) = next_batch.next() {
                let rows = shown.rows.rows().range(range.clone());
                learner.step(&mut trainer, &mut rbm, data.range(range.clone()), rows, job.options.lr)?;
            }
            (n, done) = (n + 1, done + 1);
            if done.is_multiple_of(EXCHANGE_STRIDE) && job.options.exchange == Switch::On {
                trainer.exchange_busy_units(&mut rbm, BUSY)?;
            }
            if counted.is_none() && n >= 2 && begin.elapsed().as_secs_f64() > seconds * part / 2.0 {
                counted = Some((Instant::now(), n));
            }
        }
        // Wait for a device that runs behind its host.
        trainer.state()?;
        let (from, before) = counted.unwrap_or((begin, 0));
        per_update += part * from.elapsed().as_secs_f64() / (n - before) as f64;
    }
    let left = (60.0 * minutes - seconds) * (1.0 - BESIDES);
    let epoch = an_epoch + per_update * job.in_epoch() as f64;
    Ok(ranks::greatest(((left / epoch) as u64).max(1)) as usize)
}
