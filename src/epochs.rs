//! The data as each epoch uses it: the rows in a new order, and their grey values as new bits.
//!
//! Both depend only on the seed and the number of the epoch, so that a run can resume at any epoch.

mod bits;

use crate::{
    dataset::Dataset,
    error::{Error, Result, shown},
    lanes::{
        isa::Isa,
        threads::{RowsMut, share},
    },
    rows::{Values, unit_value},
    source::Source,
    uniforms::{Purpose, Uniforms},
    units::{Segment, Segments},
};
use bits::write_bits;
use std::{
    fmt::{self, Display},
    ops::Range,
    str::FromStr,
};

/// The conversion of binary units' values in [0, 1], which an RBM treats as probabilities, to bits. Other laws keep their values.
///
/// In text `none`, `threshold`, `threshold:LOW-HIGH` and `sample`:
///
/// ```
/// use harmonium::Binarise;
/// assert_eq!("threshold:16-240".parse(), Ok(Binarise::Levels { low: 16, high: 240 }));
/// assert_eq!(Binarise::Sample.to_string(), "sample");
/// assert!("threshold:240-16".parse::<Binarise>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Binarise {
    /// No conversion.
    #[default]
    None,
    /// x ≥ 0.5 → 1, as [`Dataset::binarised`].
    Threshold,
    /// Each row draws a level from the whole numbers `low` … `high`, anew in every epoch; x is on iff it is at least the level.
    ///
    /// An eight-bit value is compared directly, any other value as 255·x rounded to `f32`, so that x/255 counts as x. Every value
    /// reaches level 0. The level is low + ⌊n·(high - low + 1)/2^32⌋, where n is the row's number; the probabilities of
    /// the levels differ by less than 2^-32.
    Levels {
        /// The least level.
        low: u8,
        /// The greatest level, at least `low`.
        high: u8,
    },
    /// Each value is on with probability x, anew in every epoch: 0 never, 1 always.
    ///
    /// With the value's number n, an eight-bit x is on iff 255·n < 2^32·x, in whole numbers. Any other x is on iff n < 2^32·x, where
    /// both sides are exact in `f64`. So the probability is the least multiple of 2^-32 that is at least x. Source:
    /// R. Salakhutdinov, I. Murray, "On the quantitative analysis of deep belief networks", 2008, section 5, who binarise their data
    /// in this way.
    Sample,
}

impl Display for Binarise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Threshold => f.pad("threshold"),
            Self::Levels { low, high } => f.pad(&format!("threshold:{low}-{high}")),
            Self::Sample => f.pad("sample"),
        }
    }
}

impl FromStr for Binarise {
    type Err = Error;

    /// # Errors
    /// [`Error::Argument`] if the text is none of these, or the least level is above the greatest.
    fn from_str(text: &str) -> Result<Self> {
        let levels = |range: &str| {
            let (low, high) = range.split_once('-')?;
            let digits = |level: &str| level.bytes().all(|byte| byte.is_ascii_digit()).then(|| level.parse().ok())?;
            Some(Self::Levels { low: digits(low)?, high: digits(high)? }).filter(|levels| levels.check().is_ok())
        };
        let found = match text {
            "none" => Some(Self::None),
            "threshold" => Some(Self::Threshold),
            "sample" => Some(Self::Sample),
            _ => text.strip_prefix("threshold:").and_then(levels),
        };
        found.ok_or_else(|| Error::Argument {
            what: "binarise",
            expected: "one of none, threshold, threshold:LOW-HIGH with 0 <= LOW <= HIGH <= 255, sample".into(),
            found: shown(text),
        })
    }
}

impl Binarise {
    fn check(self) -> Result<()> {
        match self {
            Self::Levels { low, high } if low > high => Err(Error::Argument {
                what: "levels",
                expected: "the least not above the greatest".into(),
                found: format!("{low}-{high}"),
            }),
            _ => Ok(()),
        }
    }
}

