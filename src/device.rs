//! Devices as values, chosen at run time: [`Device`].
//!
//! All modules above this one are written once, for a [`Device`]; those below are written for one backend each. This module
//! dispatches each call. Its cost is negligible, because the calls are coarse.

#[cfg(feature = "mpi")]
use crate::cpu::Ranks;
#[cfg(all(feature = "cuda", feature = "mpi"))]
use crate::cuda::CudaRanks;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Cuda};
use crate::{
    cpu::Cpu,
    dataset::Dataset,
    descent::{Pace, RuleState},
    error::{Error, Result},
    rbm::{Gradient, RbmMut, RbmRef},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
    units::Segments,
    verbs::{
        Activations, BatchMeans, ChainState, Conditionals, Contrasting, Energies, Learning, Memory, Plan, Sampling,
        Sums, Tempering,
    },
};
use std::{
    fmt::{self, Display},
    ops::Range,
    str::FromStr,
};

/// A device that computes with RBMs: the CPU, an NVIDIA GPU (feature `cuda`), or the CPUs of several processes (feature `mpi`),
/// with canonical sums or those of a matrix library ([`Sums`]).
///
/// Parameters, chains and a trainer belong to a device: [`Rbm::on`](crate::Rbm::on) copies parameters to it, and
/// [`Trainer::new`](crate::Trainer::new) creates a trainer on it. All computation happens there, in few calls: k Gibbs steps of all
/// chains are one call, and a whole update is another. Data may stay on the host; [`load`](Self::load) copies them to a GPU once.
/// With canonical sums all devices give the same bits, so that a checkpoint can be resumed on another device.
///
/// Cheap to clone. Objects of two devices, or of two handles of one GPU, cannot be used together; such a call returns
/// [`Error::Device`].
///
/// ```
/// use harmonium::{Cpu, Device, Place, Rbm, Shape, Sums};
///
/// # fn main() -> harmonium::Result<()> {
/// let device: Device = "cpu".parse::<Place>()?.open(Sums::Canonical)?;
/// assert_eq!(device, Cpu::detect()?.into());
/// // Each device type converts to a Device, so functions take either.
/// let rbm = Rbm::new(Shape::new(4, 2)?, 1);
/// assert_eq!(rbm.on(&device)?.device(), rbm.on(Cpu::detect()?)?.device());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    Cpu(Cpu),
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
    /// The CPUs of several processes.
    #[cfg(feature = "mpi")]
    Ranks(Ranks),
    /// The GPUs of several processes.
    #[cfg(all(feature = "cuda", feature = "mpi"))]
    CudaRanks(CudaRanks),
}

impl From<Cpu> for Device {
    fn from(cpu: Cpu) -> Self {
        Device::Cpu(cpu)
    }
}

#[cfg(feature = "cuda")]
impl From<Cuda> for Device {
    fn from(cuda: Cuda) -> Self {
        Device::Cuda(cuda)
    }
}

#[cfg(feature = "mpi")]
impl From<Ranks> for Device {
    fn from(ranks: Ranks) -> Self {
        Device::Ranks(ranks)
    }
}

#[cfg(all(feature = "cuda", feature = "mpi"))]
impl From<CudaRanks> for Device {
    fn from(ranks: CudaRanks) -> Self {
        Device::CudaRanks(ranks)
    }
}

impl<D: Clone> From<&D> for Device
where
    Device: From<D>,
{
    fn from(device: &D) -> Self {
        device.clone().into()
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu(cpu) => write!(f, "{cpu}"),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => write!(f, "{cuda}"),
            #[cfg(feature = "mpi")]
            Device::Ranks(ranks) => write!(f, "{ranks}"),
            #[cfg(all(feature = "cuda", feature = "mpi"))]
            Device::CudaRanks(ranks) => write!(f, "{ranks}"),
        }
    }
}

/// The name of a device, for a command line or a settings file: `cpu`, `cuda` or `cuda:N`.
///
/// ```
/// use harmonium::{Place, Sums};
///
/// # fn main() -> harmonium::Result<()> {
/// let place: Place = "cpu".parse()?;
/// assert_eq!(place, Place::Cpu);
/// assert_eq!(place.open(Sums::Auto)?.sums(), Sums::Canonical);
/// assert!("tpu".parse::<Place>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The CPU with its widest instruction set.
    #[default]
    Cpu,
    /// NVIDIA GPU number N, counted from 0 in the order of the driver.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

