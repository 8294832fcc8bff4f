//! `--clamp` and `--class`: visible units that keep given values.

use crate::{console::complain, data};
use harmonium::{Dataset, Error, Result, Segment, Segments, model::Extras};
use std::{
    ops::{Range, RangeInclusive},
    path::PathBuf,
};

/// Columns and their values.
#[derive(Clone)]
pub struct Clamp {
    columns: Vec<RangeInclusive<usize>>,
    at: At,
}

#[derive(Clone)]
enum At {
    Values(Vec<f32>),
    File(PathBuf),
}

/// Parses `COLUMNS=VALUES` or `COLUMNS=FILE`. Text that is not a list of numbers is a file.
pub fn clamp(text: &str) -> std::result::Result<Clamp, String> {
    let column = |text: &str| text.parse::<usize>().ok();
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => Some(column(first)?..=column(last)?).filter(|range| !range.is_empty()),
        None => column(text).map(|column| column..=column),
    };
    let read = text.split_once('=').and_then(|(columns, at)| {
        let columns = columns.split(',').map(range).collect::<Option<Vec<_>>>()?;
        let values = at.split(',').map(|x| x.trim().parse::<f32>().ok()).collect::<Option<Vec<_>>>();
        Some((columns, values.map_or(At::File(at.into()), At::Values))).filter(|_| !at.is_empty())
    });
    match read {
        Some((_, At::Values(values))) if values.iter().any(|x| !x.is_finite()) => Err("expected finite numbers".into()),
        Some((columns, at)) => Ok(Clamp { columns, at }),
        None => Err("expected COLUMNS=VALUES or COLUMNS=FILE, such as 0-9,12=1 or 0-391=upper.npy".into()),
    }
}

fn refuse<T>(what: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
    Err(Error::Argument { what, expected: expected.into(), found: found.into() })
}

/// The values of the clamped units, scaled for the model; NaN for other units. One row for all chains, or one for each chain; `None` if no
/// unit is clamped. Values on the command line and in files are unscaled.
pub fn held(visible: Segments, extras: &Extras, clamps: &[Clamp], class: Option<&str>) -> Result<Option<Dataset>> {
    let of_data = extras.scale.as_ref().map_or(visible, |scale| scale.unscaled(visible));
    let mut parts = clamps.iter().map(|clamp| part(of_data, clamp)).collect::<Result<Vec<_>>>()?;
    if let Some(class) = class {
        parts.push(of_class(visible, &extras.labels, class)?);
    }
    let n = parts.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
    if let Some((_, rows)) = parts.iter().find(|(_, rows)| rows.len() != 1 && rows.len() != n) {
        return refuse(
            "--clamp",
            format!("files of one row, or of {n} rows as in the longest file"),
            rows.len().to_string(),
        );
    }
    let units = visible.units();
    let mut values = vec![f32::NAN; n * units];
    let mut is_held = vec![false; units];
    for (columns, rows) in &parts {
        if let Some(twice) = columns.iter().find(|&&column| std::mem::replace(&mut is_held[column], true)) {
            return refuse("--clamp", "each column only once, --class included", format!("column {twice} twice"));
        }
        for (r, row) in values.chunks_exact_mut(units).enumerate() {
            let from = if rows.len() == 1 { 0 } else { r };
            let rows = rows.rows();
            for (at, &column) in columns.iter().enumerate().filter(|&(at, _)| !rows.is_missing(from, at)) {
                row[column] = rows.value(from, at);
            }
        }
    }
    if n == 0 {
        return Ok(None);
    }
    let held = Dataset::with_missing(values, of_data)?;
    let held =
        extras.scale.as_ref().map_or_else(|| Ok(held.clone()), |scale| Ok(scale.apply_for(&held, visible)?.0))?;
    Ok(Some(held))
}

/// The columns of the label's site, and a row with the state of the class.
fn of_class(visible: Segments, names: &[String], class: &str) -> Result<(Vec<usize>, Dataset)> {
    let is_label = |segment: Segment| matches!(segment, Segment::Potts { sites: 1, .. });
    let Some((segment, units)) = visible.iter().filter(|&(segment, _)| is_label(segment)).last() else {
        return refuse("--class", "a model with a label, such as binary:784,potts:1x10", visible.to_string());
    };
    let number = match names {
        [] => class.parse().ok().filter(|&state| state < units.len()),
        names => names.iter().position(|name| name == class),
    };
    let Some(class) = number else {
        const MOST: usize = 20;
        let expected = match names {
            [] => format!("a class from 0 to {}, a state of {segment}", units.len() - 1),
            names if names.len() <= MOST => format!("a label of the model: {}", names.join(", ")),
            names => format!("one of the model's {} labels, such as {}", names.len(), names[0]),
        };
        return refuse("--class", expected, class);
    };
    let states = (0..units.len()).map(|state| if state == class { 1.0 } else { 0.0 }).collect();
    Ok((units.collect(), Dataset::of_numbers(states, Segments::new(&[segment])?)?))
}

