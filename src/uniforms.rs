//! Random numbers: one PCG32 sequence, accessed by position.
//!
//! Every random decision of a run is a function of a seed, a [`Purpose`] and a position. A layer of `rows` × `units` numbers
//! drawn at position p gives element (r, j) the number p + r·units + j, and advances the position by rows·units. So the
//! specification is one sequential generator, element after element ([`Uniforms::generator`]). Threads, SIMD lanes and
//! CUDA threads jump to their position in it and get the same numbers, however the work is divided.
//!
//! # From a number to a decision
//!
//! The number x of a unit stands for u = (x + ½)·2^-32. The unit is on iff u < σ(a), where a is its pre-activation. The
//! comparison uses the end of the unit interval that is nearer to σ(a), where `f32` is precise enough. With
//! e = e^-a in `f32`, where a is clamped to ±87.3:
//!
//! | | d | on iff |
//! |---|---|---|
//! | e ≥ 1 | u | d + d·e < 1 |
//! | e < 1 | 1 - u | not d + d·e < e |
//!
//! d is rounded to `f32`, and d + d·e once more. With q = 1/(1 + e^|a|) the rarer state has the probability
//! round(2^32·q)/2^32, where rounding gives q a relative error below 2^-21, for either sign of a. So
//! - the probability of a state with probability q has an error of at most 2^-33 + 2^-21·q: within 1 % up to
//!   |a| = 18.2;
//! - the least rate at which a unit leaves its likely state is 2^-32, once in 4.3·10^9 draws;
//! - for |a| > 22.88 (q < 2^-33) a unit is certain: such a bias clamps it, in either direction;
//! - a unit whose pre-activation is NaN is off.
//!
//! # The generator
//!
//! It is `rand_pcg::Pcg32` (M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
//! Algorithms for Random Number Generation", 2014): a linear congruential generator s ← A·s + C modulo 2^64. n of its
//! steps together are again of the form s ← Aₙ·s + Cₙ. The period is 2^64; the tutorial's run draws 4·10^8 numbers.
//!
//! Numbers at a lag of 2^k have states with the same low k bits; so have those at a lag of an odd multiple of 2^k, and only
//! this k matters. Chi-square tests on the leading bits of 2^28 numbers (eight bits each of pairs, six each of
//! triples at equal strides), for lags 2^k and 321·2^k, gave: pairs show nothing up to k = 40 and much from 41 on; triples show nothing
//! up to k = 22, traces of 2 to 4 standard deviations from 23 to 25, and more with every further k.
//!
//! A unit's numbers in successive steps of M chains are M·(n_visible + n_hidden) apart. 2048 chains of 784 + 500 units take
//! 2^13·321 numbers a step, so k = 13. k ≥ 23 occurs only if the numbers of chains and of units both are large powers of two, from
//! 2^13 chains of 512 + 512 units on. In such a case use one chain more or fewer.

use rand_core::Rng;
use rand_pcg::Pcg32;
use std::collections::HashMap;

/// A and C of s ← A·s + C in `Pcg32` with its default stream.
const STEP: Jump = Jump { multiply: 6_364_136_223_846_793_005, add: 1_442_695_040_888_963_407 };

/// The use of a sequence of random numbers. Each purpose has a separate sequence, so that the numbers for one purpose do not depend on
/// how many another takes. Later versions may add purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The initial weights of a model.
    Initialisation = 1,
    /// The chains of training, for contrastive divergence and for persistent chains.
    Training = 2,
    /// Chains that sample from a trained model.
    Sampling = 3,
    /// Runs of annealed importance sampling.
    Annealing = 4,
    /// The copies of chains and the fresh chains of diagnostics.
    Diagnosis = 5,
    /// The order of rows.
    Shuffling = 6,
    /// The conversion of grey levels to bits.
    Binarising = 7,
    /// Particles that track log Z during training.
    Tracking = 8,
    /// Swaps between chains of different temperatures.
    Exchanging = 9,
    /// A program's own random numbers, separate from all that harmonium draws with the same seed: noise on data, or the units that
    /// dropout omits.
    ///
    /// ```
    /// use harmonium::{Cpu, Purpose, Uniforms};
    ///
    /// let (mut draws, mut noise) = (Uniforms::new(123, Purpose::Other), [1.0; 3]);
    /// Cpu::detect()?.uniforms(&mut draws, &mut noise);
    /// assert!(draws.position() == 3 && noise.iter().all(|u| (0.0..1.0).contains(u)));
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    Other = 10,
}

/// A position in the sequence of random numbers of one seed and one purpose.
///
/// ```
/// use harmonium::{Purpose, Uniforms};
///
/// let mut draws = Uniforms::new(123, Purpose::Shuffling);
/// let order = draws.permutation(5);
/// assert_eq!(draws.position(), 2 * 4);
/// let mut sorted = order.clone();
/// sorted.sort();
/// assert_eq!(sorted, [0, 1, 2, 3, 4]);
/// // The same position gives the same numbers.
/// draws.seek(0);
/// assert_eq!(draws.permutation(5), order);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uniforms {
    seed: u64,
    position: u64,
}

impl Uniforms {
    /// The start of the sequence for this seed and purpose.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        // splitmix64's output function: similar seeds and purposes start far apart on the generator's cycle.
        let mut z = seed.wrapping_add((purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { seed: z ^ (z >> 31), position: 0 }
    }

    /// The position in a sequence, from the results of [`parts`](Self::parts).
    pub(crate) fn from_parts(seed: u64, position: u64) -> Self {
        Self { seed, position }
    }

    /// The number that identifies the sequence, from seed and purpose; and the position.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.seed, self.position)
    }

