//! Several processes, each with a GPU of its own, over MPI.
//!
//! Each rank has all buffers in full size, and moves its share of the chains through all k steps: its [`Cuda`] has a
//! [`Part`](crate::cpu::Part), like the CPU of a rank. Then there is one exchange through the host: each rank copies the visible
//! states of its share from the device, gathers those of the other ranks, and copies all of them to the device. Every rank
//! computes the rest of an update itself: the positive phase, the hidden means of all chains, the gradient and the step. With
//! canonical sums these have the same bits everywhere. So W, velocities, averages and offsets never travel.
//!
//! # What travels
//!
//! M chains, B rows, n visible units, R ranks. In each update a rank receives from the others, in bytes,
//!
//! | what | bytes |
//! |---|---|
//! | the visible bits of all chains, or numbers where not all units are bits | (R-1)/R·M·8⌈n/64⌉ (4n) |
//! | CD-k with the reconstruction as monitor: its terms | (R-1)/R·8B |
//!
//! The states of all M chains also travel from the device to the host and back. The CPU's ranks also exchange hidden means and columns
//! of W, and each computes a part of the gradient. A GPU computes the hidden means of a chain faster than the host could copy them.
//!
//! # When another GPU pays
//!
//! Let s be the time of a step of one chain. Two ranks save half of the steps, and both compute the hidden means of all chains, half a
//! step. With γ bytes a second between host and device, β on the network, and latencies α of about 50 µs in all, two ranks pay if
//!
//! > M·k·s/2 > M·s/2 + M·(n/8)·(2/γ + 1/(2β)) + α.
//!
//! k = 1 never pays, and the gradient takes as long as before. A share moves a layer at a time, by strips of weights or on a grid,
//! because the kernels that move a chain through all steps number their draws as if they had all chains. Those kernels are faster
//! for few chains on one GPU. So ranks are for many chains and many steps. None of this has been measured on GPUs.
//!
//! Annealing and sampling share chains too, and exchange only their results. Energies and pseudo-likelihoods share rows. Every rank
//! computes the conditionals of all rows, such as features and reconstructions, because an exchange would take longer.
//!
//! # Sums of cuBLAS
//!
//! They do not promise bits, and GPUs may differ. All ranks continue with the results of rank 0: after each update its parameters,
//! 4(n·m + n + m) bytes, and its gradients, means and conditionals whenever these are copied to the host.

use super::{
    arguments::RowsArgument,
    buffer::{Buffer, Ptr},
    data::Batch,
    descend::CudaRule,
    handle::{Cuda, Sweeps},
    layers::{Given, Outcome},
    memory::{CudaChains, CudaParameters},
    opened::devices,
    sizes::{block_of_rows, count, stride, words},
    work::CudaWork,
};
use crate::{
    cpu::Ranks,
    descent::{Pace, RuleState},
    error::Result,
    rbm::{Gradient, RbmMut, RbmRef},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
    verbs::{
        Activations, BatchMeans, ChainState, Conditionals, Contrasting, Energies, Learning, Memory, Plan, Sampling,
        Sums, Tempering, Watch,
    },
};
use cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use mpi::traits::Equivalence;
use std::fmt::{self, Display};

/// The GPUs of several processes as one device, one GPU for each rank: [`Ranks`] whose chains move on GPUs.
///
/// Every rank makes the same calls in the same order, as with [`Ranks`]. With canonical sums all ranks have the bits of one process on
/// a GPU or on the CPU. Ranks exchange results through the host.
///
/// ```no_run
/// use harmonium::{Cpu, CudaRanks, Rbm, Ranks, Shape, Sums};
///
/// # fn main() -> harmonium::Result<()> {
/// let ranks = Ranks::join(Cpu::detect()?)?;
/// let device = CudaRanks::open(&ranks, 0, Sums::Canonical)?;
/// let rbm = Rbm::new(Shape::new(784, 500)?, 123).on(&device)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CudaRanks {
    cuda: Cuda,
    /// The same GPU for this rank's share of the chains.
    own: Cuda,
    ranks: Ranks,
    sharing: usize,
}

