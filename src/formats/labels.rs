//! Labels: the category of each row, by name.

use super::table::{Numbers, Table};
use crate::{
    dataset::Dataset,
    error::{Error, Result, shown},
    rows::Values,
    storage::format_error,
    units::{Segment, Segments},
};
use std::{
    cmp::Ordering,
    collections::HashMap,
    fmt::{self, Display},
    path::PathBuf,
    str::FromStr,
};

/// Up to this limit, distinct whole numbers stay distinct as `f32`.
const GREATEST: f32 = 16_777_216.0;

/// Where to find the labels of the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LabelSource {
    /// Labels are not read.
    #[default]
    None,
    /// The same as [`Own`](Self::Own) if the file has labels; without labels otherwise.
    IfOwn,
    /// In the place that the format provides: MNIST's file of labels, the first column of an svmlight file, or the array `y_train`, `y`,
    /// `labels` or `target` of an npz file.
    Own,
    /// In a column of the data, which then is not a unit.
    Column(Column),
    /// In a separate file with one column.
    File(PathBuf),
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// By number, counted from 0. Negative numbers count from the end: -1 is the last column.
    Number(i64),
    /// By its name in the file's header.
    Name(String),
}

impl FromStr for Column {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || Error::Argument { what: "column", expected: "a number or a name".into(), found: "none".into() };
        match text.parse() {
            Ok(number) => Ok(Column::Number(number)),
            Err(_) if text.is_empty() => Err(fail()),
            Err(_) => Ok(Column::Name(text.into())),
        }
    }
}

impl Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::Number(number) => write!(f, "{number}"),
            Column::Name(name) => f.pad(name),
        }
    }
}

impl Column {
    /// The index of the column among `columns`. `names` is empty if the file has no header.
    pub(super) fn index_among(&self, columns: usize, names: &[String], source_name: &str) -> Result<usize> {
        let found = match self {
            Column::Number(number) => {
                let number = if *number < 0 { number.checked_add_unsigned(columns as u64) } else { Some(*number) };
                number.and_then(|number| usize::try_from(number).ok()).filter(|&number| number < columns)
            }
            Column::Name(name) => names.iter().position(|other| other == name),
        };
        found.ok_or_else(|| {
            let expected = match self {
                Column::Number(_) => format!("labels in one of {columns} columns, 0 to {}", columns as i64 - 1),
                Column::Name(_) if names.is_empty() => "the number of a column, as the file names none".into(),
                Column::Name(_) => format!("labels in one of the columns {}", shown(&names.join(", "))),
            };
            format_error(source_name, expected, shown(&self.to_string()))
        })
    }
}

/// The label of each row: an index into a list of names, or `None` if the row has no label.
///
/// Labels that are read from a file have their names in ascending order, whole numbers first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    names: Vec<String>,
    states: Vec<Option<u32>>,
}

impl Labels {
    /// Labels from values in memory: `states[r]` is the index of row r's name in `names`, or `None` if it is missing.
    ///
    /// ```
    /// use harmonium::formats::Labels;
    ///
    /// let names = ["cat", "dog"].map(String::from).to_vec();
    /// assert_eq!(Labels::new(names.clone(), vec![Some(1), None])?.states(), [Some(1), None]);
    /// assert!(Labels::new(names, vec![Some(2)]).is_err());
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if a state is not below the number of names.
    pub fn new(names: Vec<String>, states: Vec<Option<u32>>) -> Result<Self> {
        match states.iter().flatten().find(|&&state| state as usize >= names.len()) {
            Some(state) => {
                let expected = format!("numbers below {}, the number of names", names.len());
                Err(Error::Argument { what: "states", expected, found: state.to_string() })
            }
            None => Ok(Self { names, states }),
        }
    }

    /// The names, in the order of their indices.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index of each row's name, or `None` if the label is missing.
    pub fn states(&self) -> &[Option<u32>] {
        &self.states
    }

    /// Labels for `rows` rows, all of them missing.
    pub fn missing(rows: usize, names: Vec<String>) -> Self {
        Self { names, states: vec![None; rows] }
    }

