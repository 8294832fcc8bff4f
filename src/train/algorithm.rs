//! The algorithms that training has, by their names.

use crate::error::{Error, Result};

/// Where the chains of an update come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// Contrastive divergence: chains start at the batch.
    Cd,
    /// Persistent contrastive divergence: `n_chains` chains, all units off at first, live from update to update.
    Pcd {
        /// M; the tutorial takes the batch size.
        n_chains: usize,
    },
}

impl Algorithm {
    /// All algorithms, those with persistent chains with `n_chains` of them.
    pub fn all(n_chains: usize) -> impl Iterator<Item = Self> {
        [Self::Pcd { n_chains }, Self::Cd].into_iter()
    }

    /// `cd` or `pcd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cd => "cd",
            Self::Pcd { .. } => "pcd",
        }
    }

    /// The algorithm of that [`name`](Self::name), with `n_chains` chains if its chains are persistent.
    ///
    /// # Errors
    /// [`Error::Argument`] with all names where this is none of them.
    pub fn named(name: &str, n_chains: usize) -> Result<Self> {
        Self::all(n_chains).find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all(n_chains).map(Self::name).collect();
            Error::Argument { what: "algorithm", expected: names.join(" or "), found: name.into() }
        })
    }
}