    /// The number of random numbers before this position.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to a position.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Advances by `n` numbers, as drawing them would.
    pub fn skip(&mut self, n: u64) {
        self.position = self.position.wrapping_add(n);
    }

    /// A sequential generator at this position. Its numbers x are the specification; the text of the [module](self) explains what each
    /// decides.
    pub fn generator(&self) -> Pcg32 {
        let mut generator = Pcg32::new(self.seed, STEP.add >> 1);
        generator.advance(self.position);
        generator
    }

    /// The numbers 0 … n - 1 in a random order, by the shuffle of Fisher and Yates. Draws 2·(n - 1) numbers.
    ///
    /// Entry i is initially i. For i = 0, 1, … n - 2 the entries i and i + ⌊(2^32·x + y)·(n - i)/2^64⌋ are exchanged, where x
    /// and y are numbers 2i and 2i + 1 from this position. Each of m entries is chosen with a probability that differs from 1/m
    /// by less than 2^-64.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }

    /// The first `len` entries of the [`permutation`](Self::permutation) of `n` numbers, or all if there are fewer. Draws 2·`len`
    /// numbers, at most 2·(n - 1).
    ///
    /// For few entries, the rest of the permutation needs no memory.
    pub fn permutation_start(&mut self, n: usize, len: usize) -> Vec<usize> {
        let len = len.min(n);
        if len > n / 16 {
            let Ok(end) = u32::try_from(n) else {
                let mut order: Vec<usize> = (0..n).collect();
                self.shuffle_start(&mut order, len);
                order.truncate(len);
                return order;
            };
            let mut order: Vec<u32> = (0..end).collect();
            self.shuffle_start(&mut order, len);
            return order[..len].iter().map(|&row| row as usize).collect();
        }
        // Entries that are not at their initial position.
        let (mut moved, mut order) = (HashMap::new(), Vec::with_capacity(len));
        self.exchanges(n, len, |i, j| {
            let first = moved.remove(&i).unwrap_or(i);
            order.push(if i == j { first } else { moved.insert(j, first).unwrap_or(j) });
        });
        order
    }

    /// Reorders entries by the [`permutation`](Self::permutation).
    pub(crate) fn shuffle<T>(&mut self, entries: &mut [T]) {
        self.shuffle_start(entries, entries.len());
    }

    fn shuffle_start<T>(&mut self, entries: &mut [T], len: usize) {
        self.exchanges(entries.len(), len, |i, j| entries.swap(i, j));
    }

    /// Performs the first `len` exchanges of a permutation of `n` entries.
    fn exchanges(&mut self, n: usize, len: usize, mut exchange: impl FnMut(usize, usize)) {
        let mut generator = self.generator();
        let mut number = || u128::from(generator.next_u32());
        for i in 0..len.min(n.saturating_sub(1)) {
            let draw = number() << 32 | number();
            exchange(i, i + ((draw * (n - i) as u128) >> 64) as usize);
            self.skip(2);
        }
    }

    /// The state of the congruential generator at this position.
    pub(crate) fn state(&self) -> u64 {
        let first = STEP.from(self.seed.wrapping_add(STEP.add));
        Jump::over(self.position).from(first)
    }
}

/// The number u in [0, 1), a multiple of 2^-24, for a draw x that is used as a number and not for a unit's state.
#[inline(always)]
pub fn unit_interval(x: u32) -> f32 {
    // At most 24 bits: the signed conversion, which every instruction set has, is exact.
    (x >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// The distance of the numbers u of two successive x.
pub(crate) const END_STEP: f32 = 1.0 / 4_294_967_296.0;

/// The distance of u = (x + ½)·2^-32 from 0, or from 1 if `upper` is true; at most ½.
#[inline(always)]
pub(crate) fn end_distance(x: u32, upper: bool) -> f32 {
    let steps = if upper { !x } else { x };
    // The signed conversion is the one that every instruction set has. The product is exact.
    steps.min(i32::MAX as u32) as i32 as f32 * END_STEP + END_STEP / 2.0
}

/// The output x of the generator in state s: PCG's XSH RR.
#[inline(always)]
pub(crate) fn output(s: u64) -> u32 {
    ((((s >> 18) ^ s) >> 27) as u32).rotate_right((s >> 59) as u32)
}

/// Several steps of the generator in one: s ← multiply·s + add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    pub multiply: u64,
    pub add: u64,
}

impl Jump {
    /// `n` steps, in O(log n) (F. B. Brown, "Random number generation with arbitrary stride", 1994).
    pub(crate) const fn over(mut n: u64) -> Self {
        let mut jump = Self { multiply: 1, add: 0 };
        let mut power = STEP;
        while n > 0 {
            if n & 1 == 1 {
                jump = jump.then(power);
            }
            power = power.then(power);
            n >>= 1;
        }
        jump
    }

    /// This jump followed by another.
    pub(crate) const fn then(self, other: Self) -> Self {
        Self {
            multiply: self.multiply.wrapping_mul(other.multiply),
            add: other.multiply.wrapping_mul(self.add).wrapping_add(other.add),
        }
    }

    /// The state after the jump from state s.
    #[inline(always)]
    pub(crate) const fn from(self, s: u64) -> u64 {
        self.multiply.wrapping_mul(s).wrapping_add(self.add)
    }
}
