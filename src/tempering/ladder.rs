//! The choice of inverse temperatures.
//!
//! With D = E[ln p_β(h) + ln p_β'(h') - ln p_β(h') - ln p_β'(h)], h ~ p_β, h' ~ p_β', two temperatures swap with a probability near
//! erfc(√D/2); it is exact if the log-ratio is normal. √D is additive along the ladder, as D is (β - β')² times a variance for near
//! neighbours. So d = erfc⁻¹(rate) is a distance, and equal distances give equal rates. (S. Syed, A. Bouchard-Côté, G. Deligiannidis,
//! A. Doucet, "Non-reversible parallel tempering", 2019, section 5, add rejection rates; if few swaps are rejected, d is proportional
//! to them.)

/// The least β with Gaussian units, which have no distribution at β = 0.
pub(super) const WARMEST: f32 = 1.0 / 64.0;
/// The distance between neighbours if β = 0 is out of reach: they swap at erfc(0.58) = 41 %.
const WIDE: f64 = 0.58;
/// The distance between neighbours if β = 0 is within reach: the geometric mean of erfc⁻¹(0.6) and erfc⁻¹(0.3), whose ratio is 1.98. So
/// some number of equal steps lies between them, except for total distances just above the larger one.
const AIM: f64 = 0.521;
/// Below this rate the distance is computed from D alone, as few swaps give a poor estimate of the rate.
const LEAST_RATE: f64 = 0.05;
/// The least distance, so that the inverse of the ladder exists.
const LEAST: f64 = 1e-6;

/// The measurements of two neighbours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    /// The number of measurements.
    pub n: u64,
    /// The sum of the probabilities of a swap.
    pub accepted: f64,
    /// The sum of the decreases of the joint log-density by a swap.
    pub divergence: f64,
}

impl Pair {
    pub fn rate(self) -> f64 {
        self.accepted / self.n as f64
    }

    fn distance(self) -> f64 {
        let n = self.n.max(1) as f64;
        let rate = self.accepted / n;
        let by_rate = erfc_inverse(rate.clamp(LEAST_RATE, 1.0));
        let by_divergence = (self.divergence / n).max(0.0).sqrt() / 2.0;
        let distance = if rate < LEAST_RATE { by_divergence.max(by_rate) } else { by_rate };
        // NaN, from a model with sums that are not finite, becomes LEAST too.
        if distance >= LEAST { distance } else { LEAST }
    }
}

/// x with erfc(x) = y, y within (0, 1].
fn erfc_inverse(y: f64) -> f64 {
    let (mut low, mut high) = (0.0, 6.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if libm::erfc(middle) > y { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// `n` inverse temperatures from 1 down to `floor`, in equal steps.
pub(super) fn even(n: usize, floor: f32) -> Vec<f32> {
    let last = (n - 1) as f32;
    (0..n).map(|t| if t + 1 == n { floor } else { 1.0 - (1.0 - floor) * (t as f32 / last) }).collect()
}

/// A ladder with its measured distances.
pub(super) struct Measured<'a> {
    betas: &'a [f32],
    /// The distance of each temperature from β = 1.
    distances: Vec<f64>,
    floor: f32,
    /// The distance of `floor` from β = 1, extrapolated if the ladder does not reach it.
    to_floor: f64,
}

impl<'a> Measured<'a> {
    pub fn new(betas: &'a [f32], pairs: &[Pair], floor: f32) -> Self {
        let mut distances = vec![0.0];
        for pair in pairs {
            distances.push(distances[distances.len() - 1] + pair.distance());
        }
        let mut new = Self { betas, distances, floor, to_floor: 0.0 };
        let (last, hottest) = (new.distances[new.distances.len() - 1], betas[betas.len() - 1]);
        new.to_floor = last + new.slope() * f64::from(hottest - floor);
        new
    }

    /// The ratio of distance to β between the two hottest temperatures.
    fn slope(&self) -> f64 {
        let n = self.betas.len();
        (self.distances[n - 1] - self.distances[n - 2]) / f64::from(self.betas[n - 2] - self.betas[n - 1])
    }

    /// The β at a distance from β = 1.
    fn at(&self, distance: f64) -> f32 {
        let n = self.betas.len();
        match (1..n).find(|&t| self.distances[t] >= distance) {
            Some(t) => {
                let share = (distance - self.distances[t - 1]) / (self.distances[t] - self.distances[t - 1]);
                self.betas[t - 1] - (self.betas[t - 1] - self.betas[t]) * share as f32
            }
            None => self.betas[n - 1] - ((distance - self.distances[n - 1]) / self.slope()) as f32,
        }
    }

    /// `n` temperatures at equal distances, down to the floor; or at the distance [`WIDE`], if they do not reach the floor.
    pub fn ladder(&self, n: usize) -> Vec<f32> {
        let steps = (n - 1) as f64;
        let is_within_reach = self.to_floor <= WIDE * steps;
        let step = if is_within_reach { self.to_floor / steps } else { WIDE };
        let mut betas = vec![1.0f32];
        for t in 1..n {
            let is_last = t + 1 == n && is_within_reach;
            let beta = if is_last { self.floor } else { self.at(step * t as f64).max(self.floor) };
            // Rounding must not make two temperatures equal. This fails only for ladders with more steps than there are numbers.
            betas.push(beta.min(betas[t - 1].next_down()).max(self.floor));
        }
        betas
    }

    /// The number of temperatures, at most `most`, at which neighbours swap at about the rate that is aimed at.
    pub fn best_number(&self, most: usize) -> usize {
        let off = |n: &usize| (self.to_floor / (*n - 1) as f64 / AIM).ln().abs();
        (2..=most).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of a model with the distance `far` from β = 1.
    fn pairs(betas: &[f32], far: impl Fn(f64) -> f64) -> Vec<Pair> {
        let pair = |two: &[f32]| {
            let d = far(f64::from(two[1])) - far(f64::from(two[0]));
            Pair { n: 10, accepted: 10.0 * libm::erfc(d), divergence: 10.0 * 4.0 * d * d }
        };
        betas.windows(2).map(pair).collect()
    }

    #[test]
    fn ladders_come_to_equal_rates() {
        for (all, most, expected) in [(5.0, 20, 0.521), (40.0, 20, WIDE), (0.4, 20, 0.4), (0.0, 5, 0.0), (3.0, 2, WIDE)]
        {
            for floor in [0.0, WARMEST] {
                // Most of the distance is near β = 1.
                let far = |beta: f64| all * (1.0 - beta * beta) / (1.0 - f64::from(floor * floor));
                let (mut betas, mut n) = (even(most, floor), most);
                for round in 0..30 {
                    let measured = pairs(&betas, far);
                    let measured = Measured::new(&betas, &measured, floor);
                    if round == 15 {
                        n = measured.best_number(most);
                    }
                    betas = measured.ladder(n);
                    assert!(betas[0] == 1.0 && betas.windows(2).all(|two| two[1] < two[0] && two[1] >= floor));
                }
                for two in betas.windows(2) {
                    let step = far(f64::from(two[1])) - far(f64::from(two[0]));
                    assert!((step - expected).abs() <= 0.05 * expected + 1e-6, "{all} {most}: {betas:?} {step}");
                }
                assert_eq!(betas[n - 1] == floor, all < 10.0 && most > 2, "{betas:?}");
            }
        }
    }

    #[test]
    fn the_inverse_is_one() {
        for y in [1e-9, 0.05, 0.3, 0.6, 1.0 - 1e-9] {
            assert!((libm::erfc(erfc_inverse(y)) / y - 1.0).abs() < 1e-9);
        }
    }
}