impl Place {
    /// Opens the device.
    ///
    /// # Errors
    /// Those of [`Cpu::detect`] and [`Cpu::with_sums`], or of `Cuda::new` and `Cuda::with_sums`.
    pub fn open(self, sums: Sums) -> Result<Device> {
        match self {
            Place::Cpu => Ok(Cpu::detect()?.with_sums(sums)?.into()),
            #[cfg(feature = "cuda")]
            Place::Cuda(ordinal) => Ok(Cuda::new(ordinal)?.with_sums(sums)?.into()),
        }
    }

    /// Opens the device of this rank, one of several: its CPU, or a GPU, the first rank of a machine getting GPU number N of `cuda:N`.
    ///
    /// # Errors
    /// Those of [`Cpu::with_sums`] or `CudaRanks::open`.
    #[cfg(feature = "mpi")]
    pub fn open_among(self, ranks: &Ranks, sums: Sums) -> Result<Device> {
        match self {
            Place::Cpu => Ok(ranks.with_cpu(ranks.cpu().with_sums(sums)?).into()),
            #[cfg(feature = "cuda")]
            Place::Cuda(first) => Ok(CudaRanks::open(ranks, first, sums)?.into()),
        }
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = match text {
            "cpu" => return Ok(Place::Cpu),
            #[cfg(feature = "cuda")]
            _ => match text.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0").parse()) {
                Some(Ok(ordinal)) if !text.ends_with(':') => return Ok(Place::Cuda(ordinal)),
                _ => "cpu, cuda or cuda:N",
            },
            #[cfg(not(feature = "cuda"))]
            _ if text.starts_with("cuda") => "cpu, as this build is without CUDA",
            #[cfg(not(feature = "cuda"))]
            _ => "cpu",
        };
        Err(Error::Argument { what: "device", expected: expected.into(), found: text.into() })
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu => f.pad("cpu"),
            #[cfg(feature = "cuda")]
            Place::Cuda(ordinal) => f.pad(&format!("cuda:{ordinal}")),
        }
    }
}

/// Rows in memory that a device can read: on the CPU the host's memory, on a GPU a copy. Made by [`Device::load`].
///
/// ```
/// use harmonium::{Cpu, Dataset, Device, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8(vec![255; 12], 4)?;
/// let device = Device::from(Cpu::detect()?);
/// let loaded = device.load(data.rows())?;
/// let rbm = Rbm::new(Shape::new(4, 2)?, 1).on(&device)?;
/// assert_eq!(rbm.free_energy(loaded.range(1..3))?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Data<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Borrowed(Rows<'a>),
    Owned(Dataset),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Data),
}

impl Data<'_> {
    /// Returns a range of rows.
    ///
    /// # Panics
    /// If the range is not within the rows.
    pub fn range(&self, rows: Range<usize>) -> Batch<'_> {
        match &self.0 {
            Source::Borrowed(all) => all.range(rows).into(),
            Source::Owned(all) => all.rows().range(rows).into(),
            #[cfg(feature = "cuda")]
            Source::Cuda(all) => Batch(On::Cuda(all.range(rows))),
        }
    }

    /// Returns all rows.
    pub fn all(&self) -> Batch<'_> {
        self.range(0..self.len())
    }

    /// The number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Borrowed(all) => all.len(),
            Source::Owned(all) => all.len(),
            #[cfg(feature = "cuda")]
            Source::Cuda(all) => all.len(),
        }
    }
}

#[cfg(feature = "cuda")]
impl Cuda {
    /// Copies rows to the GPU. The result does not borrow from the host.
    ///
    /// # Errors
    /// [`Error::Cuda`] if memory is insufficient or the driver reports an error.
    pub fn load(&self, rows: Rows<'_>) -> Result<Data<'static>> {
        Ok(Data(Source::Cuda(cuda::Data::new(self, rows)?)))
    }
}

/// Rows as an argument: a range of [`Data`] on a device, or rows of the host, which a GPU copies for the call.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a>(pub(crate) On<'a>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum On<'a> {
    Cpu(Rows<'a>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Batch<'a>),
}

impl<'a> From<Rows<'a>> for Batch<'a> {
    fn from(rows: Rows<'a>) -> Self {
        Batch(On::Cpu(rows))
    }
}

impl<'a> From<&'a Dataset> for Batch<'a> {
    fn from(data: &'a Dataset) -> Self {
        data.rows().into()
    }
}