impl CudaRanks {
    /// Opens a GPU for this rank. The first rank of a machine gets GPU number `first`, the next rank the next GPU, and so on. After the
    /// last GPU comes GPU 0.
    ///
    /// # Errors
    /// Those of [`Cuda::new`] and [`Cuda::with_sums`], if there is no GPU number `first` or the rank's GPU cannot be opened.
    pub fn open(ranks: &Ranks, first: usize, sums: Sums) -> Result<Self> {
        let (place, here) = ranks.place()?;
        let found = devices()?;
        let device = |place: usize| if first < found { (first + place) % found } else { first };
        let cuda = Cuda::new(device(place))?.with_sums(sums)?;
        let sharing = (0..here).filter(|&other| device(other) == device(place)).count();
        Ok(Self { own: cuda.clone().with_part(ranks.part()), cuda, ranks: ranks.clone(), sharing })
    }

    /// Sets the method that moves the chains, for tests.
    #[doc(hidden)]
    pub fn with_sweeps(self, sweeps: Sweeps) -> Self {
        Self { cuda: self.cuda.with_sweeps(sweeps), own: self.own.with_sweeps(sweeps), ..self }
    }

    /// The GPU of this rank.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The number of ranks that use the GPU of this rank, including this one.
    pub fn sharing(&self) -> usize {
        self.sharing
    }

    /// Replaces numbers that every rank has computed by those of rank 0, unless they have the same bits everywhere.
    fn agree<T: Equivalence>(&self, numbers: &mut [T]) -> Result<()> {
        if self.cuda.sums() == Sums::Canonical { Ok(()) } else { self.ranks.of_first(numbers) }
    }

    fn agree_on(&self, gradient: &mut Gradient) -> Result<()> {
        let Gradient { weights, visible_bias, hidden_bias, visible_log_variance, .. } = gradient;
        [weights, visible_bias, hidden_bias, visible_log_variance].into_iter().try_for_each(|all| self.agree(all))
    }

    fn agree_on_parameters(&self, parameters: &mut CudaParameters) -> Result<()> {
        if self.cuda.sums() == Sums::Canonical {
            return Ok(());
        }
        let (stream, shape) = (self.cuda.stream(), parameters.shape);
        let numbers = parameters.numbers.own(stream)?;
        for part in [&mut numbers.weights, &mut numbers.visible_bias, &mut numbers.hidden_bias] {
            let mut all = part.read(stream)?;
            self.ranks.of_first(&mut all)?;
            part.write(stream, &all)?;
        }
        self.cuda.transpose(numbers.argument(shape))
    }

    /// Gathers the rows of all ranks' parts on every device.
    fn gather<T>(&self, buffer: &mut Buffer<T>, rows: usize, width: usize) -> Result<()>
    where
        T: Equivalence + DeviceRepr + ValidAsZeroBits + Copy + Default,
    {
        let mut all = buffer.read(self.cuda.stream())?;
        self.ranks.all_gather(&mut all[..rows * width], width)?;
        buffer.write(self.cuda.stream(), &all)
    }

