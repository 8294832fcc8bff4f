//! Parallel tempering: chains swap states with chains at higher temperatures, which helps them to leave a mode.
//!
//! At inverse temperature β a chain has the distribution p_β(v, h) ∝ e^(-β·E(v, h)). A set has N chains, at temperatures from β = 1
//! down. After some Gibbs steps at each temperature, neighbours swap their hidden layers with the probability
//!
//! > min(1, p_β(h')·p_β'(h)/(p_β(h)·p_β'(h'))),  ln p_β(h) = β·c·h + Σ_g A_g(β) + const.
//!
//! A_g(β) is the log-normaliser of visible variable g at β ([`units`](crate::units)): ln(1 + e^(βa)) for a binary unit,
//! ln Σ_s e^(βa_s) for a Potts site, β·s·a²/2 for a Gaussian unit. For visible units that are [held](Chains::hold) it is β·s·v·a, and
//! all distributions are conditional on these units.
//!
//! Swaps and sweeps leave the product of all p_β invariant. So the coldest chain of a set has the model's distribution, and it moves
//! between modes by way of the hot chains. p_β(h) does not depend on v; swaps by it are accepted more often than swaps of both layers
//! by their energies.
//!
//! Sources: R. H. Swendsen, J.-S. Wang, "Replica Monte Carlo simulation of spin glasses", 1986; G. Desjardins, A. Courville,
//! Y. Bengio, P. Vincent, O. Delalleau, "Tempered Markov chain Monte Carlo for training of restricted Boltzmann machines", 2010;
//! K. Cho, T. Raiko, A. Ilin, "Parallel tempering is efficient for learning restricted Boltzmann machines", 2010.
//!
//! # Random numbers
//!
//! The chains draw as [`Chains`] do; chain t·M + m is the chain of set m that began at temperature t. Exchange number r, counted from
//! 0, may swap temperatures t and t + 1 if t + r is even. In set m it compares the probability with number
//! r·M·(N - 1) + m·(N - 1) + t of a separate sequence ([`Purpose::Exchanging`](crate::Purpose::Exchanging)); this holds if the ladder
//! has N temperatures from the start. Swaps use `f64`, sums over ascending units, and logarithms that are the same on every machine.
//! With canonical sums of the device, they are therefore the same for any number of threads and any instruction set.

mod density;
mod ladder;

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    gibbs::{Chains, check_k, check_number},
    lanes::threads::{RowsMut, share},
    rbm::check,
    resident::Resident,
    rows::{Rows, Values},
    shape::{Layer, Shape},
    uniforms::{END_STEP, Uniforms},
    verbs::{Activations, ChainState, unpack},
};
use density::Scratch;
use ladder::{Measured, Pair, WARMEST, even};
use rand_core::Rng;

/// The relative lengths of the parts of a burn-in. The first parts use all temperatures, the middle parts those that are kept; each part
/// ends with new inverse temperatures. The last part has a fixed ladder.
const PARTS: [usize; 8] = [1, 1, 2, 2, 2, 2, 4, 2];
/// The number of parts with all temperatures.
const FULL: usize = 4;

/// The inverse temperatures of the chains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ladder<'a> {
    /// These inverse temperatures: at least two, falling from 1 to 0 or more (above 0 with Gaussian units).
    Fixed(&'a [f32]),
    /// Chosen by a burn-in, such that neighbours swap with a probability of 30 % to 60 % each. The ladder goes from 1 down to 0, or to
    /// 1/64 with Gaussian units. If `at_most` temperatures do not reach so far, the ladder ends where neighbours still swap at 41 %. Each
    /// round is an exchange and a Gibbs step. 1000 rounds measure the rates of a single set to about 5 %. Source: S. Syed, A.
    /// Bouchard-Côté, G. Deligiannidis, A. Doucet, "Non-reversible parallel tempering", 2019, section 5.
    Adapted {
        /// The greatest number of temperatures, at least 2.
        at_most: usize,
        /// The number of rounds of burn-in, at least 100.
        rounds: usize,
    },
}

