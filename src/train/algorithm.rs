//! Training algorithms and their names.

use crate::error::{Error, Result};

/// The training algorithm, which determines where the chains of an update start.
///
/// ```
/// use harmonium::Algorithm;
///
/// assert_eq!(Algorithm::named("pcd", 100)?, Algorithm::Pcd { n_chains: 100 });
/// assert_eq!(Algorithm::Cd.name(), "cd");
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// Contrastive divergence: as many chains as rows, which start at the batch. Source: G. E. Hinton, "Training products of
    /// experts by minimizing contrastive divergence", 2002.
    Cd,
    /// Persistent contrastive divergence: `n_chains` chains, which continue from update to update. At first all hidden units are
    /// off. Source: T. Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", 2008.
    Pcd {
        /// M, the number of chains, at least 1. The tutorial uses the size of the batch.
        n_chains: usize,
    },
}

impl Algorithm {
    /// All algorithms. `n_chains` is the number of persistent chains.
    pub fn all(n_chains: usize) -> impl Iterator<Item = Self> {
        [Self::Pcd { n_chains }, Self::Cd].into_iter()
    }

    /// Returns the name, `cd` or `pcd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cd => "cd",
            Self::Pcd { .. } => "pcd",
        }
    }

    /// Returns the algorithm with a given [`name`](Self::name). `n_chains` is the number of persistent chains.
    ///
    /// # Errors
    /// [`Error::Argument`] with all names if the name is unknown.
    pub fn named(name: &str, n_chains: usize) -> Result<Self> {
        Self::all(n_chains).find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all(n_chains).map(Self::name).collect();
            Error::Argument { what: "algorithm", expected: names.join(" or "), found: name.into() }
        })
    }
}
