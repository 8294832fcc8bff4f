//! Rounding to `f32` in the directions that the CPU lacks, and other numerical details of the hardware.

/// The direction of rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

impl Rounding {
    /// Parses `rn`, `rz`, `rm` or `rp`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "rn" => Self::Nearest,
            "rz" => Self::Zero,
            "rm" => Self::Down,
            "rp" => Self::Up,
            _ => return None,
        })
    }

    /// Rounds the exact number `value + rest` to `f32`, where `rest` is smaller than half a unit in `value`'s last place.
    pub fn narrow(self, value: f64, rest: f64) -> f32 {
        let near = value as f32;
        if !near.is_finite() && !value.is_finite() || near.is_nan() {
            return near;
        }
        let error = (f64::from(near) - value) - rest;
        let (above, below) = (error > 0.0, error < 0.0);
        match self {
            // Only the parity of the last place decided a tie, which `rest` breaks.
            Self::Nearest => {
                let next = if above { near.next_down() } else { near.next_up() };
                let distance = (f64::from(near) - value).abs();
                let tie = (f64::from(next) - value).abs() == distance && distance > 0.0;
                let towards_next = if next > near { rest > 0.0 } else { rest < 0.0 };
                if tie && towards_next { next } else { near }
            }
            Self::Down if above => near.next_down(),
            Self::Up if below => near.next_up(),
            Self::Zero if above && value > 0.0 => near.next_down(),
            Self::Zero if below && value < 0.0 => near.next_up(),
            _ => near,
        }
    }
}

/// `a + b` and its rounding error.
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// The hardware's bits for every NaN of single-precision arithmetic.
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7fff_ffff) } else { x }
}

/// Subnormal numbers become zeros with the same sign.
pub fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// `.sat`: into 0..=1, NaN to 0.
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// A result of an approximate instruction, perturbed by up to `ulps` units in the last place.
pub fn perturb(seed: Option<u64>, input: f32, exact: f32, ulps: i64) -> f32 {
    let Some(seed) = seed else {
        return exact;
    };
    if !exact.is_finite() || exact == 0.0 || exact == 1.0 {
        return exact;
    }
    let noise = crate::settings::mix(seed ^ u64::from(input.to_bits()) << 16);
    let steps = (noise % (2 * ulps as u64 + 1)) as i64 - ulps;
    f32::from_bits((i64::from(exact.to_bits()) + steps) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_rounding_brackets_the_exact_value() {
        for (value, rest) in [(1.0, 1e-20), (1.0, -1e-20), (-1.0, 1e-20), (0.1, 0.0), (-0.1, 0.0)] {
            let round = |r: Rounding| f64::from(r.narrow(value, rest));
            let (down, up) = (round(Rounding::Down), round(Rounding::Up));
            assert!(down < up && down <= value && value <= up);
            assert_eq!(f64::from((down as f32).next_up()), up);
            let zero = if value > 0.0 { down } else { up };
            assert_eq!(round(Rounding::Zero), zero);
            assert!([down, up].contains(&round(Rounding::Nearest)));
        }
        assert_eq!(Rounding::Zero.narrow(2.0, 0.0), 2.0);
    }

    #[test]
    fn a_tie_is_broken_by_the_rest() {
        let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
        assert_eq!(Rounding::Nearest.narrow(tie, 0.0), 1.0);
        assert_eq!(Rounding::Nearest.narrow(tie, 1e-20), 1.0f32.next_up());
    }

    #[test]
    fn perturbed_results_stay_within_their_bounds() {
        let steps =
            |seed| (1..200).map(move |i| perturb(seed, i as f32, 3.0, 2).to_bits() as i64 - 3f32.to_bits() as i64);
        assert!(steps(None).all(|step| step == 0));
        for seed in [Some(1), Some(2)] {
            assert!((-2..=2).all(|step| steps(seed).any(|s| s == step)));
            assert!(steps(seed).all(|step| step.abs() <= 2));
        }
        assert!(steps(Some(1)).ne(steps(Some(2))));
    }

    #[test]
    fn two_sum_is_exact() {
        assert_eq!(two_sum(1.0, 1e-30), (1.0, 1e-30));
        assert_eq!(two_sum(1e-30, 1.0), (1.0, 1e-30));
    }
}
