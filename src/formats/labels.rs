//! Labels: the categories of rows, by their names.

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

/// Whole numbers up to here are all different as `f32`.
const GREATEST: f32 = 16_777_216.0;

/// Where the labels of rows are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LabelSource {
    /// Nobody asks for them.
    #[default]
    None,
    /// As [`Own`](Self::Own), or nowhere.
    IfOwn,
    /// Where the format has them: MNIST's file of labels, the first column of an svmlight file, `y_train`, `y`, `labels` or
    /// `target` of an npz file.
    Own,
    /// In a column of the data, which is then none of its units.
    Column(Column),
    /// In a file of one column.
    File(PathBuf),
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// By its number, counted from 0, or below 0 from the end: -1 is the last one.
    Number(i64),
    /// By the name that the file's header gives it.
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
    /// The number of the column among these; `names` are empty where the file has none.
    pub(super) fn among(&self, columns: usize, names: &[String], source_name: &str) -> Result<usize> {
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

/// The labels of rows: of each the number of its name, if it has one. Those of a file have their names in ascending order, whole
/// numbers first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    names: Vec<String>,
    states: Vec<Option<u32>>,
}

impl Labels {
    /// The labels of rows that no file of this crate brought: each the number of a name, if it has one.
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
    /// [`Error::Argument`] where a number is not below that of the names.
    pub fn new(names: Vec<String>, states: Vec<Option<u32>>) -> Result<Self> {
        match states.iter().flatten().find(|&&state| state as usize >= names.len()) {
            Some(state) => {
                let expected = format!("numbers below {}, that of the names", names.len());
                Err(Error::Argument { what: "states", expected, found: state.to_string() })
            }
            None => Ok(Self { names, states }),
        }
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of each row's name.
    pub fn states(&self) -> &[Option<u32>] {
        &self.states
    }

    /// Nothing is known of so many rows.
    pub fn missing(rows: usize, names: Vec<String>) -> Self {
        Self { names, states: vec![None; rows] }
    }

    /// The same labels by the numbers of other names.
    ///
    /// # Errors
    /// [`Error::Format`] with the first label that is none of them.
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

    /// The rows with one more Potts site behind their units, whose states are the names: `rows` and `potts:1xNAMES`. Where a label
    /// is missing all its states are, and the values are numbers of 32 bits.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are fewer than two names, or more segments or units than a layer can have;
    /// [`Error::Length`] where there are other rows in number.
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

    /// Without the first row, which was the header.
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

/// The laws of units with a Potts site of so many labels behind them.
///
/// # Errors
/// Those of [`Segments::new`].
pub fn with_labels(visible: Segments, labels: usize) -> Result<Segments> {
    let site = Segment::Potts { sites: 1, states: labels.try_into().unwrap_or(u32::MAX) };
    let all: Vec<_> = visible.iter().map(|(segment, _)| segment).chain([site]).collect();
    Segments::new(&all)
}

/// The laws without the last Potts site, where it has so many states and is not all there is: [`with_labels`] undone.
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

/// Labels while they are read.
#[derive(Default)]
pub(super) struct Builder {
    numbers: HashMap<String, u32>,
    states: Vec<Option<u32>>,
    /// The bytes that names take.
    named: usize,
}

impl Builder {
    /// A label, or none. A whole number has one name, however it is written.
    pub fn push(&mut self, label: Option<&str>) {
        let state = label.map(|label| {
            let name = match label.parse() {
                Ok(x) => whole(x).unwrap_or_else(|| label.to_string()),
                Err(_) => label.to_string(),
            };
            let next = self.numbers.len() as u32;
            self.named += name.len();
            *self.numbers.entry(name).or_insert(next)
        });
        self.states.push(state);
    }

    /// About how many bytes are taken.
    pub fn bytes(&self) -> u64 {
        (self.named + self.states.len() * size_of::<Option<u32>>()) as u64
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

/// A whole number as a name.
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
    /// Takes a column of labels, whole numbers, out of the table.
    pub fn take_labels(&mut self, column: &Column, source_name: &str) -> Result<()> {
        fn without<T: Copy>(values: &mut Vec<T>, columns: usize, column: usize) {
            let mut at = 0;
            values.retain(|_| {
                at += 1;
                (at - 1) % columns != column
            });
        }
        let (columns, rows) = (self.columns, self.len());
        let column = column.among(columns, &[], source_name)?;
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
        (self.img_shape, self.said) = (None, None);
        Ok(())
    }
}

/// The first value that is there and not within [0, 1], with its place.
pub(super) fn outside_of(values: &[f32]) -> Option<(usize, f64)> {
    let is_outside = |x: &f32| !((0.0..=1.0).contains(x) || x.is_nan());
    values.iter().position(is_outside).map(|at| (at, f64::from(values[at])))
}
