//! Which laws the visible units follow: a list of segments.

use crate::error::{Error, Result, shown};
use std::{
    fmt::{self, Display},
    ops::Range,
    str::FromStr,
};

/// Neighbouring visible units of one law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// So many units that are 0 or 1.
    Binary(u32),
    /// Sites that are in one of several states each: a unit for each state of each site, site after site, one of which is 1.
    Potts {
        /// How many sites there are.
        sites: u32,
        /// How many states each of them has, at least 2.
        states: u32,
    },
    /// So many units that are real numbers.
    Gaussian(u32),
}

impl Segment {
    /// How many visible units the segment has.
    pub fn units(self) -> usize {
        match self {
            Segment::Binary(units) | Segment::Gaussian(units) => units as usize,
            Segment::Potts { sites, states } => sites as usize * states as usize,
        }
    }

    /// How many of its units make one variable: the states of a site, else 1.
    pub fn states(self) -> usize {
        match self {
            Segment::Potts { states, .. } => states as usize,
            _ => 1,
        }
    }

    /// How many variables it has.
    pub fn sites(self) -> usize {
        self.units() / self.states()
    }

    /// Whether its states are real numbers, and else bits.
    pub fn is_number(self) -> bool {
        matches!(self, Segment::Gaussian(_))
    }

    /// The name of its law.
    pub fn law(self) -> &'static str {
        match self {
            Segment::Binary(_) => "binary",
            Segment::Potts { .. } => "potts",
            Segment::Gaussian(_) => "gaussian",
        }
    }

    /// Both as one, where the other one has the same law.
    fn with(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Segment::Binary(a), Segment::Binary(b)) => Some(Segment::Binary(a.checked_add(b)?)),
            (Segment::Gaussian(a), Segment::Gaussian(b)) => Some(Segment::Gaussian(a.checked_add(b)?)),
            (Segment::Potts { sites: a, states }, Segment::Potts { sites: b, states: others }) if states == others => {
                Some(Segment::Potts { sites: a.checked_add(b)?, states })
            }
            _ => None,
        }
    }
}

impl Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Binary(units) | Segment::Gaussian(units) => write!(f, "{}:{units}", self.law()),
            Segment::Potts { sites, states } => write!(f, "{}:{sites}x{states}", self.law()),
        }
    }
}

/// The visible layer as a list of 1 to 8 segments, written and read as `binary:784,potts:1x10,gaussian:20`.
///
/// Neighbours of one law are one segment: `binary:3,binary:4` is `binary:7`.
///
/// ```
/// use harmonium::units::{Segment, Segments};
///
/// let digits_and_labels: Segments = "binary:784,potts:1x10".parse()?;
/// assert_eq!(digits_and_labels.units(), 794);
/// assert_eq!(digits_and_labels.iter().nth(1), Some((Segment::Potts { sites: 1, states: 10 }, 784..794)));
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segments {
    /// The segments, and behind them [`NONE`].
    list: [Segment; MOST],
}

/// A visible layer has no more segments.
pub const MOST: usize = 8;
/// Where there is no segment.
const NONE: Segment = Segment::Binary(0);

impl Segments {
    /// A list of segments.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are none or more than 8, where one has no unit or a site less than two states, or where
    /// there are more units than a [`Shape`](crate::Shape) can have.
    pub fn new(segments: &[Segment]) -> Result<Self> {
        let fail =
            |expected: &str, found: String| Err(Error::Argument { what: "visible", expected: expected.into(), found });
        let mut joined: Vec<Segment> = Vec::new();
        let mut units = 0u64;
        for &segment in segments {
            units += match segment {
                Segment::Potts { sites, states } => u64::from(sites) * u64::from(states),
                _ => segment.units() as u64,
            };
            if units > i32::MAX as u64 {
                return fail("at most 2147483647 units", format!("{segment} and others"));
            }
            if matches!(segment, Segment::Potts { states: 0..2, .. }) {
                return fail("sites of at least 2 states", segment.to_string());
            }
            if segment.units() == 0 {
                return fail("at least one unit in each segment", segment.to_string());
            }
            match joined.last().and_then(|last| last.with(segment)) {
                Some(both) => *joined.last_mut().expect("there is a last one") = both,
                None => joined.push(segment),
            }
        }
        if !(1..=MOST).contains(&joined.len()) {
            return fail("1 to 8 segments", joined.len().to_string());
        }
        joined.resize(MOST, NONE);
        Ok(Self { list: std::array::from_fn(|n| joined[n]) })
    }