/// M sets of N chains, one for each temperature, whose neighbours swap states; see the [module](self) for the equations.
///
/// ```
/// use harmonium::{Activations, Chains, Cpu, Ladder, Purpose, Rbm, Shape, Tempered, Uniforms};
///
/// # fn main() -> harmonium::Result<()> {
/// // Two modes: all units on, or all off. A chain at β = 1 almost never changes between them.
/// let rbm = Rbm::from_parts(Shape::new(4, 4)?, vec![7.0; 16], vec![-14.0; 4], vec![-14.0; 4])?.on(Cpu::detect()?)?;
/// let start = Chains::from_hidden_bias(&rbm, 10, Uniforms::new(123, Purpose::Sampling))?;
/// let ladder = Ladder::Adapted { at_most: 10, rounds: 1000 };
/// let mut chains = Tempered::new(&rbm, &start, ladder, Uniforms::new(123, Purpose::Exchanging))?;
/// let (mut coldest, mut on) = (Activations::default(), 0.0);
/// for _ in 0..1000 {
///     chains.step(&rbm, 1)?;
///     chains.coldest(&rbm, &mut coldest)?;
///     on += coldest.sample.iter().sum::<f32>() / 40.0 / 1000.0;
/// }
/// assert!((on - 0.5).abs() < 0.1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tempered {
    /// Chain t·M + m.
    chains: Chains,
    sets: usize,
    betas: Vec<f32>,
    /// The chain at temperature t of set m, at index m·N + t.
    places: Vec<usize>,
    exchanges: Uniforms,
    rounds: u64,
    pairs: Vec<Pair>,
    /// For each chain: whether it has reached the hottest temperature since it last was at the coldest.
    was_hottest: Vec<bool>,
    round_trips: u64,
    down: Activations,
}

impl Tempered {
    /// Creates one set for each of the chains `start`. All temperatures of a set begin at that chain's hidden state, use its random
    /// numbers, and hold the same visible units.
    ///
    /// An [adapted](Ladder::Adapted) ladder makes its burn-in here. An exchange costs a half-step of M·N chains and two exponentials
    /// a visible unit; with 784 × 500 units this is about two or three Gibbs steps of as many chains.
    ///
    /// # Errors
    /// [`Error::Argument`] if the chains belong to another RBM, there are fewer than two temperatures, fewer than 100 rounds or too
    /// many chains, or inverse temperatures do not fall from 1; [`Error::Value`] if one is not finite.
    pub fn new(rbm: &Resident, start: &Chains, ladder: Ladder<'_>, exchanges: Uniforms) -> Result<Self> {
        start.check_belongs(rbm)?;
        let floor = if rbm.shape.visible().is_discrete() { 0.0 } else { WARMEST };
        let betas = match ladder {
            Ladder::Fixed(betas) => {
                check_betas(betas, rbm.shape)?;
                betas.to_vec()
            }
            Ladder::Adapted { at_most, rounds } => {
                for (what, least, found) in [("temperatures", 2, at_most), ("rounds", 100, rounds)] {
                    if found < least {
                        let (expected, found) = (format!("at least {least}"), found.to_string());
                        return Err(Error::Argument { what, expected, found });
                    }
                }
                check_number("chains at all temperatures", 1, rbm.shape, start.len().saturating_mul(at_most))?;
                even(at_most, floor)
            }
        };
        check_number("chains at all temperatures", 1, rbm.shape, start.len().saturating_mul(betas.len()))?;
        let (sets, n) = (start.len(), betas.len());
        let given = start.state()?;
        let state = ChainState { hidden: given.hidden.repeat(n), betas: vec![1.0; sets * n], ..given };
        let mut new = Self {
            chains: Chains::from_state(start.device(), rbm.shape, &state)?,
            sets,
            betas,
            places: first_places(sets, n),
            exchanges,
            rounds: 0,
            pairs: vec![Pair::default(); n - 1],
            was_hottest: vec![false; sets * n],
            round_trips: 0,
            down: Activations::default(),
        };
        new.hold_as(start)?;
        new.temper()?;
        if let Ladder::Adapted { rounds, .. } = ladder {
            new.adapt(rbm, rounds, floor)?;
        }
        Ok(new)
    }