/// The columns of a clamp, and rows with their values.
fn part(visible: Segments, clamp: &Clamp) -> Result<(Vec<usize>, Dataset)> {
    let units = visible.units();
    if let Some(range) = clamp.columns.iter().find(|range| *range.end() >= units) {
        return refuse("--clamp", format!("columns from 0 to {}", units - 1), range.end().to_string());
    }
    let columns: Vec<usize> = clamp.columns.iter().cloned().flatten().collect();
    let laws = laws_of(visible, &columns)?;
    let rows = match &clamp.at {
        At::Values(values) => Dataset::of_numbers(spread(laws, values)?, laws).map_err(|problem| match problem {
            Error::Law { column, expected, found, .. } => {
                let expected = format!("{expected} for column {}", columns[column]);
                Error::Argument { what: "--clamp", expected, found: found.to_string() }
            }
            other => other,
        })?,
        At::File(path) => {
            let images = data::file(path, "--clamp", &data::Selection::default().reading(Some(laws))?)?;
            if let Some(assumed) = data::assumed(path, &images) {
                complain(&assumed);
            }
            data::with_laws(images.rows, laws)?
        }
    };
    Ok((columns, rows))
}

/// The types of some columns, in their order. All states of a Potts site must be there, or none.
fn laws_of(visible: Segments, columns: &[usize]) -> Result<Segments> {
    let all: Vec<(Segment, Range<usize>)> = visible.iter().collect();
    let (mut laws, mut at) = (Vec::new(), 0);
    while let Some(&column) = columns.get(at) {
        let Some((segment, units)) = all.iter().find(|(_, units)| units.contains(&column)) else {
            return refuse("--clamp", format!("columns below {}", visible.units()), format!("column {column}"));
        };
        let states = segment.states();
        let first = column - (column - units.start) % states;
        if !(first..first + states).eq(columns.iter().skip(at).take(states).copied()) {
            let expected = format!("whole sites of {segment}, such as {first}-{}", first + states - 1);
            return refuse("--clamp", expected, format!("column {column} without the whole site in order"));
        }
        at += states;
        laws.push(match segment {
            Segment::Binary(_) => Segment::Binary(1),
            Segment::Gaussian(_) => Segment::Gaussian(1),
            Segment::Potts { .. } => Segment::Potts { sites: 1, states: states as u32 },
        });
    }
    Segments::new(&laws).map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => {
            Error::Argument { what: "--clamp", expected: format!("columns of {expected}"), found }
        }
        other => other,
    })
}

/// Expands values to a row: one value a column; one value a variable, which for a Potts site is the number of its state; or one
/// value for all variables.
fn spread(laws: Segments, values: &[f32]) -> Result<Vec<f32>> {
    let (units, sites) = (laws.units(), laws.sites());
    if values.len() == units {
        return Ok(values.to_vec());
    }
    if values.len() != sites && values.len() != 1 {
        let sites = if sites == units { String::new() } else { format!(" or {sites}, one a site,") };
        let expected = format!("{units} values, one a column,{sites} or one value");
        return refuse("--clamp", expected, values.len().to_string());
    }
    let variables = laws.iter().flat_map(|(segment, _)| (0..segment.sites()).map(move |_| segment.states()));
    let mut row = Vec::with_capacity(units);
    for (n, states) in variables.enumerate() {
        let x = if values.len() == 1 { values[0] } else { values[n] };
        if states == 1 {
            row.push(x);
            continue;
        }
        if !(x >= 0.0 && x < states as f32 && x.fract() == 0.0) {
            let expected = format!("a state from 0 to {} for a Potts site", states - 1);
            return refuse("--clamp", expected, x.to_string());
        }
        row.extend((0..states).map(|state| if state as f32 == x { 1.0 } else { 0.0 }));
    }
    Ok(row)
}
