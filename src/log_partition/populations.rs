//! The chains that reverse runs start from: three populations, and a test of whether they mix.

use super::{
    annealing::{Annealing, Start, burn_in, resampled},
    bound::Visited,
};
use crate::{
    diagnostics::{Recorder, statistics::Difference},
    error::Result,
    gibbs::Chains,
    resident::Resident,
    uniforms::{Purpose, Uniforms, unit_interval},
    verbs::ChainState,
};
use rand_core::Rng;

/// The number of records of each chain over the second half of the burn-in.
const RECORDS: usize = 200;
/// The number of overlaps that are recorded besides the free energy.
const OVERLAPS: usize = 4;
/// R̂ above which chains do not mix. A hundred chains reach it if one of them stays five standard deviations away from the others,
/// or if the record has a length of only five autocorrelation times.
const MAX_R_HAT: f64 = 1.1;
/// The probability that the populations of chains that mix are taken for different ones.
const FALSE_ALARM: f64 = 0.001;

/// The chains that reverse runs start from, population after population with the grown one first; and the size of each population.
///
/// Three tenths of `runs` are grown, three tenths come from `start`, and two tenths are spread. Without rows or chains six tenths
/// are grown. Random numbers are drawn in the order grown, given, spread.
pub(super) fn chains(
    rbm: &Resident, start: Start<'_>, settings: &Annealing, weights: &[f64], ends: &[u64],
) -> Result<(Chains, Vec<usize>)> {
    let (shape, words) = (rbm.shape(), rbm.shape().n_hidden().div_ceil(64));
    let part = (3 * settings.runs / 10).max(1);
    let mut draws = Uniforms::new(settings.seed, Purpose::Sampling);
    let grown = if matches!(start, Start::Annealed) { 2 * part } else { part.max(2) };
    let mut hidden = resampled(weights, ends, words, grown, &mut draws);
    let mut populations = vec![grown];
    let given = match start {
        Start::Annealed => None,
        Start::Rows(rows) => Some(Chains::from_visible(rbm, rows, draws.clone())?.state()?),
        Start::Chains(chains) => Some(ChainState { uniforms: draws.clone(), ..chains.state()? }),
    };
    if let Some(given) = given {
        draws = given.uniforms;
        let order = draws.permutation(given.betas.len());
        let chosen = order.iter().cycle().take(part);
        chosen.for_each(|&chain| hidden.extend_from_slice(&given.hidden[chain * words..][..words]));
        populations.push(part);
    }
    let spread = (settings.runs / 5).max(1);
    populations.push(spread);
    let mut generator = draws.generator();
    for chain in 0..spread {
        let density = chain as f32 / (spread - 1).max(1) as f32;
        let mut state = vec![0; words];
        for unit in 0..shape.n_hidden() {
            state[unit / 64] |= u64::from(unit_interval(generator.next_u32()) < density) << (unit % 64);
        }
        hidden.extend(state);
    }
    draws.skip((spread * shape.n_hidden()) as u64);
    let betas = vec![1.0; hidden.len() / words];
    let state = ChainState { hidden, betas, uniforms: draws };
    Ok((Chains::from_state(rbm.device(), shape, &state)?, populations))
}

/// A measure of how chains mix.
#[derive(Clone, Copy)]
pub(super) struct Mixing {
    /// The greatest R̂; NaN if no number changes.
    pub r_hat: f64,
    /// The probability that populations of chains that mix differ by more.
    pub probability: f64,
}

impl Mixing {
    pub fn mixes(self) -> bool {
        // No number changes if a single state has all of the probability. Chains that stay apart make R̂ infinite.
        (self.r_hat.is_nan() || self.r_hat <= MAX_R_HAT) && self.probability >= FALSE_ALARM
    }
}