    /// The number of sets, M.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.sets
    }

    /// The inverse temperatures, from 1 down; N values.
    pub fn betas(&self) -> &[f32] {
        &self.betas
    }

    /// The mean probability of a swap between temperatures t and t + 1 since the ladder was made, N - 1 values; NaN if they had no
    /// chance to swap.
    pub fn rates(&self) -> Vec<f64> {
        self.pairs.iter().map(|pair| pair.rate()).collect()
    }

    /// The number of times that a chain has gone from the coldest temperature to the hottest one and back, since the ladder was made.
    /// Each round trip brings a state to β = 1 that has been at the hottest temperature since the last one.
    pub fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// Makes an exchange, then k Gibbs steps at each temperature.
    ///
    /// # Errors
    /// [`Error::Argument`] if k is 0 or the RBM has another shape.
    pub fn step(&mut self, rbm: &Resident, k: usize) -> Result<()> {
        check_k(k)?;
        self.chains.check_belongs(rbm)?;
        self.exchange(rbm, false)?;
        self.chains.sweep(rbm, k)
    }

    /// Writes the visible layer of the last step at β = 1: pre-activations (log-odds), means and samples, sets × n_visible.
    ///
    /// Costs a copy of the visible layers of all temperatures.
    ///
    /// # Errors
    /// [`Error::Argument`] if the RBM has another shape, [`Error::Device`] if it is on another device.
    pub fn coldest(&self, rbm: &Resident, out: &mut Activations) -> Result<()> {
        let (mut all, units, n) = (Activations::default(), rbm.shape.n_visible(), self.betas.len());
        self.chains.visible(rbm, &mut all)?;
        out.resize(self.sets * units, true);
        for (m, &chain) in self.places.iter().step_by(n).enumerate() {
            let (from, to) = (chain * units..(chain + 1) * units, m * units..(m + 1) * units);
            out.pre_activation[to.clone()].copy_from_slice(&all.pre_activation[from.clone()]);
            out.mean[to.clone()].copy_from_slice(&all.mean[from.clone()]);
            out.sample[to].copy_from_slice(&all.sample[from]);
        }
        Ok(())
    }

    /// The chains at all temperatures.
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// Chooses the ladder by a burn-in.
    fn adapt(&mut self, rbm: &Resident, rounds: usize, floor: f32) -> Result<()> {
        let all: usize = PARTS.iter().sum();
        let mut done = 0;
        for (number, part) in PARTS.into_iter().enumerate() {
            self.pairs.fill(Pair::default());
            for _ in 0..rounds * (done + part) / all - rounds * done / all {
                self.exchange(rbm, true)?;
                self.chains.sweep(rbm, 1)?;
            }
            done += part;
            let measured = Measured::new(&self.betas, &self.pairs, floor);
            let n = self.betas.len();
            if number + 1 == FULL {
                let best = measured.best_number(n);
                let betas = measured.ladder(best);
                self.keep(betas)?;
            } else if number + 1 < PARTS.len() {
                self.betas = measured.ladder(n);
                self.temper()?;
            }
        }
        self.pairs.fill(Pair::default());
        self.was_hottest.fill(false);
        self.round_trips = 0;
        Ok(())
    }

    /// Continues at these temperatures with as many of the chains, taken evenly from the ladder.
    fn keep(&mut self, betas: Vec<f32>) -> Result<()> {
        let (before, n, words) = (self.betas.len(), betas.len(), self.chains.state()?);
        let width = words.hidden.len() / words.betas.len();
        let mut hidden = Vec::with_capacity(self.sets * n * width);
        for t in 0..n {
            let from = t * (before - 1) / (n - 1);
            for m in 0..self.sets {
                hidden.extend_from_slice(&words.hidden[self.places[m * before + from] * width..][..width]);
            }
        }
        let state = ChainState { hidden, betas: vec![1.0; self.sets * n], uniforms: words.uniforms };
        let chains = Chains::from_state(self.chains.device(), self.chains.shape(), &state)?;
        let before = std::mem::replace(&mut self.chains, chains);
        self.hold_as(&before)?;
        self.places = first_places(self.sets, n);
        self.pairs = vec![Pair::default(); n - 1];
        self.was_hottest = vec![false; self.sets * n];
        self.betas = betas;
        self.temper()
    }

    /// Holds the visible units that `others` hold; the first chains of `others` have one chain of each set.
    fn hold_as(&mut self, others: &Chains) -> Result<()> {
        let Some(held) = others.held() else { return Ok(()) };
        let held = held.range(0..self.sets).to_vec().repeat(self.chains.len() / self.sets);
        self.chains.hold(Dataset::with_missing(held, self.chains.shape().visible())?.rows())
    }

    /// Sets the inverse temperature of each chain to that of its place in the ladder.
    fn temper(&mut self) -> Result<()> {
        let mut betas = vec![1.0; self.places.len()];
        for (at, &chain) in self.places.iter().enumerate() {
            betas[chain] = self.betas[at % self.betas.len()];
        }
        self.chains.temper(&betas)
    }

    /// Swaps neighbours. Measures all pairs, or only those that may swap.
    fn exchange(&mut self, rbm: &Resident, measure_all: bool) -> Result<()> {
        let (n, rounds) = (self.betas.len(), self.rounds);
        let may_swap = |t: usize| (t as u64 + rounds).is_multiple_of(2);
        let is_wanted = |t: usize| t + 1 < n && (measure_all || may_swap(t));
        let densities = self.densities(rbm, &is_wanted)?;
        let mut generator = self.exchanges.generator();
        self.exchanges.skip((self.sets * (n - 1)) as u64);
        for places in self.places.chunks_exact_mut(n) {
            // The next pair is measured with the states before this pair's swap.
            let before = places.to_vec();
            for t in 0..n - 1 {
                let x = generator.next_u32();
                if !is_wanted(t) {
                    continue;
                }
                let (cold, hot) = (densities[before[t]], densities[before[t + 1]]);
                let log_ratio = cold[HOTTER] - cold[OWN] + (hot[COLDER] - hot[OWN]);
                let accept = if log_ratio >= 0.0 { 1.0 } else { libm::exp(log_ratio) };
                let pair = &mut self.pairs[t];
                pair.n += 1;
                pair.accepted += accept;
                pair.divergence -= log_ratio;
                let u = (f64::from(x) + 0.5) * f64::from(END_STEP);
                if may_swap(t) && u < accept {
                    places.swap(t, t + 1);
                }
            }
            self.was_hottest[places[n - 1]] = true;
            self.round_trips += u64::from(std::mem::take(&mut self.was_hottest[places[0]]));
        }
        self.rounds += 1;
        self.temper()
    }

    /// ln p_β(h) of each chain, up to a constant of β, at the next colder temperature, at its own, and at the next hotter one. Only the
    /// values that the wanted pairs need are computed.
    fn densities(&mut self, rbm: &Resident, is_wanted: &(impl Fn(usize) -> bool + Sync)) -> Result<Vec<[f64; 3]>> {
        let (shape, n, sets) = (rbm.shape, self.betas.len(), self.sets);
        let mut hidden = vec![0.0; sets * n * shape.n_hidden()];
        unpack(&self.chains.state()?.hidden, shape.n_hidden(), &mut hidden);
        rbm.propdown(rbm.rows(Layer::Hidden, &hidden), &mut self.down)?;
        let of_nothing = vec![0; shape.n_visible()];
        let mut up = Activations::default();
        rbm.propup(Rows::of(Values::U8(&of_nothing), shape.visible()), &mut up)?;
        let precision = match shape.visible().is_discrete() {
            true => vec![1.0; shape.n_visible()],
            false => rbm.to_rbm()?.view().precision(),
        };
        let mut temperatures = vec![0; sets * n];
        self.places.iter().enumerate().for_each(|(at, &chain)| temperatures[chain] = at % n);
        let (betas, pre, held) = (&self.betas, &self.down.pre_activation, self.chains.held());
        let mut out = vec![[0.0; 3]; sets * n];
        share(RowsMut::new(1, &mut out), &|part: RowsMut<'_, [f64; 3]>| {
            let mut scratch = Scratch::new(shape);
            for (out, chain) in part.values.iter_mut().zip(part.first..) {
                let t = temperatures[chain];
                let pre = &pre[chain * shape.n_visible()..][..shape.n_visible()];
                let hidden = &hidden[chain * shape.n_hidden()..][..shape.n_hidden()];
                let own: f64 = hidden.iter().zip(&up.pre_activation).map(|(&h, &c)| f64::from(h) * f64::from(c)).sum();
                let own = own + held.map_or(0.0, |held| scratch.hold(&held.range(chain..chain + 1), pre, &precision));
                let (colder, hotter) = (t > 0 && is_wanted(t - 1), is_wanted(t));
                let mut at = |t: usize| scratch.log_density(own, pre, &precision, betas[t]);
                if colder || hotter {
                    *out = [if colder { at(t - 1) } else { 0.0 }, at(t), if hotter { at(t + 1) } else { 0.0 }];
                }
            }
        });
        Ok(out)
    }
}

/// The initial places: chain t·M + m is at temperature t of set m.
fn first_places(sets: usize, n: usize) -> Vec<usize> {
    (0..sets).flat_map(|m| (0..n).map(move |t| t * sets + m)).collect()
}

/// Indices into the results of [`Tempered::densities`].
const COLDER: usize = 0;
const OWN: usize = 1;
const HOTTER: usize = 2;

/// Checks that inverse temperatures fall from 1 to 0 or more, or to above 0 with Gaussian units.
fn check_betas(betas: &[f32], shape: Shape) -> Result<()> {
    check("betas", betas, betas.len())?;
    let may_be = |&beta: &f32| if shape.visible().is_discrete() { beta >= 0.0 } else { beta > 0.0 };
    let falls = betas.windows(2).all(|two| two[1] < two[0]);
    if betas.len() >= 2 && betas[0] == 1.0 && falls && betas.last().is_some_and(may_be) {
        return Ok(());
    }
    let end = if shape.visible().is_discrete() { "0 or more" } else { "above 0, as there are Gaussian units" };
    Err(Error::Argument {
        what: "betas",
        expected: format!("at least two numbers that fall from 1 to {end}"),
        found: format!("{betas:?}"),
    })
}
