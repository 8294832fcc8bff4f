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
    /// Hidden units that are rare and mean something: strokes, edges.
    Features,
}

/// All that a recipe of bits has besides the defaults; L2 is the only thing that depends on where the bits come from.
const DENSITY: &[(&str, &str)] = &[
    ("init", "data"),
    ("binarise", "sample"),
    ("batch-size", "100"),
    ("chains", "100"),
    ("epochs", "200"),
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
    ("lr", "0.1"),
    ("schedule", "linear"),
    ("momentum", "0.5"),
    ("l2", "0.0002"),
    ("sparsity", "0.05:1"),
    ("monitor", "reconstruction"),
];
/// L2 of the density recipe, where bits are drawn anew in every epoch and where they are not or are few.
const L2_OF_SAMPLES: &str = "0.0002";
const L2_OF_BITS: &str = "0.0003";

impl Recipe {
    /// The options that differ from the defaults, by their names, given what else was said.
    pub fn options(self, said: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
        let is_sample = said("binarise").is_none_or(|binarise| binarise == "sample");
        self.table(is_sample, |name| said(name).is_some())
    }

    /// The same, where all options are known.
    pub fn options_beside(self, binarise: Binarise, is_said: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        self.table(binarise == Binarise::Sample, is_said)
    }

    fn table(self, is_sample: bool, is_said: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let table = match self {
            Recipe::Tutorial => &[],
            Recipe::Density => DENSITY,
            Recipe::Features => FEATURES,
        };
        let mut options: Vec<_> = table.iter().map(|&(name, value)| (name, value.to_string())).collect();
        if self == Recipe::Density {
            options.push(("l2", if is_sample { L2_OF_SAMPLES } else { L2_OF_BITS }.into()));
        }
        options.retain(|(name, _)| !is_said(name));
        options
    }
}

impl Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}