/// Shuffles and binarises data for each epoch. Every epoch depends on its number alone.
///
/// - With `shuffle` the order of epoch e over n rows is [`Uniforms::permutation`] at position 2·(n - 1)·e of the seed's
///   [`Purpose::Shuffling`] sequence. Epoch 0 has the order of [`Dataset::shuffled`].
/// - Bits draw from the seed's [`Purpose::Binarising`] sequence. Value i of row r *in the epoch's order* has number
///   (e·n + r)·units + i; the level of a row has number e·n + r.
///
/// Positions are modulo 2^64, the period. The bits are the same for any number of threads and any instruction set.
/// The buffers for one epoch are reused, so that nothing is allocated after the first epoch.
///
/// ```
/// use harmonium::{Binarise, Dataset, Epochs};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8(vec![0, 128, 255, 64, 128, 192], 3)?;
/// let mut epochs = Epochs::new(true, Binarise::Sample, 123)?;
/// for epoch in 0..10 {
///     let shown = epochs.show(&data, epoch)?;
///     assert_eq!(shown.len(), 2);
///     for batch in shown.batches(20) {
///         // Each row has its own bits in each epoch; 0 stays 0 and 255 stays 255.
///         assert!(shown.rows().range(batch).to_vec().iter().all(|&x| x == 0.0 || x == 1.0));
///     }
/// }
/// // The same epoch again has the same bits.
/// assert_eq!(epochs.show(&data, 3)?.clone(), Epochs::new(true, Binarise::Sample, 123)?.show(&data, 3)?.clone());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Epochs {
    shuffle: bool,
    binarise: Binarise,
    seed: u64,
    /// The order of the current epoch, and the number of rows and the epoch that it is for.
    order: Order,
    ordered: Option<(usize, u64)>,
    shown: Dataset,
    /// Rows as they were read, for a part of an epoch.
    read: Dataset,
    /// Scratch for the bits of units of several laws.
    bits: Vec<u8>,
}

/// An order of rows, in the smallest type that holds their numbers.
#[derive(Clone, Debug)]
enum Order {
    Same,
    Short(Vec<u32>),
    Long(Vec<usize>),
}

impl Order {
    /// The row of the data that is row `r` of the epoch.
    #[inline(always)]
    fn row(&self, r: usize) -> usize {
        match self {
            Order::Same => r,
            Order::Short(rows) => rows[r] as usize,
            Order::Long(rows) => rows[r],
        }
    }
}

/// A part of an epoch: rows from number `first` on, of `rows` in total.
#[derive(Clone, Copy)]
struct Part {
    epoch: u64,
    rows: usize,
    first: usize,
}

impl Epochs {
    /// Creates epochs that shuffle the rows if `shuffle` is true, and convert their values by `binarise`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the least level is above the greatest.
    pub fn new(shuffle: bool, binarise: Binarise, seed: u64) -> Result<Self> {
        binarise.check()?;
        let (shown, read, bits) = (Dataset::empty(), Dataset::empty(), Vec::new());
        Ok(Self { shuffle, binarise, seed, order: Order::Same, ordered: None, shown, read, bits })
    }

