//! Several processes as one CPU, over MPI.
//!
//! Each rank has a [`Cpu`] with a [`Part`]: before the CPU splits work among its threads, it selects the rank's part. Buffers
//! have their full size on every rank, and every draw has its position in the one sequence, so a rank's rows, chains and hidden
//! tiles are the same as with one process. [`Ranks`] calls the CPU and then exchanges the results that others need: copies of
//! numbers, never sums. So nothing can round differently.
//!
//! # Traffic
//!
//! With M chains, B rows, n visible and m hidden units and R ranks, a rank receives in an update, in bytes:
//!
//! | what | collective | bytes |
//! |---|---|---|
//! | the visible bits of all chains (numbers with Gaussian units) | all-gather | (R-1)/R·M·8⌈n/64⌉ (4n) |
//! | the hidden means of its own columns, of all rows and chains | all-to-all | (R-1)/R·4(M + B)·m/R |
//! | all columns of W and of c (by rules also of λ and q) | all-gather | (R-1)/R·4(n + 1)·m (n + 3) |
//! | by rules: the factors a and d of rows and chains | four all-gathers | (R-1)/R·8(M + B) |
//! | with a monitor: its terms | all-gather | (R-1)/R·8B |
//!
//! The command adds one all-reduce of eight bytes, by which ranks agree on signals. Ranks own hidden tiles, not visible ones,
//! because then every rank needs bits, which are 32 times smaller than means: owners of visible tiles would need all means of
//! all chains, 4(M + B)·m bytes, R times as many. Two costs do not shrink with R: the third line, and the transposition of the
//! visible bits of all chains on each rank. With more ranks than tiles some own none; they still carry chains, which is nearly
//! all of the work.
//!
//! # When another machine pays off
//!
//! Let s be the time that a machine takes for one step of one chain, β the bytes a second of the network, α its latency. The
//! second machine takes over half of the steps, and costs the traffic of the table for R = 2. It pays off if
//!
//! > M·k·s/2 > (M·(n/16 + m) + 2·n·m)/β + 4α.
//!
//! For many chains that is k > 2(n/16 + m)/(s·β), for few k·M > 4·n·m/(s·β): the weights are exchanged for any number of
//! chains. So ranks are for many chains and many steps. They are not for the tutorial's 20 chains, nor for k = 1 unless the
//! network is fast relative to the machine.
//!
//! The traffic of two ranks and its time, and the smallest k for which the second machine pays off by this formula; 784 × 500
//! units,
//! 20 rows, nine tenths of the networks' rates, latencies of 20, 2 and 1 µs. s is 2.9 µs on the two measured cores; 64 of
//! them would have 0.09 µs:
//!
//! | chains | MB | 10 Gbit/s | 100 Gbit/s | shared memory, 4 GB/s | k, two cores | k, 64 cores |
//! |---|---|---|---|---|---|---|
//! | 20 | 0.81 | 0.80 ms | 0.08 ms | 0.21 ms | 28, 3, 8 | 875, 88, 226 |
//! | 100 | 0.86 | 0.84 ms | 0.08 ms | 0.22 ms | 6, 1, 2 | 184, 19, 48 |
//! | 1000 | 1.35 | 1.28 ms | 0.13 ms | 0.34 ms | 1, 1, 1 | 29, 3, 8 |
//! | 10 000 | 6.32 | 5.69 ms | 0.57 ms | 1.58 ms | 1, 1, 1 | 13, 2, 4 |
//! | 100 000 | 56.0 | 49.9 ms | 4.99 ms | 14.0 ms | 1, 1, 1 | 12, 2, 4 |
//!
//! benches/ranks.py adds the time of packing and of the gradient, for up to 64 machines.
//!
//! # What every rank computes
//!
//! Biases of visible units, means of parameters ([`Learning::approach`]), ln σ² and the caller's gradients
//! ([`Learning::apply`]) are passes over data that every rank has anyway. Every rank also computes
//! [`Energies::free_energy_gradient`].

mod exchange;
mod world;

pub use world::Traffic;

use super::{
    chains::CpuChains,
    descend::CpuRule,
    host::{Cpu, Part},
    parameters::CpuParameters,
    statistics::CpuWork,
    tiles::tiles,
};
use crate::{
    descent::{Pace, RuleState},
    error::Result,
    rbm::{Gradient, Rbm, RbmMut, RbmRef},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
    verbs::{
        Activations, BatchMeans, ChainState, Conditionals, Contrasting, Energies, Learning, Memory, Plan, Sampling,
        Tempering, Watch,
    },
};
#[cfg(feature = "cuda")]
use mpi::traits::Equivalence;
use sha2::{Digest, Sha256};
use std::{
    fmt::{self, Debug, Display},
    sync::Arc,
};
use world::World;