    /// Computes this rank's part of the rows and gathers the results of all.
    fn each_row(
        &self, rows: Batch<'_>, out: &mut [f64], run: impl FnOnce(Batch<'_>, &mut [f64]) -> Result<()>,
    ) -> Result<()> {
        let own = self.ranks.part().range(rows.len());
        if !own.is_empty() {
            run(rows.range(own.clone()), &mut out[own])?;
        }
        self.ranks.all_gather(out, 1)
    }

    /// Gathers the visible states of all chains after each rank has moved its share, and computes the hidden means from them.
    fn exchange(&self, parameters: &CudaParameters, chains: &mut CudaChains) -> Result<()> {
        let (cuda, stream, n) = (&self.cuda, self.cuda.stream(), count("chains", chains.len())?);
        let (visible, units) = (chains.shape.visible(), chains.shape.n_visible());
        let (width, laws) = (stride(units), parameters.laws.as_ref().map(|laws| laws.argument()));
        let states = chains.own(stream, true)?;
        if visible.is_binary() {
            self.gather(&mut states.visible, n as usize, words(units))?;
            cuda.numbers_of_bits(stream, states.visible.ptr().cast(), n, units as u32, states.numbers[0].ptr())?;
        } else {
            self.gather(&mut states.values, n as usize, width)?;
        }
        if let Some(laws) = laws.filter(|laws| laws.precision.address != 0) {
            let place = Buffer::of(stream, &[states.values.ptr().address])?;
            let rows =
                RowsArgument { place: place.ptr(), missing: Ptr::NULL, rows: n, stride: width as u32, eight_bit: 0 };
            let (grid, to) = (block_of_rows(units as u32, n, 1)?, states.numbers[0].ptr());
            cuda.run().scaled_rows(stream, grid, rows, units as u32, laws.precision, to, width as u32)?;
        }
        let scaled = states.numbers[0].ptr();
        let numbers = if scaled.address == 0 { states.values.ptr() } else { scaled };
        let to = Outcome { betas: states.betas.ptr(), means: states.hidden_mean.ptr(), ..Outcome::NOTHING };
        let given = Given { rows: chains.rows(Layer::Visible)?, round: false, numbers, ready: true };
        cuda.compute_layer(stream, cuda.blas_for_chains(), parameters.side(Layer::Visible), given, to)
    }
}

impl Display for CudaRanks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} on {}", self.ranks.rank(), self.ranks.len(), self.cuda)
    }
}

impl Memory for CudaRanks {
    type Parameters = CudaParameters;
    type Chains = CudaChains;
    type Work = CudaWork;
    type Rule = CudaRule;
    type Batch<'a> = Batch<'a>;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<CudaParameters> {
        self.ranks.check_parameters(rbm)?;
        self.cuda.upload(rbm)
    }

    fn download(&self, parameters: &CudaParameters, to: RbmMut<'_>) -> Result<()> {
        self.cuda.download(parameters, to)
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<CudaChains> {
        self.ranks.check_chains(state)?;
        self.cuda.chains(shape, state)
    }

    fn n_chains(chains: &CudaChains) -> usize {
        Cuda::n_chains(chains)
    }

    fn chain_state(&self, chains: &CudaChains) -> Result<ChainState> {
        let mut state = self.cuda.chain_state(chains)?;
        self.ranks.all_gather(&mut state.hidden, words(chains.shape.n_hidden()))?;
        Ok(state)
    }

    fn temper(&self, chains: &mut CudaChains, betas: &[f32]) -> Result<()> {
        self.cuda.temper(chains, betas)
    }

    fn work(&self, shape: Shape) -> Result<CudaWork> {
        self.cuda.work(shape)
    }

    fn rule(&self, shape: Shape, state: &RuleState) -> Result<CudaRule> {
        self.ranks.check_rule(state)?;
        self.cuda.rule(shape, state)
    }

    fn rule_state(&self, rule: &CudaRule, shape: Shape) -> Result<RuleState> {
        let mut state = self.cuda.rule_state(rule, shape)?;
        let RuleState { visible_offset, hidden_offset, hidden_mean, velocity } = &mut state;
        [visible_offset, hidden_offset, hidden_mean].into_iter().try_for_each(|all| self.agree(all))?;
        velocity.as_mut().map_or(Ok(()), |velocity| self.agree_on(velocity))?;
        Ok(state)
    }
}

impl Conditionals for CudaRanks {
    fn conditional(
        &self, parameters: &CudaParameters, rows: Batch<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        self.cuda.conditional(parameters, rows, given, draws, out)?;
        let Activations { pre_activation, mean, sample } = out;
        [pre_activation, mean, sample].into_iter().try_for_each(|all| self.agree(all))
    }
}

impl Energies for CudaRanks {
    fn free_energy(&self, parameters: &CudaParameters, rows: Batch<'_>, out: &mut [f64]) -> Result<()> {
        self.each_row(rows, out, |rows, out| self.cuda.free_energy(parameters, rows, out))
    }

