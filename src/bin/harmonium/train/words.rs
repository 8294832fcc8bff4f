//! The shortest command line for the options in a checkpoint.

use super::{Train, values::Validation};
use crate::arguments::option_name;
use std::collections::BTreeMap;

type Options = BTreeMap<String, String>;

/// The values of options that a checkpoint leaves out, if a new run has another default.
const LEFT_OUT: [(&str, &str); 4] =
    [("likelihood", "off"), ("log-every", "1"), ("shuffle", "off"), ("validation", "none")];

/// The data, and the options that differ from their defaults. Options of a recipe are listed like others.
pub fn words(stored: &Options) -> Vec<(String, String)> {
    let mut wanted = stored.clone();
    wanted.remove("recipe");
    // `none` is the same as no option.
    wanted.retain(|name, value| name != "validation" || value != "none");
    let mut words = wanted.clone();
    for (name, value) in LEFT_OUT {
        words.entry(name.into()).or_insert_with(|| value.into());
    }
    let has_types = words.contains_key("visible");
    for name in words.clone().into_keys() {
        let mut fewer = words.clone();
        fewer.remove(&name);
        // With other types, the initial model also depends on the options that are given.
        let is_needed = name == "data" || has_types && ["init", "monitor"].contains(&name.as_str());
        if !is_needed && give(&fewer, &wanted) {
            words = fewer;
        }
    }
    words.into_iter().map(|(name, value)| (option_name(&name).to_string(), value)).collect()
}

/// Whether these words give the wanted options.
fn give(words: &Options, wanted: &Options) -> bool {
    let line = words.iter().map(|(name, value)| format!("--{name}={value}"));
    Train::from_words(line).is_ok_and(|mut train| {
        train.begin(words.keys().map(|name| option_name(name).to_string()).collect());
        train.spread_lines();
        train.validation = train.validation.take().filter(|rows| *rows != Validation::None);
        train.stored() == *wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out() {
        let stored = |words: &[&str]| {
            let given = words.iter().map(|word| word[2..].split('=').next().unwrap_or_default().to_string()).collect();
            let mut train = Train::from_words(words.iter().map(|word| word.to_string())).expect("options");
            train.begin(given);
            train.spread_lines();
            train.stored()
        };
        let shown = |words: &[&str]| {
            let words = super::words(&stored(words));
            words.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shown(&["--data=rows"]), "data rows");
        assert_eq!(shown(&["--data=rows", "--batch-size=10"]), "batch-size 10, data rows");
        assert_eq!(shown(&["--data=rows", "--batch-size=10", "--chains=20"]), "batch-size 10, chains 20, data rows");
        assert_eq!(shown(&["--data=rows", "--algorithm=cd"]), "algorithm cd, data rows");
        assert_eq!(shown(&["--data=rows", "--algorithm=cd", "--monitor=pl"]), "algorithm cd, data rows, monitor pl");
        assert_eq!(shown(&["--data=rows", "--epochs=100"]), "data rows, epochs 100");
        assert_eq!(shown(&["--data=rows", "--epochs=100", "--log-every=1"]), "data rows, epochs 100, log-every 1");
        let off = ["--data=rows", "--likelihood=off", "--shuffle=off", "--validation=none", "--momentum=0.5"];
        assert_eq!(shown(&off), "data rows, likelihood off, momentum 0.5, shuffle off");
    }
}