/// The processes that `mpirun` has started, as one device: each computes its part, and all get the results.
///
/// Every rank runs the same program and makes the same calls in the same order; each call that computes waits for the others.
/// With canonical sums all ranks have the bits of a single process.
///
/// ```no_run
/// use harmonium::{Cpu, Ranks, Rbm, Settings, Shape, Trainer, formats, model};
///
/// # fn main() -> harmonium::Result<()> {
/// let ranks = Ranks::join(Cpu::detect()?)?;                   // without mpirun it is the only rank
/// let data = formats::open("train.npy")?.rows;                    // every rank reads it
/// let mut rbm = Rbm::new(Shape::new(data.units(), 500)?, 123).on(&ranks)?;
/// let mut trainer = Trainer::new(&ranks, rbm.shape(), Settings::default())?;
/// for batch in data.batches(20) {
///     trainer.step(&mut rbm, data.rows().range(batch), 0.1)?;
/// }
/// let trained = rbm.to_rbm()?;
/// if ranks.rank() == 0 {
///     model::save(trained.view(), "model.safetensors".as_ref())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ranks {
    /// For the computations of every rank, and for shared ones.
    cpu: Cpu,
    own: Cpu,
    world: Arc<World>,
}

impl Ranks {
    /// Joins the ranks that this process was started with: MPI's world. MPI ends when the last copy of the result
    /// is dropped, which must be in the thread that called this.
    ///
    /// # Errors
    /// Returns [`Error::Argument`](crate::Error::Argument) if the process has called MPI before, or if MPI does not support
    /// calls from all threads.
    pub fn join(cpu: Cpu) -> Result<Self> {
        let world = Arc::new(World::join()?);
        Ok(Self { cpu, own: Cpu { part: world.part, ..cpu }, world })
    }

    /// The same ranks with another instruction set or other sums.
    pub fn with_cpu(&self, cpu: Cpu) -> Self {
        Self { cpu, own: Cpu { part: self.world.part, ..cpu }, world: self.world.clone() }
    }

    /// The CPU of this rank.
    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// The number of this rank, counted from 0.
    pub fn rank(&self) -> usize {
        self.world.part.rank
    }

    /// The number of ranks, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.world.part.of
    }

    /// The name of the machine of this rank.
    pub fn machine(&self) -> String {
        world::machine()
    }

    /// The greatest `number` of all ranks, so that they agree on values that depend on time or on signals.
    pub fn greatest(&self, number: u64) -> u64 {
        self.world.greatest(number)
    }

    /// Fails on all ranks if the `text` of one differs from that of rank 0.
    ///
    /// # Errors
    /// Returns [`Error::Argument`](crate::Error::Argument) with `what`, the text of rank 0 and the first different one.
    pub fn check_same(&self, what: &'static str, text: &str) -> Result<()> {
        self.world.check_same(what, text)
    }

    /// Copies the parameters of rank 0 to every rank.
    ///
    /// `rbm` must have the same shape on all ranks.
    ///
    /// # Errors
    /// Returns [`Error::Argument`](crate::Error::Argument) if there are more parameters than MPI can count.
    pub fn broadcast(&self, rbm: &mut Rbm) -> Result<()> {
        let (weights, visible_bias, hidden_bias, log_variance) = rbm.view_mut().parts();
        let parts = [weights, visible_bias, hidden_bias, log_variance];
        parts.into_iter().try_for_each(|numbers| self.world.broadcast(numbers))
    }

    /// The number of ranks on this machine, including this one, with the same `text`.
    ///
    /// # Errors
    /// Returns [`Error::Argument`](crate::Error::Argument) if the texts are longer than MPI can count.
    pub fn neighbours(&self, text: &str) -> Result<usize> {
        Ok(self.world.neighbours(text)?.0)
    }

    /// The communication of this rank so far.
    pub fn traffic(&self) -> Traffic {
        self.world.traffic()
    }

    /// Ends all ranks at once, with this exit status: for a rank that cannot continue, because the others would wait forever.
    pub fn abort(&self, status: u8) -> ! {
        self.world.abort(status.into())
    }

    pub(crate) fn check_parameters(&self, rbm: RbmRef<'_>) -> Result<()> {
        let biases = [rbm.visible_bias(), rbm.hidden_bias(), rbm.visible_log_variance()];
        self.check_numbers("parameters", biases.into_iter().chain([rbm.weights()]))
    }

    pub(crate) fn check_chains(&self, ChainState { hidden, betas, uniforms }: &ChainState) -> Result<()> {
        let mut hash = Sha256::new();
        hash.update(format!("{betas:?} {uniforms:?}"));
        hidden.iter().for_each(|word| hash.update(word.to_le_bytes()));
        self.check_digest("chains", hash)
    }

    pub(crate) fn check_rule(&self, state: &RuleState) -> Result<()> {
        let offsets = [&state.visible_offset[..], &state.hidden_offset, &state.hidden_mean];
        let velocity = state.velocity.iter().flat_map(|g| [&g.weights[..], &g.visible_bias, &g.hidden_bias]);
        self.check_numbers("rule", offsets.into_iter().chain(velocity))
    }

    /// Fails on all ranks if the numbers of one differ from those of rank 0.
    fn check_numbers<'a>(&self, what: &'static str, numbers: impl IntoIterator<Item = &'a [f32]>) -> Result<()> {
        let mut hash = Sha256::new();
        for numbers in numbers {
            for part in numbers.chunks(1 << 12) {
                hash.update(part.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect::<Vec<_>>());
            }
        }
        self.check_digest(what, hash)
    }

    fn check_digest(&self, what: &'static str, hash: Sha256) -> Result<()> {
        let digits = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        self.check_same(what, &format!("SHA-256 {digits}…"))
    }
}

