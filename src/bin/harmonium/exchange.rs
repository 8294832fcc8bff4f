//! `harmonium import` and `harmonium export`: models of other programs, by npz files, which Python writes and reads with
//! `numpy.savez` and `numpy.load`.

use crate::{
    console::{complain, say},
    memory,
};
use clap::{Args, ValueEnum};
use harmonium::{
    Error, Rbm, Result, Shape,
    formats::npz::{self, Archive, Array},
    model,
};
use std::path::PathBuf;

/// Whose model it is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// scikit-learn's BernoulliRBM: components_ (hidden × visible), intercept_hidden_ and intercept_visible_.
    Sklearn,
    /// The package rbms: weight_matrix (visible × hidden), hbias and vbias.
    Rbms,
}

impl Format {
    /// What the format calls weights, hidden biases and visible biases.
    fn names(self) -> [&'static str; 3] {
        match self {
            Format::Sklearn => ["components_", "intercept_hidden_", "intercept_visible_"],
            Format::Rbms => ["weight_matrix", "hbias", "vbias"],
        }
    }

    /// The program, as it is known.
    fn owner(self) -> &'static str {
        match self {
            Format::Sklearn => "scikit-learn",
            Format::Rbms => "rbms",
        }
    }

    /// Whether a row of weights is a hidden unit's, and not a visible unit's.
    fn is_hidden_first(self) -> bool {
        self == Format::Sklearn
    }
}

#[derive(Args)]
pub struct Import {
    /// An npz file with the arrays of the format; other arrays are left alone.
    pub file: PathBuf,
    /// Whose model it is [default: the one whose arrays are there].
    #[arg(long, value_name = "NAME")]
    pub format: Option<Format>,
    /// The model file to write.
    #[arg(long, value_name = "FILE", default_value = "model.safetensors")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Export {
    /// A model file, as train writes it, of binary units.
    pub model: PathBuf,
    /// For whom the model is.
    #[arg(long, value_name = "NAME")]
    pub format: Format,
    /// The npz file to write.
    #[arg(long, value_name = "FILE", default_value = "model.npz")]
    pub out: PathBuf,
}

/// Weights are rounded to `f32`.
pub fn import(options: &Import) -> Result<()> {
    let mut archive = Archive::open(&options.file, memory::free())?;
    let is_there =
        |format: &Format| format.names().iter().all(|name| archive.names().iter().any(|other| other == name));
    let formats = options.format.as_ref().map_or(Format::value_variants(), std::slice::from_ref);
    let Some(&format) = formats.iter().find(|format| is_there(format)) else {
        let names: Vec<_> = formats.iter().map(|format| format.names().join(", ")).collect();
        let found = if archive.names().is_empty() { "none".into() } else { archive.names().join(", ") };
        return Err(wrong(options, format!("arrays {}", names.join(", or ")), found));
    };
    let [weights, hidden, visible] = format.names();
    let mut read = |name: &str| {
        let array = archive.array(name)?;
        match array.values.iter().position(|x| !x.is_finite()) {
            None => Ok(array),
            Some(at) => {
                let found = format!("{} at {:?}", array.values[at], place(at, &array.shape));
                Err(wrong(options, format!("{name} of finite numbers, within those of 32 bits"), found))
            }
        }
    };
    let (w, c, b) = (read(weights)?, read(hidden)?, read(visible)?);
    let &[down, across] = &w.shape[..] else {
        return Err(wrong(options, format!("{weights} of two dimensions"), format!("{:?}", w.shape)));
    };
    let (n_visible, n_hidden) = if format.is_hidden_first() { (across, down) } else { (down, across) };
    for (name, array, n) in [(hidden, &c, n_hidden), (visible, &b, n_visible)] {
        if array.shape != [n] {
            let expected = format!("{name} of shape [{n}], as {weights} of shape [{down}, {across}] has it");
            return Err(wrong(options, expected, format!("{:?}", array.shape)));
        }
    }
    let shape = Shape::new(n_visible, n_hidden).map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => wrong(options, format!("{weights}: {expected}"), found),
        other => other,
    })?;
    let w = if format.is_hidden_first() { transposed(&w.values, across) } else { w.values };
    let rbm = Rbm::from_parts(shape, w, b.values, c.values)?;
    model::save(rbm.view(), &options.out)?;
    let out = options.out.display();
    say(&format!("{out}: {n_visible} visible and {n_hidden} hidden units, from {}", format.owner()));
    Ok(())
}

pub fn export(options: &Export) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let (shape, format, out) = (rbm.shape(), options.format, options.out.display());
    if !shape.visible().is_binary() {
        return Err(Error::Format {
            source_name: options.model.display().to_string(),
            expected: format!("binary visible units, as models for {} have", format.owner()),
            found: shape.visible().to_string(),
        });
    }
    let (n_visible, n_hidden, view) = (shape.n_visible(), shape.n_hidden(), rbm.view());
    let (sizes, values) = match format.is_hidden_first() {
        true => (vec![n_hidden, n_visible], transposed(view.weights(), n_hidden)),
        false => (vec![n_visible, n_hidden], view.weights().to_vec()),
    };
    let bias = |values: &[f32]| Array { shape: vec![values.len()], values: values.to_vec() };
    let [weights, hidden, visible] = format.names();
    let arrays = [
        (weights, Array { shape: sizes, values }),
        (hidden, bias(view.hidden_bias())),
        (visible, bias(view.visible_bias())),
    ];
    npz::save(&arrays, &options.out)?;
    if extras.scale.is_some() {
        complain(&format!("notice: {out}: without the model's scale: rows must be scaled as training scaled them"));
    }
    say(&format!("{out}: {n_visible} visible and {n_hidden} hidden units, for {}", format.owner()));
    Ok(())
}

fn wrong(options: &Import, expected: String, found: String) -> Error {
    Error::Format { source_name: options.file.display().to_string(), expected, found }
}

/// The indices of a value.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<_> = shape.iter().rev().map(|&size| (at % size, at /= size).0).collect();
    place.reverse();
    place
}

/// A matrix with rows of so many values, its columns as rows.
fn transposed(values: &[f32], across: usize) -> Vec<f32> {
    (0..across).flat_map(|column| values.iter().skip(column).step_by(across).copied()).collect()
}
