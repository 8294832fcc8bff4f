//! The random numbers: one PCG32 sequence, read by position.
//!
//! Everything random in a run is a function of a seed, a [`Purpose`] and a position. A layer of `rows` × `units` numbers
//! drawn at position p gives element (r, j) the number p + r·units + j, and moves the position on by rows·units. So one
//! sequential generator, element after element, *is* the specification ([`Uniforms::generator`]); workers, SIMD lanes and
//! CUDA threads jump to their place in it and get the same numbers, however the work is split.
//!
//! # What a number decides
//!
//! The number x of a unit stands for u = (x + ½)·2^-32, and the unit is on iff u < σ(a), a being its pre-activation. The
//! comparison takes place at the end of the unit interval that is nearer to σ(a), where `f32` has numbers enough. With
//! e = e^-a in `f32`, a no farther from 0 than ± 87.3:
//!
//! | | d | on iff |
//! |---|---|---|
//! | e ≥ 1 | u | d + d·e < 1 |
//! | e < 1 | 1 - u | not d + d·e < e |
//!
//! d is rounded to `f32`, d + d·e once more. With q = 1/(1 + e^|a|) the rarer state has the probability
//! round(2^32·q)/2^32, where a relative error of q below 2^-21 comes from rounding, for either sign of a. So
//! - a state of probability q is rarer or more frequent than it should be by at most 2^-33 + 2^-21·q: within 1 % up to
//!   |a| = 18.2;
//! - the least rate at which a unit leaves its likely state is 2^-32, once in 4.3·10^9 draws;
//! - where |a| > 22.88 (q < 2^-33) a unit is certain: such a bias clamps it, in either direction;
//! - a unit whose pre-activation is NaN is off.
//!
//! # The generator
//!
//! It is `rand_pcg::Pcg32` (M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
//! Algorithms for Random Number Generation", 2014): a linear congruential generator s ← A·s + C modulo 2^64, of which n
//! steps at once are again s ← Aₙ·s + Cₙ. The period is 2^64; the tutorial's run draws 4·10^8 numbers.
//!
//! Numbers a lag of 2^k apart share the low k bits of their states; so do those a lag of an odd multiple of 2^k apart, and only
//! this k counts. Measured by chi-square tests on the leading bits of 2^28 numbers (eight bits each of pairs, six each of
//! triples at equal strides), for 2^k and 321·2^k: pairs show nothing up to k = 40 and much from 41 on; triples show nothing
//! up to k = 22, traces of 2 to 4 standard deviations from 23 to 25, and more with every k beyond.
//!
//! A unit's numbers in successive steps of M chains are M·(n_visible + n_hidden) apart. 2048 chains of 784 + 500 units take
//! 2^13·321 numbers a step, so k = 13. Only chains and units that are both large powers of two come to k = 23 and more, from
//! 2^13 chains of 512 + 512 units on: there one chain more or less is better.

use rand_core::Rng;
use rand_pcg::Pcg32;
use std::collections::HashMap;

/// A and C of s ← A·s + C in `Pcg32` with its default stream.
const STEP: Jump = Jump { multiply: 6_364_136_223_846_793_005, add: 1_442_695_040_888_963_407 };

/// What a sequence of random numbers is for. Each purpose has a sequence of its own, so that drawing more for one of them
/// changes nothing in another. Later versions may know more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The first weights of a model.
    Initialisation = 1,
    /// The chains of training, contrastive divergence's as well as persistent ones.
    Training = 2,
    /// Chains that show what a model has learnt.
    Sampling = 3,
    /// Runs of annealed importance sampling.
    Annealing = 4,
    /// Copies of chains, and fresh ones beside them, that tell how the chains of training are.
    Diagnosis = 5,
    /// The order of rows.
    Shuffling = 6,
    /// What of grey values becomes bits.
    Binarising = 7,
    /// Chains that follow log Z while a model is trained.
    Tracking = 8,
    /// Which chains of different temperatures change places.
    Exchanging = 9,
    /// What a program draws for itself, beside all that harmonium draws for it with the same seed: noise on data, the units that
    /// dropout leaves out.
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

/// A place in the sequence of random numbers of one seed and one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uniforms {
    seed: u64,
    position: u64,
}