    /// So many binary units and nothing else.
    pub(crate) const fn binary(units: usize) -> Self {
        let mut list = [NONE; MOST];
        list[0] = Segment::Binary(units as u32);
        Self { list }
    }

    /// The segments with the units that they have.
    pub fn iter(self) -> impl Iterator<Item = (Segment, Range<usize>)> {
        let mut first = 0;
        self.list.into_iter().take_while(|&segment| segment != NONE).map(move |segment| {
            let units = first..first + segment.units();
            first = units.end;
            (segment, units)
        })
    }

    /// How many visible units there are.
    pub fn units(self) -> usize {
        self.list.into_iter().map(Segment::units).sum()
    }

    /// How many variables there are: binary units, Potts sites and Gaussian units.
    pub fn sites(self) -> usize {
        self.list.into_iter().filter(|&segment| segment != NONE).map(Segment::sites).sum()
    }

    /// The segment of variable number `site` and the variable's units.
    ///
    /// # Panics
    /// Where there are not so many.
    pub(crate) fn site(self, site: usize) -> (Segment, Range<usize>) {
        let mut before = 0;
        for (segment, units) in self.iter() {
            let (n, states) = (site - before, segment.states());
            if n < segment.sites() {
                let first = units.start + n * states;
                return (segment, first..first + states);
            }
            before += segment.sites();
        }
        panic!("there is no variable {site}")
    }

    /// Whether all units are binary.
    pub fn is_binary(self) -> bool {
        matches!(self.list, [Segment::Binary(_), NONE, ..])
    }

    /// Whether all states are bits: there is no Gaussian unit.
    pub fn is_discrete(self) -> bool {
        !self.list.into_iter().any(Segment::is_number)
    }
}

impl Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (segment, _)) in self.iter().enumerate() {
            write!(f, "{}{segment}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Segments {
    type Err = Error;

    /// # Errors
    /// [`Error::Argument`] where the text is none of this form, and those of [`Segments::new`].
    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        let segment = |part: &str| {
            let (law, size) = part.trim().split_once(':')?;
            match law {
                "binary" => number(size).map(Segment::Binary),
                "gaussian" => number(size).map(Segment::Gaussian),
                "potts" => {
                    let (sites, states) = size.split_once(['x', '×'])?;
                    Some(Segment::Potts { sites: number(sites)?, states: number(states)? })
                }
                _ => None,
            }
        };
        let segments: Option<Vec<_>> = text.split(',').map(segment).collect();
        let segments = segments.ok_or_else(|| Error::Argument {
            what: "visible",
            expected: "segments such as binary:784,potts:1x10,gaussian:20".into(),
            found: shown(text),
        })?;
        Self::new(&segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_segments_are_the_same() {
        for text in ["binary:784", "potts:134x5", "gaussian:3", "binary:784,potts:1x10,gaussian:7,potts:2x3,potts:2x4"]
        {
            let segments: Segments = text.parse().expect(text);
            assert_eq!(segments.to_string(), text);
        }
        let joined: Segments =
            "binary:3, binary:4,potts:1x3,potts:2x3,gaussian:1,gaussian:1".parse().expect("segments");
        assert_eq!(joined.to_string(), "binary:7,potts:3x3,gaussian:2");
        assert_eq!((joined.units(), joined.sites()), (18, 12));
        assert_eq!(joined.site(0), (Segment::Binary(7), 0..1));
        assert_eq!(joined.site(8), (Segment::Potts { sites: 3, states: 3 }, 10..13));
        assert_eq!(joined.site(11), (Segment::Gaussian(2), 17..18));
        assert!(!joined.is_binary() && !joined.is_discrete());
        assert_eq!("binary:5".parse::<Segments>(), Ok(Segments::binary(5)));
    }

    #[test]
    fn what_is_no_list_of_segments_is_refused() {
        for text in [
            "",
            "binary",
            "binary:",
            "binary:0",
            "binary:-1",
            "binary:+1",
            "Binary:2",
            "potts:3",
            "potts:3x1",
            "potts:0x3",
            "potts:3x",
            "gaussian:1.5",
            "binary:1,",
            "binary:4294967296",
            "potts:65536x65536",
            "binary:2147483648",
            "binary:1,gaussian:1,binary:1,gaussian:1,binary:1,gaussian:1,binary:1,gaussian:1,binary:1",
        ] {
            let problem = text.parse::<Segments>().expect_err(text);
            assert!(matches!(problem, Error::Argument { what: "visible", .. }), "{text}: {problem}");
        }
    }
}