/// Burns chains in, and measures their mixing in the second half; `None` if the burn-in is too short for that.
pub(super) fn burn_in_and_measure(
    rbm: &Resident, chains: &mut Chains, populations: &[usize], steps: usize, visited: &mut Visited,
    watch: &mut dyn FnMut(usize),
) -> Result<Option<Mixing>> {
    let every = (steps / 2 / RECORDS).max(1);
    let records = (steps / 2 / every).min(RECORDS);
    burn_in(rbm, chains, steps - records * every, watch)?;
    let mut recorder = Recorder::new(rbm, chains, OVERLAPS);
    for _ in 0..records {
        chains.sweep(rbm, every)?;
        recorder.record(rbm, chains)?;
        visited.take(rbm, chains)?;
        watch(every);
    }
    // R̂ needs two draws in each half of a chain.
    if records < 4 {
        return Ok(None);
    }
    let probability = difference_probability(recorder.chain_means(), populations);
    Ok(Some(Mixing { r_hat: recorder.health()?.worst_r_hat(), probability }))
}

/// The probability that any two populations of the same distribution differ by more, in the mean of any statistic: at most this, by
/// Bonferroni's inequality.
fn difference_probability(statistics: impl Iterator<Item = Vec<f64>>, populations: &[usize]) -> f64 {
    let (mut least, mut comparisons) = (1.0f64, 0.0);
    for means in statistics {
        let mut rest = means.as_slice();
        let each = populations.iter().map(|&n| rest.split_off(..n).unwrap_or_default());
        let each: Vec<&[f64]> = each.collect();
        for (n, one) in each.iter().enumerate() {
            for other in &each[..n] {
                least = least.min(Difference::of(one, other).probability());
                comparisons += 1.0;
            }
        }
    }
    least * comparisons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Rbm, Rows, Shape, Values};

    /// Hidden unit j is on if bit j of the row's number is, so that the chains show which rows they come from.
    #[test]
    fn given_chains_come_from_rows_all_over() {
        let weights = (0..49).map(|k| if k % 8 == 0 { 100.0 } else { 0.0 }).collect();
        let rbm = Rbm::from_parts(Shape::new(7, 7).expect("a shape"), weights, vec![0.0; 7], vec![-50.0; 7]);
        let resident = rbm.expect("a model").on(Cpu::detect().expect("a CPU")).expect("resident");
        let rows: Vec<f32> = (0..700).map(|k| ((k / 7) >> (k % 7) & 1) as f32).collect();
        let rows = Rows::new(Values::F32(&rows), 7).expect("rows");
        let settings = Annealing { runs: 50, ..Annealing::default() };
        let (chains, populations) =
            chains(&resident, Start::Rows(rows.into()), &settings, &[0.0, 0.0], &[3, 5]).expect("chains");
        assert_eq!(populations, [15, 15, 10]);
        let hidden = chains.state().expect("a state").hidden;
        assert!(hidden[..15].iter().all(|end| [3, 5].contains(end)), "{hidden:?}");
        let mut given = hidden[15..30].to_vec();
        given.sort_unstable();
        given.dedup();
        assert!(given.len() == 15 && given[14] < 100, "each row once: {hidden:?}");
        assert!(given[3] < 50 && given[11] >= 50, "all over: {hidden:?}");
        // From all units off to all on.
        assert_eq!((hidden[30], hidden[39]), (0, 127));
    }

    /// The third of three populations lies 1 higher, and means scatter by 0.3: 15 chains show it, 2 do not.
    #[test]
    fn populations_are_compared_by_their_chains() {
        let near = |chain: usize| (chain as f64 * 0.618).fract() - 0.5;
        let means = |n: usize, last: f64| -> Vec<f64> {
            (0..3 * n).map(|chain| near(chain) + if chain < 2 * n { 0.0 } else { last }).collect()
        };
        let alike = difference_probability([means(15, 0.0), means(15, 0.0)].into_iter(), &[15, 15, 15]);
        assert_eq!(alike, 6.0);
        let differ = difference_probability([means(15, 0.0), means(15, 1.0)].into_iter(), &[15, 15, 15]);
        assert!(differ < 1e-6, "{differ}");
        // A difference of 1 and a standard error of √(2·0.3²/15) are 9 of them, of some 28 degrees of freedom.
        assert!(differ > 1e-14, "{differ}");
        assert!(difference_probability([means(2, 1.0)].into_iter(), &[2, 2, 2]) >= FALSE_ALARM);
        assert!(difference_probability([means(1, 1.0)].into_iter(), &[1, 1, 1]) >= FALSE_ALARM);
    }
}
