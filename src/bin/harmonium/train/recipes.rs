//! Recipes: tables of defaults that work well together.

use clap::ValueEnum;
use harmonium::Binarise;
use std::fmt::{self, Display};

/// The purpose of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// The run of the Deep Learning Tutorials: PCD-15, 500 hidden units, 15 epochs.
    #[default]
    Tutorial,
    /// High likelihood: 100 000 updates of centred PCD with averaged parameters.
    Density,
    /// Sparse local features, such as strokes: 15 000 updates of CD-1 with a sparsity penalty.
    Features,
}

/// The density recipe. L2 depends on the number of rows and on `--binarise`, the number of chains on `--binarise`: see
/// [`Recipe::l2_of_rows`] and [`Recipe::chains`].
const DENSITY: &[(&str, &str)] = &[
    ("init", "data"),
    ("binarise", "sample"),
    ("batch-size", "100"),
    ("updates", "100000"),
    ("lr", "0.2"),
    ("schedule", "linear"),
    ("k", "1:60%,5"),
    ("centring", "0.01"),
    ("exchange", "on"),
    ("average", "0.2"),
    ("monitor", "none"),
    ("checkpoint-every", "1minutes"),
];
const FEATURES: &[(&str, &str)] = &[
    ("init", "data"),
    ("algorithm", "cd"),
    ("k", "1"),
    ("batch-size", "100"),
    ("updates", "15000"),
    ("lr", "0.2"),
    ("schedule", "linear"),
    ("centring", "0.01"),
    ("l1", "0.0003"),
    ("sparsity", "0.1:0.1"),
    ("monitor", "reconstruction"),
];
/// The least L2 of the density recipe, with bits that each epoch draws anew, and without. For N rows, L2 is 4/N if that is more.
const LEAST_L2_OF_SAMPLES: f32 = 2e-4;
const LEAST_L2: f32 = 3e-4;
const L2_TIMES_ROWS: f32 = 4.0;
/// Chains of the density recipe, with bits that each epoch draws anew, and without.
const CHAINS_OF_SAMPLES: usize = 100;
const CHAINS: usize = 200;

impl Recipe {
    /// The options of the recipe that are not given on the command line: names and values.
    pub fn options(self, is_given: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
        let table = match self {
            Recipe::Tutorial => &[],
            Recipe::Density => DENSITY,
            Recipe::Features => FEATURES,
        };
        // A length on the command line, in any unit, replaces that of the recipe.
        let is_long = ["minutes", "updates", "epochs"].into_iter().any(&is_given);
        let is_length = |name: &str| name == "updates" || name == "epochs";
        let wanted = |(name, _): &&(&str, &str)| !(is_given(name) || is_long && is_length(name));
        table.iter().filter(wanted).copied().collect()
    }

    /// The recipe's number of chains, if it has one.
    pub fn chains(self, binarise: Binarise) -> Option<usize> {
        let chains = if binarise == Binarise::Sample { CHAINS_OF_SAMPLES } else { CHAINS };
        (self == Recipe::Density).then_some(chains)
    }

    /// The recipe's L2 for a number of rows, if it has one.
    pub fn l2_of_rows(self, rows: usize, binarise: Binarise) -> Option<f32> {
        let least = if binarise == Binarise::Sample { LEAST_L2_OF_SAMPLES } else { LEAST_L2 };
        (self == Recipe::Density).then(|| least.max(L2_TIMES_ROWS / rows as f32))
    }
}

impl Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}
