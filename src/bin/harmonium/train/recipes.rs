//! Recipes: tables of options that work well together.

use clap::ValueEnum;
use harmonium::Binarise;
use std::fmt::{self, Display};

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// The run of the Deep Learning Tutorials.
    #[default]
    Tutorial,
    /// The best likelihood.
    Density,
    /// Hidden units that are rare and look at a part of the row: strokes.
    Features,
}

/// L2 depends on the rows and their bits, the number of chains on the bits: [`Recipe::l2_of_rows`], [`Recipe::chains`].
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
    ("epochs", "30"),
    ("lr", "0.2"),
    ("schedule", "linear"),
    ("centring", "0.01"),
    ("l1", "0.0003"),
    ("sparsity", "0.1:0.1"),
    ("monitor", "reconstruction"),
];
/// L2 of the density recipe: 4/N of N rows, but no less than this, where bits are drawn anew in every epoch and where not.
const LEAST_L2_OF_SAMPLES: f32 = 2e-4;
const LEAST_L2: f32 = 3e-4;
const L2_TIMES_ROWS: f32 = 4.0;
/// Chains of the density recipe, likewise.
const CHAINS_OF_SAMPLES: usize = 100;
const CHAINS: usize = 200;

impl Recipe {
    /// The options that differ from the defaults, by their names, but for those that were said.
    pub fn options(self, is_said: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
        let table = match self {
            Recipe::Tutorial => &[],
            Recipe::Density => DENSITY,
            Recipe::Features => FEATURES,
        };
        // A run is as long as was said, in whatever unit.
        let is_long = ["minutes", "updates", "epochs"].into_iter().any(&is_said);
        let is_length = |name: &str| name == "updates" || name == "epochs";
        let wanted = |(name, _): &&(&str, &str)| !(is_said(name) || is_long && is_length(name));
        table.iter().filter(wanted).copied().collect()
    }

    /// How many chains belong to such bits, where the recipe says so.
    pub fn chains(self, binarise: Binarise) -> Option<usize> {
        let chains = if binarise == Binarise::Sample { CHAINS_OF_SAMPLES } else { CHAINS };
        (self == Recipe::Density).then_some(chains)
    }

    /// The L2 that belongs to so many rows, where the recipe has one.
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