/// For devices that are not CPUs.
#[cfg(feature = "cuda")]
impl Ranks {
    /// The part of this rank.
    pub(crate) fn part(&self) -> Part {
        self.world.part
    }

    /// How many ranks of this machine come before this one, and how many there are.
    pub(crate) fn place(&self) -> Result<(usize, usize)> {
        let (here, before) = self.world.neighbours("")?;
        Ok((before, here))
    }

    /// Each rank has its part of the rows of `values`; then each has all of them.
    pub(crate) fn all_gather<T: Equivalence + Clone>(&self, values: &mut [T], width: usize) -> Result<()> {
        self.world.all_gather(values, width)
    }

    /// Every rank gets the numbers of the first one.
    pub(crate) fn of_first<T: Equivalence>(&self, numbers: &mut [T]) -> Result<()> {
        self.world.broadcast(numbers)
    }
}

impl PartialEq for Ranks {
    fn eq(&self, other: &Self) -> bool {
        self.cpu == other.cpu && Arc::ptr_eq(&self.world, &other.world)
    }
}

impl Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { rank, of } = self.world.part;
        f.debug_struct("Ranks").field("cpu", &self.cpu).field("rank", &rank).field("of", &of).finish()
    }
}

impl Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} on {}", self.rank(), self.len(), self.cpu)
    }
}

impl Memory for Ranks {
    type Parameters = CpuParameters;
    type Chains = CpuChains;
    type Work = CpuWork;
    type Rule = CpuRule;
    type Batch<'a> = Rows<'a>;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<CpuParameters> {
        self.check_parameters(rbm)?;
        self.cpu.upload(rbm)
    }

    fn download(&self, parameters: &CpuParameters, to: RbmMut<'_>) -> Result<()> {
        self.cpu.download(parameters, to)
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<CpuChains> {
        self.check_chains(state)?;
        self.cpu.chains(shape, state)
    }

    fn n_chains(chains: &CpuChains) -> usize {
        Cpu::n_chains(chains)
    }

    fn chain_state(&self, chains: &CpuChains) -> Result<ChainState> {
        let mut state = chains.state();
        self.world.all_gather(&mut state.hidden, tiles(chains.shape.n_hidden()))?;
        Ok(state)
    }

    fn temper(&self, chains: &mut CpuChains, betas: &[f32]) -> Result<()> {
        self.cpu.temper(chains, betas)
    }

    fn work(&self, shape: Shape) -> Result<CpuWork> {
        self.cpu.work(shape)
    }

    fn rule(&self, shape: Shape, state: &RuleState) -> Result<CpuRule> {
        self.check_rule(state)?;
        self.cpu.rule(shape, state)
    }

    /// Velocities are those of the hidden tiles that a rank owns.
    fn rule_state(&self, rule: &CpuRule, shape: Shape) -> Result<RuleState> {
        let mut state = self.cpu.rule_state(rule, shape)?;
        if let Some(Gradient { weights, hidden_bias, .. }) = &mut state.velocity {
            self.gather_columns(shape, weights, hidden_bias)?;
        }
        Ok(state)
    }
}

impl Conditionals for Ranks {
    fn conditional(
        &self, parameters: &CpuParameters, rows: Rows<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        self.own.conditional(parameters, rows, given, draws, out)?;
        self.gather_activations(parameters.shape.units(given.other()), out)
    }
}

impl Energies for Ranks {
    fn free_energy(&self, parameters: &CpuParameters, rows: Rows<'_>, out: &mut [f64]) -> Result<()> {
        self.own.free_energy(parameters, rows, out)?;
        self.world.all_gather(out, 1)
    }