impl Uniforms {
    /// The beginning of the sequence for this seed and purpose.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        // splitmix64's output function: near seeds and purposes start far apart on the generator's cycle.
        let mut z = seed.wrapping_add((purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { seed: z ^ (z >> 31), position: 0 }
    }

    /// The place of that position in the sequence that `seed` chose: what [`parts`](Self::parts) gave.
    pub(crate) fn from_parts(seed: u64, position: u64) -> Self {
        Self { seed, position }
    }

    /// What chose the sequence, seed and purpose in one number, and the position.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.seed, self.position)
    }

    /// How many numbers lie before this place.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to the place that has `position` numbers before it.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Moves on by `n` numbers: what drawing `n` numbers does to the position.
    pub fn skip(&mut self, n: u64) {
        self.position = self.position.wrapping_add(n);
    }

    /// A sequential generator at this place. Its numbers x are the specification: what they decide stands in the text of
    /// the module.
    pub fn generator(&self) -> Pcg32 {
        let mut generator = Pcg32::new(self.seed, STEP.add >> 1);
        generator.advance(self.position);
        generator
    }

    /// The numbers 0 … n - 1 in a random order, by the shuffle of Fisher and Yates. Draws 2·(n - 1) numbers.
    ///
    /// Entry i is i at first. For i = 0, 1, … n - 2 the entries i and i + ⌊(2^32·x + y)·(n - i)/2^64⌋ change places, where x
    /// and y are numbers 2i and 2i + 1 from this place. Each of m entries is chosen with a probability that differs from 1/m
    /// by less than 2^-64.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }

    /// The first `len` entries of the [`permutation`](Self::permutation) of `n` numbers, all where there are fewer. Draws 2·`len`
    /// numbers, at most 2·(n - 1).
    ///
    /// Of few entries the rest of the permutation costs no memory.
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
        // Entries that are not where they were at first.
        let (mut moved, mut order) = (HashMap::new(), Vec::with_capacity(len));
        self.exchanges(n, len, |i, j| {
            let first = moved.remove(&i).unwrap_or(i);
            order.push(if i == j { first } else { moved.insert(j, first).unwrap_or(j) });
        });
        order
    }

    /// Brings entries into the order of the [`permutation`](Self::permutation).
    pub(crate) fn shuffle<T>(&mut self, entries: &mut [T]) {
        self.shuffle_start(entries, entries.len());
    }

    fn shuffle_start<T>(&mut self, entries: &mut [T], len: usize) {
        self.exchanges(entries.len(), len, |i, j| entries.swap(i, j));
    }

    /// The first `len` exchanges of entries by which a permutation of `n` is made.
    fn exchanges(&mut self, n: usize, len: usize, mut exchange: impl FnMut(usize, usize)) {
        let mut generator = self.generator();
        let mut number = || u128::from(generator.next_u32());
        for i in 0..len.min(n.saturating_sub(1)) {
            let draw = number() << 32 | number();
            exchange(i, i + ((draw * (n - i) as u128) >> 64) as usize);
            self.skip(2);
        }
    }

    /// The state of the congruential generator at this place.
    pub(crate) fn state(&self) -> u64 {
        let first = STEP.from(self.seed.wrapping_add(STEP.add));
        Jump::over(self.position).from(first)
    }
}

/// The number u in [0, 1), a multiple of 2^-24, that a draw x stands for where a number is wanted and not a unit's state.
#[inline(always)]
pub fn unit_interval(x: u32) -> f32 {
    // At most 24 bits: the signed conversion, which every instruction set has, is exact.
    (x >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// How far the numbers u are apart that two neighbours x stand for.
pub(crate) const END_STEP: f32 = 1.0 / 4_294_967_296.0;

/// How far u = (x + ½)·2^-32 is from 0 or, where `upper` holds, from 1; ½ where it is more.
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

/// Some number of steps of the generator at once: s ← multiply·s + add.
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

    /// This jump and then the other.
    pub(crate) const fn then(self, other: Self) -> Self {
        Self {
            multiply: self.multiply.wrapping_mul(other.multiply),
            add: other.multiply.wrapping_mul(self.add).wrapping_add(other.add),
        }
    }

    /// Where the jump leads from state s.
    #[inline(always)]
    pub(crate) const fn from(self, s: u64) -> u64 {
        self.multiply.wrapping_mul(s).wrapping_add(self.add)
    }
}
