//! Where RBMs are computed with: a value, chosen at run time.
//!
//! Everything above this floor is written once, for a [`Device`]; everything below is written for one kind of device. The
//! verbs between them are coarse, so the choice costs nothing.

#[cfg(feature = "mpi")]
use crate::cpu::Ranks;
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

/// A device that RBMs are computed with: the CPU or an NVIDIA GPU, with canonical sums or a matrix library's.
///
/// A value that costs little to clone. Objects of two devices, or of two handles of one GPU, cannot be used together:
/// [`Error::Device`] says so.
///
/// ```
/// use harmonium::{Cpu, Device, Place, Sums};
///
/// # fn main() -> harmonium::Result<()> {
/// let device: Device = "cpu".parse::<Place>()?.open(Sums::Canonical)?;
/// assert_eq!(device, Cpu::detect()?.into());
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
        }
    }
}

/// The name of a device: `cpu`, `cuda` or `cuda:N`, as a command line or a settings file has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The CPU with its widest instruction set.
    #[default]
    Cpu,
    /// NVIDIA GPU number N, as the driver counts them, from 0.
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

/// Rows where a device can read them: on the CPU the host's own, on a GPU a copy.
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
    /// Some of the rows.
    ///
    /// # Panics
    /// Where the range does not lie within the rows.
    pub fn range(&self, rows: Range<usize>) -> Batch<'_> {
        match &self.0 {
            Source::Borrowed(all) => all.range(rows).into(),
            Source::Owned(all) => all.rows().range(rows).into(),
            #[cfg(feature = "cuda")]
            Source::Cuda(all) => Batch(On::Cuda(all.range(rows))),
        }
    }

    /// All rows.
    pub fn all(&self) -> Batch<'_> {
        self.range(0..self.len())
    }

    /// How many rows there are.
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
    /// Copies rows to the GPU; the result borrows nothing of the host.
    ///
    /// # Errors
    /// [`Error::Cuda`]: no memory for them, or what the driver says.
    pub fn load(&self, rows: Rows<'_>) -> Result<Data<'static>> {
        Ok(Data(Source::Cuda(cuda::Data::new(self, rows)?)))
    }
}

/// Some rows: of [`Data`] that a device holds, or the host's own, which a GPU then copies for the call.
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
    /// How many rows there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.0 {
            On::Cpu(rows) => rows.len(),
            #[cfg(feature = "cuda")]
            On::Cuda(rows) => rows.len(),
        }
    }

    /// Fails where a value is missing.
    pub(crate) fn check_complete(&self) -> Result<()> {
        match self.0 {
            On::Cpu(rows) => rows.check_complete(),
            #[cfg(feature = "cuda")]
            On::Cuda(batch) if batch.has_missing() => Err(crate::rows::incomplete()),
            #[cfg(feature = "cuda")]
            On::Cuda(_) => Ok(()),
        }
    }

    /// How many values each row has.
    pub fn units(&self) -> usize {
        self.segments().units()
    }

    /// The laws that the values keep to.
    pub fn segments(&self) -> Segments {
        match self.0 {
            On::Cpu(rows) => rows.segments(),
            #[cfg(feature = "cuda")]
            On::Cuda(rows) => rows.segments(),
        }
    }
}

/// What belongs to one kind of device: an enum for each of [`Memory`]'s types, and the verb that makes it.
macro_rules! held {
    ($($(#[$doc:meta])* $name:ident $([$derive:ident])? = $of:ident by $make:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            $(#[$doc])*
            // There are few of them, and they stay where they are.
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
    /// Room for updates on a device.
    Work = Work by work(shape: Shape);
    /// What rules of descent keep on a device.
    Rule = Rule by rule(shape: Shape, state: &RuleState);
}

/// The other verbs. What belongs to a device comes first, with the enum that holds it; the floors above have seen to it that
/// all of it belongs to this one.
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
    /// How it adds up.
    pub fn sums(&self) -> Sums {
        match self {
            Device::Cpu(cpu) => cpu.sums(),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => cuda.sums(),
            #[cfg(feature = "mpi")]
            Device::Ranks(ranks) => ranks.cpu().sums(),
        }
    }

    /// Makes rows available to the device. On the CPU they stay where they are; `Cuda::load` copies them and borrows nothing.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn load<'a>(&self, rows: Rows<'a>) -> Result<Data<'a>> {
        match self {
            Device::Cpu(_) => Ok(Data(Source::Borrowed(rows))),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => cuda.load(rows),
            #[cfg(feature = "mpi")]
            Device::Ranks(_) => Ok(Data(Source::Borrowed(rows))),
        }
    }

    /// The same with data that nobody else needs: the result borrows nothing, on any device.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn load_owned(&self, data: Dataset) -> Result<Data<'static>> {
        match self {
            Device::Cpu(_) => Ok(Data(Source::Owned(data))),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => cuda.load(data.rows()),
            #[cfg(feature = "mpi")]
            Device::Ranks(_) => Ok(Data(Source::Owned(data))),
        }
    }

    /// Fails where `what` belongs to another device.
    pub(crate) fn check(&self, what: &'static str, other: &Device) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::Device { what, expected: self.to_string(), found: other.to_string() })
    }

    /// Runs `run` with a batch that this device can read: the host's rows are copied for as long as it runs.
    pub(crate) fn reading<T>(&self, batch: Batch<'_>, run: impl FnOnce(Batch<'_>) -> Result<T>) -> Result<T> {
        match (self, batch.0) {
            (Device::Cpu(_), On::Cpu(_)) => run(batch),
            #[cfg(feature = "mpi")]
            (Device::Ranks(_), On::Cpu(_)) => run(batch),
            #[cfg(feature = "cuda")]
            (Device::Cuda(cuda), On::Cpu(rows)) => run(cuda.load(rows)?.all()),
            #[cfg(feature = "cuda")]
            (_, On::Cuda(rows)) => {
                self.check("batch", &rows.device().into())?;
                run(batch)
            }
        }
    }
}

impl States {
    /// How many chains there are.
    pub fn len(&self) -> usize {
        match self {
            States::Cpu(chains) => Cpu::n_chains(chains),
            #[cfg(feature = "cuda")]
            States::Cuda(chains) => Cuda::n_chains(chains),
        }
    }
}