    /// For few rows: every rank computes it.
    fn free_energy_gradient(
        &self, parameters: &CpuParameters, rows: Rows<'_>, work: &mut CpuWork, weights: &[f32], out: &mut Gradient,
    ) -> Result<()> {
        self.cpu.free_energy_gradient(parameters, rows, work, weights, out)
    }

    fn pseudo_log_likelihood(
        &self, parameters: &CpuParameters, rows: Rows<'_>, site: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        self.own.pseudo_log_likelihood(parameters, rows, site, out)?;
        self.world.all_gather(out, 1)
    }
}

impl Sampling for Ranks {
    fn start(&self, parameters: &CpuParameters, chains: &mut CpuChains, rows: Rows<'_>) -> Result<()> {
        self.own.start(parameters, chains, rows)
    }

    fn sweep(&self, parameters: &CpuParameters, chains: &mut CpuChains, k: usize) -> Result<()> {
        self.own.sweep(parameters, chains, k)
    }

    fn visible(&self, chains: &CpuChains, out: &mut Activations) -> Result<()> {
        self.own.visible(chains, out)?;
        self.gather_activations(chains.shape.n_visible(), out)
    }

    fn hold(&self, chains: &mut CpuChains, held: Option<Rows<'_>>) -> Result<()> {
        self.own.hold(chains, held)
    }
}

impl Tempering for Ranks {
    fn anneal(
        &self, parameters: &CpuParameters, chains: &mut CpuChains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        self.own.anneal(parameters, chains, reference, betas, log_weights)?;
        self.world.all_gather(log_weights, 1)
    }
}

impl Contrasting for Ranks {
    fn phases(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &mut CpuChains, work: &mut CpuWork, plan: Plan,
    ) -> Result<()> {
        self.own.run_phases(parameters, batch, chains, work, plan);
        let shape = parameters.shape;
        self.exchange(shape, &mut chains.visible, [&mut work.positive, &mut chains.hidden_mean])?;
        self.world.all_gather(&mut chains.numbers, shape.n_visible())?;
        if plan.watch != Watch::Nothing {
            self.world.all_gather(&mut work.values, 1)?;
        }
        work.watch(plan);
        Ok(())
    }

    fn watched(&self, work: &CpuWork) -> Result<f64> {
        self.cpu.watched(work)
    }

    fn watch_from(&self, work: &mut CpuWork, sum: f64) -> Result<()> {
        self.cpu.watch_from(work, sum)
    }
}

impl Learning for Ranks {
    fn batch_means(&self, batch: Rows<'_>, work: &mut CpuWork, shape: Shape, out: &mut BatchMeans) -> Result<()> {
        self.own.batch_means(batch, work, shape, out)?;
        self.gather_columns(shape, &mut [], &mut out.hidden)
    }

    fn gradient(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork, out: &mut Gradient,
    ) -> Result<()> {
        self.own.gradient_of_phases(parameters, batch, chains, work, out);
        self.gather_columns(parameters.shape, &mut out.weights, &mut out.hidden_bias)?;
        self.cpu.gradient_of_variance(parameters, batch, chains, out);
        Ok(())
    }

    fn update(
        &self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork, lr: f32,
    ) -> Result<()> {
        self.own.update(parameters, batch, chains, work, lr)?;
        self.gather_tiles(parameters, None)
    }

    fn descend(
        &self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork,
        rule: &mut CpuRule, pace: Pace,
    ) -> Result<()> {
        self.own.centre(parameters, batch, chains, work, rule, pace);
        self.centre_others(parameters.shape, [&work.positive, &chains.hidden_mean], rule);
        self.gather_factors(rule)?;
        self.own.descend_from(parameters, batch, chains, &mut work.panels, rule, pace);
        self.gather_tiles(parameters, Some(rule))
    }

    fn learn_variance(&self, parameters: &mut CpuParameters, gradient: &[f32], lr: f32) -> Result<()> {
        self.cpu.learn_variance(parameters, gradient, lr)
    }

    fn approach(&self, parameters: &mut CpuParameters, to: &CpuParameters, share: f32) -> Result<()> {
        self.cpu.approach(parameters, to, share)
    }

    fn apply(&self, parameters: &mut CpuParameters, gradient: &Gradient, lr: f32) -> Result<()> {
        self.cpu.apply(parameters, gradient, lr)
    }
}