    /// For each row of an epoch, its number in the data of `rows` rows. Use it to put labels in the epoch's order.
    pub fn order(&self, rows: usize, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows).collect();
        if self.shuffle {
            self.draws(rows, epoch).shuffle(&mut order);
        }
        order
    }

    /// The random numbers of an epoch's order.
    fn draws(&self, rows: usize, epoch: u64) -> Uniforms {
        let mut draws = Uniforms::new(self.seed, Purpose::Shuffling);
        draws.seek((2 * rows.saturating_sub(1) as u64).wrapping_mul(epoch));
        draws
    }

    /// Makes the order of an epoch, unless it is the current one.
    fn keep_order(&mut self, rows: usize, epoch: u64) {
        if !self.shuffle || self.ordered == Some((rows, epoch)) {
            return;
        }
        let mut draws = self.draws(rows, epoch);
        if let Ok(end) = u32::try_from(rows) {
            let mut order = match std::mem::replace(&mut self.order, Order::Same) {
                Order::Short(order) => order,
                _ => Vec::new(),
            };
            order.clear();
            order.extend(0..end);
            draws.shuffle(&mut order);
            self.order = Order::Short(order);
        } else {
            let mut order: Vec<usize> = (0..rows).collect();
            draws.shuffle(&mut order);
            self.order = Order::Long(order);
        }
        self.ordered = Some((rows, epoch));
    }

    /// The data of epoch number `epoch`. Without shuffling and binarising, this is `data` itself, not a copy.
    ///
    /// Bits are eight-bit values 0 and 255. [`Binarise::Sample`] costs one random number for each value. Uses all threads of the
    /// caller's pool.
    ///
    /// # Errors
    /// [`Error::Isa`] as [`Isa::detect`].
    pub fn show<'a>(&'a mut self, data: &'a Dataset, epoch: u64) -> Result<&'a Dataset> {
        Ok(self.show_on(Isa::detect()?, data, epoch))
    }

    /// [`show`](Self::show) with a given instruction set.
    pub fn show_on<'a>(&'a mut self, isa: Isa, data: &'a Dataset, epoch: u64) -> &'a Dataset {
        if !self.shuffle && self.binarise == Binarise::None {
            return data;
        }
        self.keep_order(data.len(), epoch);
        let order = std::mem::replace(&mut self.order, Order::Same);
        self.write(isa, data, &order, Part { epoch, rows: data.len(), first: 0 });
        self.order = order;
        &self.shown
    }

    /// Rows `rows` of epoch number `epoch`, for data that may be larger than memory. Gives the same bits as [`show`](Self::show).
    ///
    /// Memory holds these rows twice, and the order of the epoch: 4 bytes for each row of the data, if there are fewer than 2^32.
    ///
    /// ```
    /// use harmonium::{Binarise, Dataset, Epochs};
    ///
    /// let data = Dataset::from_u8(vec![0, 128, 255, 64, 128, 192], 2)?;
    /// let mut epochs = Epochs::new(true, Binarise::Sample, 123)?;
    /// let whole = epochs.show(&data, 7)?.clone();
    /// assert_eq!(epochs.show_part(&data, 7, 1..3)?, &whole.select(&[1, 2])?);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the range is not within the rows, [`Error::Isa`] as [`Isa::detect`], and those of
    /// [`Source::read`].
    pub fn show_part(&mut self, data: &dyn Source, epoch: u64, rows: Range<usize>) -> Result<&Dataset> {
        let (isa, all) = (Isa::detect()?, data.len());
        if rows.start > rows.end || rows.end > all {
            let expected = format!("a range within 0..{all}");
            return Err(Error::Argument { what: "rows", expected, found: format!("{rows:?}") });
        }
        self.keep_order(all, epoch);
        let numbers: Vec<usize> = rows.clone().map(|r| self.order.row(r)).collect();
        if self.binarise == Binarise::None {
            data.read(&numbers, &mut self.shown)?;
            return Ok(&self.shown);
        }
        let mut read = std::mem::replace(&mut self.read, Dataset::empty());
        let outcome = data.read(&numbers, &mut read);
        if outcome.is_ok() {
            self.write(isa, &read, &Order::Same, Part { epoch, rows: all, first: rows.start });
        }
        self.read = read;
        outcome.map(|()| &self.shown)
    }

    /// Writes the rows of this part of an epoch: row number r is row `order.row(r)` of `data`.
    fn write(&mut self, isa: Isa, data: &Dataset, order: &Order, part: Part) {
        let (units, len, segments) = (data.units(), data.len() * data.units(), data.segments());
        let mut bits = std::mem::take(&mut self.bits);
        if self.binarise != Binarise::None {
            let out = if segments.is_binary() { self.shown.bytes_mut(len, segments) } else { sized(&mut bits, len) };
            let out = RowsMut::new(units, out);
            match data.rows().values() {
                Values::U8(values) => write_bits(isa, self.binarise, self.seed, order, values, part, out),
                Values::F32(values) => write_bits(isa, self.binarise, self.seed, order, values, part, out),
            }
        }
        if self.binarise == Binarise::None || !segments.is_binary() {
            match data.rows().values() {
                Values::U8(values) => {
                    let shown = self.shown.bytes_mut(len, segments);
                    gather(values, order, RowsMut::new(units, shown));
                    put_bits(&bits, segments, shown, |bit| bit);
                }
                Values::F32(values) => {
                    let shown = self.shown.numbers_mut(len, segments);
                    gather(values, order, RowsMut::new(units, shown));
                    put_bits(&bits, segments, shown, unit_value);
                }
            }
        }
        self.bits = bits;
        self.shown.leave_out(data, (0..data.len()).map(|r| order.row(r)));
    }
}

/// Resizes a buffer to `len` bytes.
fn sized(bytes: &mut Vec<u8>, len: usize) -> &mut [u8] {
    bytes.resize(len, 0);
    bytes
}

/// Replaces the values of binary units by their bits; other laws keep their values.
fn put_bits<T>(bits: &[u8], segments: Segments, to: &mut [T], value: impl Fn(u8) -> T) {
    let units = segments.units();
    for (bits, to) in bits.chunks_exact(units).zip(to.chunks_exact_mut(units)) {
        for (_, units) in segments.iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_))) {
            to[units.clone()].iter_mut().zip(&bits[units]).for_each(|(to, &bit)| *to = value(bit));
        }
    }
}

/// Copies rows in the given order, on all threads.
fn gather<T: Copy + Send + Sync>(values: &[T], order: &Order, out: RowsMut<'_, T>) {
    share(out, &|part: RowsMut<'_, T>| {
        for (r, row) in (part.first..).zip(part.values.chunks_exact_mut(part.width)) {
            row.copy_from_slice(&values[order.row(r) * part.width..][..part.width]);
        }
    });
}
