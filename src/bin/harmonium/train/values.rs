//! The types of option values, their parsers, and their form in checkpoints.

use clap::ValueEnum;
use harmonium::Algorithm;
use serde::{Serialize, Serializer};
use std::{
    fmt::{self, Display},
    path::PathBuf,
    str::FromStr,
};

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    #[default]
    Off,
}

/// The model to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    #[default]
    Last,
    Best,
}

/// How to scale the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scaling {
    #[default]
    None,
    Max,
    Minmax,
    Standard,
}

macro_rules! display_as_values {
    ($($name:ident),*) => {$(
        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}
display_as_values!(Switch, Keep, Scaling);

/// The initial parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Init {
    #[default]
    Tutorial,
    Data,
    Model(PathBuf),
}

impl FromStr for Init {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tutorial" => Ok(Init::Tutorial),
            "data" => Ok(Init::Data),
            "" => Err("expected tutorial, data or a model file".into()),
            _ => Ok(Init::Model(text.into())),
        }
    }
}

impl Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init::Tutorial => f.pad("tutorial"),
            Init::Data => f.pad("data"),
            Init::Model(path) => f.pad(&path.display().to_string()),
        }
    }
}

/// The source of the validation rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Validation {
    None,
    /// The rows of a folder after the training rows.
    Rest,
    Part(f64),
    File(PathBuf),
}

impl FromStr for Validation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = text.parse().ok().map(|part: f64| {
            let expected = "expected a fraction of the rows above 0 and below 1";
            (part > 0.0 && part < 1.0).then_some(Validation::Part(part)).ok_or_else(|| expected.to_string())
        });
        match text {
            "none" => Ok(Validation::None),
            "rest" => Ok(Validation::Rest),
            "" => Err("expected rest, none, a fraction of the rows or a file".into()),
            _ => part.unwrap_or_else(|| Ok(Validation::File(text.into()))),
        }
    }
}

impl Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Validation::None => f.pad("none"),
            Validation::Rest => f.pad("rest"),
            Validation::Part(part) => write!(f, "{part}"),
            Validation::File(path) => f.pad(&path.display().to_string()),
        }
    }
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of at least 0, or off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share(pub Option<f32>);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|x: &f32| x.is_finite() && *x >= 0.0);
        if text == "off" {
            return Ok(Share(None));
        }
        number.map(|x| Share(Some(x))).ok_or_else(|| "expected a finite number of at least 0, or off".into())
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.pad("off"),
            Some(x) => write!(f, "{x:?}"),
        }
    }
}

/// The target and the strength of the sparsity penalty, or off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pull(pub Option<(f32, f32)>);

impl FromStr for Pull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Pull(None));
        }
        let numbers = text.split_once(':').and_then(|(target, cost)| Some((target.parse().ok()?, cost.parse().ok()?)));
        let pull = numbers
            .filter(|(target, cost): &(f32, f32)| (0.0..=1.0).contains(target) && cost.is_finite() && *cost >= 0.0);
        pull.map(|pull| Pull(Some(pull)))
            .ok_or_else(|| "expected a mean in [0, 1] and a strength of at least 0, such as 0.05:1, or off".into())
    }
}

impl Display for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.pad("off"),
            Some((target, cost)) => write!(f, "{target:?}:{cost:?}"),
        }
    }
}

/// An interval between two checkpoints.
#[derive(Clone, Copy)]
pub enum Every {
    Updates(u64),
    Epochs(u64),
    Minutes(u64),
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Every::Updates(n) => serializer.collect_str(&format_args!("{n}updates")),
            Every::Epochs(n) => serializer.collect_str(&format_args!("{n}epochs")),
            Every::Minutes(n) => serializer.collect_str(&format_args!("{n}minutes")),
        }
    }
}

pub fn every(text: &str) -> Result<Every, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let every = number.parse().ok().filter(|&n| n > 0).and_then(|n| match unit.trim_start() {
        "update" | "updates" => Some(Every::Updates(n)),
        "" | "epoch" | "epochs" => Some(Every::Epochs(n)),
        "minute" | "minutes" => Some(Every::Minutes(n)),
        _ => None,
    });
    every.ok_or_else(|| {
        "expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()
    })
}

/// Parses a value with its `FromStr`, and keeps the message of its error.
pub fn text<T: FromStr<Err: Into<Problem>>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|problem: T::Err| problem.into().0)
}

/// The message of a wrong value, without the option's name, which clap adds.
pub struct Problem(String);

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Problem(text)
    }
}

impl From<harmonium::Error> for Problem {
    fn from(problem: harmonium::Error) -> Self {
        match problem {
            harmonium::Error::Argument { expected, .. } => Problem(format!("expected {expected}")),
            other => Problem(other.to_string()),
        }
    }
}

pub fn shortest<S: Serializer>(x: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{x:?}"))
}

pub fn shown<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub fn name<S: Serializer>(algorithm: &Algorithm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(algorithm.name())
}

/// Nothing for the default, which older checkpoints do not have.
pub fn unless_usual<T: Display + Default + PartialEq, S: Serializer>(
    value: &T, serializer: S,
) -> Result<S::Ok, S::Error> {
    Some(value).filter(|value| **value != T::default()).map(T::to_string).serialize(serializer)
}

/// Nothing if the option is not given.
pub fn if_given<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}

/// Nothing for off, which older checkpoints do not have.
pub fn if_on<S: Serializer>(switch: &Option<Switch>, serializer: S) -> Result<S::Ok, S::Error> {
    switch.filter(|switch| *switch == Switch::On).map(|switch| switch.to_string()).serialize(serializer)
}

/// Nothing for 1, which older checkpoints do not have.
pub fn unless_1<S: Serializer>(n: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    n.filter(|&n| n != 1).serialize(serializer)
}