    /// The same labels as indices into another list of names.
    ///
    /// # Errors
    /// [`Error::Format`] for the first label that `names` lacks.
    pub fn by(&self, names: &[String], source_name: &str) -> Result<Self> {
        let number = |name: &String| names.iter().position(|other| other == name).map(|number| number as u32);
        let numbers: Vec<_> = self.names.iter().map(number).collect();
        if let Some(row) = self.states.iter().position(|state| state.is_some_and(|s| numbers[s as usize].is_none())) {
            let name = self.states[row].map_or("", |state| self.names[state as usize].as_str());
            let expected = format!("labels of {}", shown(&names.join(", ")));
            return Err(format_error(source_name, expected, format!("{} in row {row}", shown(name))));
        }
        let states = self.states.iter().map(|state| state.and_then(|state| numbers[state as usize])).collect();
        Ok(Self { names: names.to_vec(), states })
    }

    /// Appends the labels to the rows as one more Potts site, whose states are the names: laws `rows` and `potts:1xNAMES`.
    ///
    /// If a label is missing, all states of its site are missing, and the values become `f32`.
    ///
    /// ```
    /// use harmonium::{Dataset, formats::Labels};
    ///
    /// let rows = Dataset::from_u8(vec![255, 0, 0, 255], 2)?;
    /// let labels = Labels::new(["cat", "dog"].map(String::from).to_vec(), vec![Some(1), Some(0)])?;
    /// let both = labels.beside(&rows)?;
    /// assert_eq!(both.segments().to_string(), "binary:2,potts:1x2");
    /// assert_eq!(both.rows().to_vec(), [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than two names, or more segments or units than a layer allows;
    /// [`Error::Length`] if the number of rows differs from the number of labels.
    pub fn beside(&self, rows: &Dataset) -> Result<Dataset> {
        fn wider<T: Copy>(values: &[T], units: usize, states: &[Option<u32>], n: usize, with: [T; 3]) -> Vec<T> {
            let mut wider = Vec::with_capacity(values.len() + states.len() * n);
            for (row, state) in values.chunks_exact(units).zip(states) {
                wider.extend_from_slice(row);
                let first = wider.len();
                wider.resize(first + n, if state.is_some() { with[0] } else { with[2] });
                if let Some(state) = state {
                    wider[first + *state as usize] = with[1];
                }
            }
            wider
        }
        let (n, found) = (self.names.len(), self.states.len());
        if found != rows.len() {
            return Err(Error::Length { what: "labels", expected: rows.len(), found });
        }
        if n < 2 {
            let expected = "at least two different labels".into();
            return Err(Error::Argument { what: "labels", expected, found: n.to_string() });
        }
        let segments = with_labels(rows.segments(), n)?;
        let (states, is_whole) = (&self.states, self.states.iter().all(Option::is_some));
        match rows.rows().values() {
            Values::U8(values) if is_whole => {
                let values = wider(values, rows.units(), states, n, [0, u8::MAX, 0]);
                Dataset::from_u8(values, segments.units())?.with_segments(segments)
            }
            _ => {
                let values = wider(&rows.rows().to_vec(), rows.units(), states, n, [0.0, 1.0, f32::NAN]);
                Dataset::with_missing(values, segments)
            }
        }
    }

    /// Drops the label of the first row, which was the header.
    pub(super) fn without_first(self) -> Self {
        let mut builder = Builder::default();
        self.states[1..].iter().for_each(|state| builder.push(state.map(|state| self.names[state as usize].as_str())));
        builder.finish()
    }

    pub(super) fn keep(&mut self, rows: std::ops::Range<usize>) {
        self.states.truncate(rows.end);
        self.states.drain(..rows.start);
    }
}

/// Appends a Potts site with `labels` states to the laws of the visible units.
///
/// # Errors
/// Those of [`Segments::new`].
pub fn with_labels(visible: Segments, labels: usize) -> Result<Segments> {
    let site = Segment::Potts { sites: 1, states: labels.try_into().unwrap_or(u32::MAX) };
    let all: Vec<_> = visible.iter().map(|(segment, _)| segment).chain([site]).collect();
    Segments::new(&all)
}