    fn free_energy_gradient(
        &self, parameters: &CudaParameters, rows: Batch<'_>, work: &mut CudaWork, weights: &[f32], out: &mut Gradient,
    ) -> Result<()> {
        self.cuda.free_energy_gradient(parameters, rows, work, weights, out)?;
        self.agree_on(out)
    }

    fn pseudo_log_likelihood(
        &self, parameters: &CudaParameters, rows: Batch<'_>, site: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        self.each_row(rows, out, |rows, out| self.cuda.pseudo_log_likelihood(parameters, rows, site, out))
    }
}

impl Sampling for CudaRanks {
    fn start(&self, parameters: &CudaParameters, chains: &mut CudaChains, rows: Batch<'_>) -> Result<()> {
        self.cuda.start(parameters, chains, rows)
    }

    fn sweep(&self, parameters: &CudaParameters, chains: &mut CudaChains, k: usize) -> Result<()> {
        self.own.sweep(parameters, chains, k)
    }

    fn visible(&self, chains: &CudaChains, out: &mut Activations) -> Result<()> {
        self.cuda.visible(chains, out)?;
        self.ranks.gather_activations(chains.shape.n_visible(), out)
    }

    fn hold(&self, chains: &mut CudaChains, held: Option<Rows<'_>>) -> Result<()> {
        self.cuda.hold(chains, held)
    }
}

impl Tempering for CudaRanks {
    fn anneal(
        &self, parameters: &CudaParameters, chains: &mut CudaChains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        self.own.anneal(parameters, chains, reference, betas, log_weights)?;
        self.ranks.all_gather(log_weights, 1)
    }
}

impl Contrasting for CudaRanks {
    fn phases(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &mut CudaChains, work: &mut CudaWork, plan: Plan,
    ) -> Result<()> {
        self.own.phases_of_share(parameters, batch, chains, work, plan, |chains, work| {
            self.exchange(parameters, chains)?;
            match plan.watch {
                Watch::Reconstruction if !plan.persistent => self.gather(&mut work.scratch.values, batch.len(), 1),
                _ => Ok(()),
            }
        })
    }

    fn watched(&self, work: &CudaWork) -> Result<f64> {
        let mut watched = [self.cuda.watched(work)?];
        self.agree(&mut watched)?;
        Ok(watched[0])
    }

    fn watch_from(&self, work: &mut CudaWork, sum: f64) -> Result<()> {
        self.cuda.watch_from(work, sum)
    }
}

impl Learning for CudaRanks {
    fn batch_means(&self, batch: Batch<'_>, work: &mut CudaWork, shape: Shape, out: &mut BatchMeans) -> Result<()> {
        self.cuda.batch_means(batch, work, shape, out)?;
        [&mut out.visible, &mut out.hidden].into_iter().try_for_each(|all| self.agree(all))
    }

    fn gradient(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork,
        out: &mut Gradient,
    ) -> Result<()> {
        self.cuda.gradient(parameters, batch, chains, work, out)?;
        self.agree_on(out)
    }

    fn update(
        &self, parameters: &mut CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork, lr: f32,
    ) -> Result<()> {
        self.cuda.update(parameters, batch, chains, work, lr)?;
        self.agree_on_parameters(parameters)
    }

    fn descend(
        &self, parameters: &mut CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork,
        rule: &mut CudaRule, pace: Pace,
    ) -> Result<()> {
        self.cuda.descend(parameters, batch, chains, work, rule, pace)?;
        self.agree_on_parameters(parameters)
    }

    fn learn_variance(&self, parameters: &mut CudaParameters, gradient: &[f32], lr: f32) -> Result<()> {
        self.cuda.learn_variance(parameters, gradient, lr)
    }

    fn approach(&self, parameters: &mut CudaParameters, to: &CudaParameters, share: f32) -> Result<()> {
        self.cuda.approach(parameters, to, share)
    }

    fn apply(&self, parameters: &mut CudaParameters, gradient: &Gradient, lr: f32) -> Result<()> {
        self.cuda.apply(parameters, gradient, lr)
    }
}