impl Batch<'_> {
    /// The number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.0 {
            On::Cpu(rows) => rows.len(),
            #[cfg(feature = "cuda")]
            On::Cuda(rows) => rows.len(),
        }
    }

    /// Returns an error if a value is missing.
    pub(crate) fn check_complete(&self) -> Result<()> {
        match self.0 {
            On::Cpu(rows) => rows.check_complete(),
            #[cfg(feature = "cuda")]
            On::Cuda(batch) if batch.has_missing() => Err(crate::rows::incomplete()),
            #[cfg(feature = "cuda")]
            On::Cuda(_) => Ok(()),
        }
    }

    /// The number of values in each row.
    pub fn units(&self) -> usize {
        self.segments().units()
    }

    /// The laws of the visible units that the values follow.
    pub fn segments(&self) -> Segments {
        match self.0 {
            On::Cpu(rows) => rows.segments(),
            #[cfg(feature = "cuda")]
            On::Cuda(rows) => rows.segments(),
        }
    }
}

/// Defines an enum over the backends for each type of [`Memory`], and the method of [`Device`] that creates it.
macro_rules! held {
    ($($(#[$doc:meta])* $name:ident $([$derive:ident])? = $of:ident by $make:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            $(#[$doc])*
            // There are few of these objects, and they are not moved.
            #[allow(clippy::large_enum_variant)]
            #[derive(Debug $(, $derive)?)]
            pub(crate) enum $name {
                Cpu(<Cpu as Memory>::$of),
                #[cfg(feature = "cuda")]
                Cuda(<Cuda as Memory>::$of),
            }
        )*

        impl Device {
            $(pub(crate) fn $make(&self, $($argument: $type),*) -> Result<$name> {
                match self {
                    Device::Cpu(on) => on.$make($($argument),*).map($name::Cpu),
                    #[cfg(feature = "cuda")]
                    Device::Cuda(on) => on.$make($($argument),*).map($name::Cuda),
                    #[cfg(feature = "mpi")]
                    Device::Ranks(on) => on.$make($($argument),*).map($name::Cpu),
                    #[cfg(all(feature = "cuda", feature = "mpi"))]
                    Device::CudaRanks(on) => on.$make($($argument),*).map($name::Cuda),
                }
            })*
        }
    };
}
held! {
    /// The parameters of an RBM on a device.
    Parameters [Clone] = Parameters by upload(rbm: RbmRef<'_>);
    /// The states of M chains on a device.
    States [Clone] = Chains by chains(shape: Shape, state: &ChainState);
    /// Scratch for updates on a device.
    Work = Work by work(shape: Shape);
    /// The state of the rules of descent on a device.
    Rule = Rule by rule(shape: Shape, state: &RuleState);
}

/// Dispatches the other methods. Arguments in the memory of a device come first, with the enum that holds them. The callers have
/// checked that all of them belong to this device.
macro_rules! verbs {
    ($($name:ident($($held:ident: $kind:ident = $holder:ty),+; $($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Device {
            $(pub(crate) fn $name(&self, $($held: $holder,)+ $($argument: $type),*) -> Result<$result> {
                match (self, $($held),+) {
                    (Device::Cpu(on), $($kind::Cpu($held)),+) => on.$name($($held,)+ $($argument),*),
                    #[cfg(feature = "cuda")]
                    (Device::Cuda(on), $($kind::Cuda($held)),+) => on.$name($($held,)+ $($argument),*),
                    #[cfg(feature = "mpi")]
                    (Device::Ranks(on), $($kind::Cpu($held)),+) => on.$name($($held,)+ $($argument),*),
                    #[cfg(all(feature = "cuda", feature = "mpi"))]
                    (Device::CudaRanks(on), $($kind::Cuda($held)),+) => on.$name($($held,)+ $($argument),*),
                    #[cfg(feature = "cuda")]
                    _ => Err(Error::Device { what: stringify!($name), expected: "one device".into(), found: "two".into() }),
                }
            })*
        }
    };
}
verbs! {
    download(parameters: Parameters = &Parameters; to: RbmMut<'_>) -> ();
    conditional(
        parameters: Parameters = &Parameters, rows: On = On<'_>;
        given: Layer, draws: Option<&mut Uniforms>, out: &mut Activations
    ) -> ();
    free_energy(parameters: Parameters = &Parameters, rows: On = On<'_>; out: &mut [f64]) -> ();
    free_energy_gradient(
        parameters: Parameters = &Parameters, rows: On = On<'_>, work: Work = &mut Work;
        weights: &[f32], out: &mut Gradient
    ) -> ();
    pseudo_log_likelihood(parameters: Parameters = &Parameters, rows: On = On<'_>; site: Option<usize>, out: &mut [f64]) -> ();
    chain_state(chains: States = &States;) -> ChainState;
    temper(chains: States = &mut States; betas: &[f32]) -> ();
    start(parameters: Parameters = &Parameters, chains: States = &mut States, rows: On = On<'_>;) -> ();
    sweep(parameters: Parameters = &Parameters, chains: States = &mut States; k: usize) -> ();
    visible(chains: States = &States; out: &mut Activations) -> ();
    hold(chains: States = &mut States; held: Option<Rows<'_>>) -> ();
    anneal(
        parameters: Parameters = &Parameters, chains: States = &mut States;
        reference: [&[f32]; 2], betas: &[f32], log_weights: &mut [f64]
    ) -> ();
    phases(
        parameters: Parameters = &Parameters, batch: On = On<'_>, chains: States = &mut States, work: Work = &mut Work;
        plan: Plan
    ) -> ();
    watched(work: Work = &Work;) -> f64;
    watch_from(work: Work = &mut Work; sum: f64) -> ();
    batch_means(batch: On = On<'_>, work: Work = &mut Work; shape: Shape, out: &mut BatchMeans) -> ();
    gradient(
        parameters: Parameters = &Parameters, batch: On = On<'_>, chains: States = &States, work: Work = &mut Work;
        out: &mut Gradient
    ) -> ();
    update(
        parameters: Parameters = &mut Parameters, batch: On = On<'_>, chains: States = &States, work: Work = &mut Work;
        lr: f32
    ) -> ();
    descend(
        parameters: Parameters = &mut Parameters, batch: On = On<'_>, chains: States = &States, work: Work = &mut Work,
        rule: Rule = &mut Rule; pace: Pace
    ) -> ();
    learn_variance(parameters: Parameters = &mut Parameters; gradient: &[f32], lr: f32) -> ();
    rule_state(rule: Rule = &Rule; shape: Shape) -> RuleState;
    approach(parameters: Parameters = &mut Parameters, to: Parameters = &Parameters; share: f32) -> ();
    apply(parameters: Parameters = &mut Parameters; gradient: &Gradient, lr: f32) -> ();
}

impl Device {
    /// The order of sums.
    pub fn sums(&self) -> Sums {
        match self {
            Device::Cpu(cpu) => cpu.sums(),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => cuda.sums(),
            #[cfg(feature = "mpi")]
            Device::Ranks(ranks) => ranks.cpu().sums(),
            #[cfg(all(feature = "cuda", feature = "mpi"))]
            Device::CudaRanks(ranks) => ranks.cuda().sums(),
        }
    }

    /// The GPU of this process.
    #[cfg(feature = "cuda")]
    fn cuda(&self) -> Option<&Cuda> {
        match self {
            Device::Cuda(cuda) => Some(cuda),
            #[cfg(feature = "mpi")]
            Device::CudaRanks(ranks) => Some(ranks.cuda()),
            _ => None,
        }
    }

    /// Makes rows readable by the device. On the CPU it borrows them; on a GPU it copies them, and the result borrows nothing.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn load<'a>(&self, rows: Rows<'a>) -> Result<Data<'a>> {
        #[cfg(feature = "cuda")]
        if let Some(cuda) = self.cuda() {
            return cuda.load(rows);
        }
        Ok(Data(Source::Borrowed(rows)))
    }

    /// [`load`](Self::load) for owned data. The result borrows nothing, on any device.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn load_owned(&self, data: Dataset) -> Result<Data<'static>> {
        #[cfg(feature = "cuda")]
        if let Some(cuda) = self.cuda() {
            return cuda.load(data.rows());
        }
        Ok(Data(Source::Owned(data)))
    }

    /// Returns an error if `what` belongs to another device.
    pub(crate) fn check(&self, what: &'static str, other: &Device) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::Device { what, expected: self.to_string(), found: other.to_string() })
    }

    /// Calls `run` with a batch that this device can read. A GPU copies the host's rows for the duration of the call.
    pub(crate) fn reading<T>(&self, batch: Batch<'_>, run: impl FnOnce(Batch<'_>) -> Result<T>) -> Result<T> {
        #[cfg(feature = "cuda")]
        match (self.cuda(), batch.0) {
            (Some(cuda), On::Cpu(rows)) => return run(cuda.load(rows)?.all()),
            // Rows of a rank are on its GPU, which does not know of the others.
            (cuda, On::Cuda(rows)) if cuda != Some(rows.device()) => self.check("batch", &rows.device().into())?,
            _ => {}
        }
        run(batch)
    }
}

impl States {
    /// The number of chains.
    pub fn len(&self) -> usize {
        match self {
            States::Cpu(chains) => Cpu::n_chains(chains),
            #[cfg(feature = "cuda")]
            States::Cuda(chains) => Cuda::n_chains(chains),
        }
    }
}