/// Removes the last Potts site, the inverse of [`with_labels`]. `None` if the last site does not have `labels` states, or is the
/// only site.
pub fn without_labels(visible: Segments, labels: usize) -> Option<Segments> {
    let mut all: Vec<_> = visible.iter().map(|(segment, _)| segment).collect();
    match all.pop()? {
        Segment::Potts { sites, states } if states as usize == labels => {
            if sites > 1 {
                all.push(Segment::Potts { sites: sites - 1, states });
            }
            Segments::new(&all).ok()
        }
        _ => None,
    }
}

/// Collects labels while they are read.
#[derive(Default)]
pub(super) struct Builder {
    numbers: HashMap<String, u32>,
    states: Vec<Option<u32>>,
    /// Total length of the names in bytes.
    name_bytes: usize,
}

impl Builder {
    /// Adds a label, or a missing one. All spellings of a whole number give the same name.
    pub fn push(&mut self, label: Option<&str>) {
        let state = label.map(|label| {
            let name = match label.parse() {
                Ok(x) => whole(x).unwrap_or_else(|| label.to_string()),
                Err(_) => label.to_string(),
            };
            let next = self.numbers.len() as u32;
            self.name_bytes += name.len();
            *self.numbers.entry(name).or_insert(next)
        });
        self.states.push(state);
    }

    /// The approximate memory in use, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.name_bytes + self.states.len() * size_of::<Option<u32>>()) as u64
    }

    pub fn finish(self) -> Labels {
        let mut named: Vec<_> = self.numbers.into_iter().collect();
        named.sort_by(|(a, _), (b, _)| in_order(a, b));
        let mut places = vec![0; named.len()];
        named.iter().enumerate().for_each(|(place, (_, number))| places[*number as usize] = place as u32);
        let states = self.states.into_iter().map(|state| state.map(|state| places[state as usize])).collect();
        Labels { names: named.into_iter().map(|(name, _)| name).collect(), states }
    }
}

/// The name of a whole number.
fn whole(x: f64) -> Option<String> {
    (x.fract() == 0.0 && x.abs() <= 9.0e15).then(|| (x as i64).to_string())
}

fn in_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

impl Table {
    /// Removes a column of labels, which must be whole numbers, from the table.
    pub fn take_labels(&mut self, column: &Column, source_name: &str) -> Result<()> {
        fn without<T: Copy>(values: &mut Vec<T>, columns: usize, column: usize) {
            let mut at = 0;
            values.retain(|_| {
                at += 1;
                (at - 1) % columns != column
            });
        }
        let (columns, rows) = (self.columns, self.len());
        let column = column.index_among(columns, &[], source_name)?;
        let mut labels = Builder::default();
        for row in 0..rows {
            let x = self.numbers.number(row * columns + column);
            if !x.is_nan() && (x.fract() != 0.0 || x.abs() > GREATEST) {
                let expected = format!("labels that are whole numbers of at most {GREATEST}");
                return Err(format_error(source_name, expected, format!("{x} in row {row}, column {column}")));
            }
            labels.push(Some(x).filter(|x| !x.is_nan()).map(|x| x.to_string()).as_deref());
        }
        match &mut self.numbers {
            Numbers::Bytes(values) | Numbers::Bits(values) => without(values, columns, column),
            Numbers::Real(values, outside) => {
                without(values, columns, column);
                *outside = outside_of(values);
            }
        }
        (self.columns, self.labels) = (columns - 1, Some(labels.finish()));
        (self.img_shape, self.declared) = (None, None);
        Ok(())
    }
}

/// The first value that is neither missing nor within [0, 1], with its position.
pub(super) fn outside_of(values: &[f32]) -> Option<(usize, f64)> {
    let is_outside = |x: &f32| !((0.0..=1.0).contains(x) || x.is_nan());
    values.iter().position(is_outside).map(|at| (at, f64::from(values[at])))
}
