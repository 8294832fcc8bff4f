//! The instruction set of the kernels, detected at run time here and nowhere else. Results do not depend on it; the parent module
//! explains why.

use crate::error::{Error, Result};
use std::{
    fmt::{self, Display},
    str::FromStr,
    sync::OnceLock,
};

/// The environment variable that selects an instruction set.
const VARIABLE: &str = "HARMONIUM_ISA";

/// An instruction set of this machine: a value of this type proves that the machine has it.
///
/// All instruction sets give the same bits; they differ in speed.
///
/// ```
/// use harmonium::Isa;
///
/// let widest = Isa::detect()?;
/// assert!(Isa::available().contains(&widest));
/// assert_eq!(Isa::named(widest.name())?, widest);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Returns the widest instruction set of this machine, or the one that the environment variable `HARMONIUM_ISA` names:
    /// `scalar`, `avx2` or `avx512`. The variable is read once in a process.
    ///
    /// # Errors
    /// [`Error::Isa`] if the variable names an instruction set that is unknown or that this machine lacks.
    pub fn detect() -> Result<Self> {
        static FOUND: OnceLock<Result<Isa>> = OnceLock::new();
        let find = || match std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned()) {
            Some(name) => Self::find(VARIABLE, &name),
            None => Ok(Self::available().last().copied().unwrap_or(Isa(Kind::Scalar))),
        };
        FOUND.get_or_init(find).clone()
    }

    /// Returns the instruction set with a given name: `scalar`, `avx2` or `avx512`.
    ///
    /// # Errors
    /// [`Error::Isa`] if the name is unknown or this machine lacks the instruction set.
    pub fn named(name: &str) -> Result<Self> {
        Self::find("instruction set", name)
    }

    fn find(what: &'static str, name: &str) -> Result<Self> {
        let found = Self::available().into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| Error::Isa { what, name: name.into() })
    }

    /// Returns all instruction sets of this machine, narrowest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Isa(Kind::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let bits = has!("bmi1") && has!("bmi2") && has!("popcnt") && has!("lzcnt");
            if bits && has!("avx2") && has!("fma") {
                all.push(Isa(Kind::Avx2));
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    all.push(Isa(Kind::Avx512));
                }
            }
        }
        all
    }

    /// Returns the name, `scalar`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::named(name)
    }
}
