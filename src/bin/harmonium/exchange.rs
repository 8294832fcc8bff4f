//! `harmonium import` and `harmonium export`: convert models of other programs. They are in npz files, which Python writes and reads with
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

/// The program of the model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// scikit-learn's BernoulliRBM: components_ (hidden × visible), intercept_hidden_ and intercept_visible_.
    Sklearn,
    /// The package rbms: weight_matrix (visible × hidden), hbias and vbias.
    Rbms,
}

impl Format {
    /// The format's names of weights, hidden biases and visible biases.
    fn names(self) -> [&'static str; 3] {
        match self {
            Format::Sklearn => ["components_", "intercept_hidden_", "intercept_visible_"],
            Format::Rbms => ["weight_matrix", "hbias", "vbias"],
        }
    }

    /// The name of the program.
    fn owner(self) -> &'static str {
        match self {
            Format::Sklearn => "scikit-learn",
            Format::Rbms => "rbms",
        }
    }

    /// Whether a row of the weights belongs to a hidden unit, not to a visible one.
    fn is_hidden_first(self) -> bool {
        self == Format::Sklearn
    }
}

#[derive(Args)]
pub struct Import {
    /// Npz file with the arrays of the format; other arrays are ignored.
    pub file: PathBuf,
    /// Program of the model [default: the one whose arrays the file has].
    #[arg(long, value_name = "NAME")]
    pub format: Option<Format>,
    /// Model file to write.
    #[arg(long, value_name = "FILE", default_value = "model.safetensors")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Export {
    /// Model file, as train writes it, with binary visible units.
    pub model: PathBuf,
    /// Program for which to convert the model.
    #[arg(long, value_name = "NAME")]
    pub format: Format,
    /// Npz file to write.
    #[arg(long, value_name = "FILE", default_value = "model.npz")]
    pub out: PathBuf,
}

/// Converts a model of another program. Its parameters are rounded to `f32`.
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
                Err(wrong(options, format!("{name} of finite 32-bit numbers"), found))
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
            let expected = format!("{name} of shape [{n}], to match {weights} of shape [{down}, {across}]");
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

/// Converts a model file for another program.
pub fn export(options: &Export) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let (shape, format, out) = (rbm.shape(), options.format, options.out.display());
    if !shape.visible().is_binary() {
        return Err(Error::Format {
            source_name: options.model.display().to_string(),
            expected: format!("binary visible units, the only ones of {}", format.owner()),
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
        complain(&format!("notice: {out}: the file lacks the model's scale; scale rows as training did"));
    }
    say(&format!("{out}: {n_visible} visible and {n_hidden} hidden units, for {}", format.owner()));
    Ok(())
}

fn wrong(options: &Import, expected: String, found: String) -> Error {
    Error::Format { source_name: options.file.display().to_string(), expected, found }
}

/// The indices of the value at a flat index.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<_> = shape.iter().rev().map(|&size| (at % size, at /= size).0).collect();
    place.reverse();
    place
}

/// The transpose of a row-major matrix with `across` columns.
fn transposed(values: &[f32], across: usize) -> Vec<f32> {
    (0..across).flat_map(|column| values.iter().skip(column).step_by(across).copied()).collect()
}
