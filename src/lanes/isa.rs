//! The instruction set that the kernels run on: found once, at run time, here and nowhere else.
//!
//! The results do not depend on it: the module above says why.

use crate::error::{Error, Result};
use std::{
    fmt::{self, Display},
    str::FromStr,
    sync::OnceLock,
};

/// The environment variable that chooses one.
const VARIABLE: &str = "HARMONIUM_ISA";

/// An instruction set that this machine has: a value of this type is the proof of it.
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
    /// The widest instruction set that this machine has, or the one that the environment variable `HARMONIUM_ISA` names:
    /// `scalar`, `avx2` or `avx512`. The variable is read once in a process.
    ///
    /// # Errors
    /// [`Error::Isa`] where the variable names an instruction set that is unknown or that this machine lacks.
    pub fn detect() -> Result<Self> {
        static FOUND: OnceLock<Result<Isa>> = OnceLock::new();
        let find = || match std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned()) {
            Some(name) => Self::find(VARIABLE, &name),
            None => Ok(Self::available().last().copied().unwrap_or(Isa(Kind::Scalar))),
        };
        FOUND.get_or_init(find).clone()
    }

    /// The instruction set of that name, if this machine has it.
    ///
    /// # Errors
    /// [`Error::Isa`] where it does not, or where the name is none of `scalar`, `avx2` and `avx512`.
    pub fn named(name: &str) -> Result<Self> {
        Self::find("instruction set", name)
    }

    fn find(what: &'static str, name: &str) -> Result<Self> {
        let found = Self::available().into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| Error::Isa { what, name: name.into() })
    }

    /// All instruction sets that this machine has, narrowest first.
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

    /// `scalar`, `avx2` or `avx512`.
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
