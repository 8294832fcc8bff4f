//! The laws of the visible units as a list of segments.

use crate::error::{Error, Result, shown};
use std::{
    fmt::{self, Display},
    ops::Range,
    str::FromStr,
};

/// Adjacent visible units with the same law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This number of units that are 0 or 1.
    Binary(u32),
    /// Sites with several states each. Each state of each site has a unit, site after site; exactly one unit of a site is 1.
    Potts {
        /// The number of sites.
        sites: u32,
        /// The number of states of each site, at least 2.
        states: u32,
    },
    /// This number of units that are real numbers.
    Gaussian(u32),
}

impl Segment {
    /// The number of visible units of the segment.
    pub fn units(self) -> usize {
        match self {
            Segment::Binary(units) | Segment::Gaussian(units) => units as usize,
            Segment::Potts { sites, states } => sites as usize * states as usize,
        }
    }

    /// The number of units that make one variable: the states of a Potts site, else 1.
    pub fn states(self) -> usize {
        match self {
            Segment::Potts { states, .. } => states as usize,
            _ => 1,
        }
    }

    /// The number of variables.
    pub fn sites(self) -> usize {
        self.units() / self.states()
    }

    /// Returns true if the states are real numbers, false if they are bits.
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

    /// Joins two segments, if they have the same law.
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

/// The laws of a visible layer: a list of 1 to 8 segments, in text `binary:784,potts:1x10,gaussian:20`.
///
/// Adjacent segments with the same law are joined: `binary:3,binary:4` becomes `binary:7`.
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
    /// The segments, padded with [`NONE`].
    list: [Segment; MOST],
}

/// The greatest number of segments of a visible layer.
pub const MOST: usize = 8;
/// The padding after the last segment.
const NONE: Segment = Segment::Binary(0);

impl Segments {
    /// Creates a list of segments.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no segments or more than 8, if a segment has no units or a site has fewer than two states, or
    /// if there are more units than a [`Shape`](crate::Shape) allows.
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

    /// A layer of binary units only.
    pub(crate) const fn binary(units: usize) -> Self {
        let mut list = [NONE; MOST];
        list[0] = Segment::Binary(units as u32);
        Self { list }
    }

    /// The segments, each with the range of its units.
    pub fn iter(self) -> impl Iterator<Item = (Segment, Range<usize>)> {
        let mut first = 0;
        self.list.into_iter().take_while(|&segment| segment != NONE).map(move |segment| {
            let units = first..first + segment.units();
            first = units.end;
            (segment, units)
        })
    }

    /// The number of visible units.
    pub fn units(self) -> usize {
        self.list.into_iter().map(Segment::units).sum()
    }

    /// The number of variables: binary units, Potts sites and Gaussian units.
    pub fn sites(self) -> usize {
        self.list.into_iter().filter(|&segment| segment != NONE).map(Segment::sites).sum()
    }

    /// The segment of variable number `site`, and the range of the variable's units.
    ///
    /// # Panics
    /// If there is no such variable.
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

    /// Returns true if all units are binary.
    pub fn is_binary(self) -> bool {
        matches!(self.list, [Segment::Binary(_), NONE, ..])
    }

    /// Returns true if all states are bits, that is without Gaussian units.
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
    /// [`Error::Argument`] if the text does not have this form, and those of [`Segments::new`].
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
