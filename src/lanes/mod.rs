//! The resources of a processor: vectors of sixteen numbers in each instruction set ([`isa`]), and threads ([`threads`]).
//!
//! A kernel is written once, over [`Lanes`], inside [`dispatch!`]. The macro compiles it for AVX-512, for AVX2 with FMA and for the
//! baseline of the target ([`Portable`], plain arrays). Each operation is exact or correctly rounded in all of them, so all give
//! the same bits. Only the portable fused multiply-add may be slow, if a library routine computes it. [`One`] implements the
//! operations for a single number, so the elementary functions are written once too.

use crate::uniforms::{Jump, end_distance, output, unit_interval};

/// The number of lanes in a vector.
pub(crate) const LANES: usize = 16;

/// A vector in memory, aligned to a cache line.
pub(crate) type Vector = [f32; LANES];

/// Two vectors of 16-bit integers, in an order that depends on the instruction set ([`Wide::round`]).
pub(crate) type Small = [i16; 2 * LANES];

/// The operations. An implementor is a token: its existence proves that the processor has its instructions.
pub(crate) trait Lanes: Copy {
    /// Numbers.
    type F: Copy;
    /// One truth value per lane.
    type M: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a·b + c, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn floor(self, a: Self::F) -> Self::F;
    /// √a, rounded once.
    fn sqrt(self, a: Self::F) -> Self::F;
    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a` if b < a, else `b`, also for NaN.
    fn larger(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` if a < b, else `b`, also for NaN.
    fn smaller(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` if the mask is true, else `b`.
    fn select(self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// The bits of `a`, shifted left by 23, so that they become an exponent.
    fn shift_to_exponent(self, a: Self::F) -> Self::F;
    /// n of a positive normal number m·2^n, with m within [1, 2).
    fn exponent(self, a: Self::F) -> Self::F;
    /// m of a positive normal number m·2^n.
    fn mantissa(self, a: Self::F) -> Self::F;

    #[inline(always)]
    fn negate(self, a: Self::F) -> Self::F {
        self.mul(a, self.splat(-1.0))
    }
}

/// The operations of whole vectors only.
pub(crate) trait Wide: Lanes {
    /// The states of the generator for the next [`LANES`] draws.
    type S: Copy;
    /// The random numbers of 32 bits.
    type X: Copy;
    /// Integers of 32 bits.
    type I: Copy;
    /// Whether there are registers for 24 sums, instead of 12 half as wide.
    const MANY_REGISTERS: bool;

    fn load(self, from: &Vector) -> Self::F;
    fn store(self, a: Self::F, to: &mut Vector);
    /// Prefetches a cache line.
    #[inline(always)]
    fn prefetch(self, _from: &Vector) {}
    /// The mask as bits: lane l is bit l.
    fn bits(self, mask: Self::M) -> u16;
    /// The states for the next random numbers after `state`.
    fn states(self, state: u64) -> Self::S;
    /// The state of the first lane.
    fn first(self, states: Self::S) -> u64;
    /// The next [`LANES`] random numbers.
    fn draw(self, states: &mut Self::S) -> Self::X;
    /// Stores the random numbers.
    fn numbers(self, x: Self::X, to: &mut [u32; LANES]);
    /// [`unit_interval`] of each number.
    fn unit_interval(self, x: Self::X) -> Self::F;
    /// [`end_distance`] of each number.
    fn end_distance(self, x: Self::X, upper: Self::M) -> Self::F;
    /// Rounds both vectors to the nearest integers. Numbers outside of 16 bits give arbitrary results.
    fn round(self, both: [Self::F; 2], to: &mut Small);
    fn load_whole(self, from: &[i32; LANES]) -> Self::I;
    fn store_whole(self, a: Self::I, to: &mut [i32; LANES]);
    /// sums + signs₀·rows₀ + signs₁·rows₁. Signs are 1, 0 or -1; that of rows₀ is in the lower half of `signs`.
    fn add_small(self, sums: [Self::I; 2], rows: [&Small; 2], signs: i32) -> [Self::I; 2];
    /// Converts integers to floating point, with rounding.
    fn number(self, a: Self::I) -> Self::F;
    /// Interleaves a and b: the first and the second half of a₀ b₀ a₁ b₁ ….
    fn zip(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);

    /// Writes first + l for each active lane l, ascending, to the front of `to`, and returns their number. May overwrite the rest
    /// of `to`.
    #[inline(always)]
    fn list(self, on: u16, first: u32, to: &mut [u32; LANES]) -> usize {
        let (mut on, mut n) = (on, 0);
        while on != 0 {
            to[n] = first + on.trailing_zeros();
            on &= on - 1;
            n += 1;
        }
        n
    }

    /// Transposes 16 × 16 numbers: row l, column m of the result is row m, column l of `rows`. Each of four rounds interleaves the
    /// two halves of the rows.
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        let mut rows = rows;
        for _ in 0..LANES.ilog2() {
            let mut dealt = rows;
            for i in 0..LANES / 2 {
                (dealt[2 * i], dealt[2 * i + 1]) = self.zip(rows[i], rows[i + LANES / 2]);
            }
            rows = dealt;
        }
        rows
    }
}

/// The jumps from the first lane's state to each lane's: factors and summands.
const TO_LANE: [[u64; LANES]; 2] = {
    let mut jumps = [[0; LANES]; 2];
    let mut l = 0;
    while l < LANES {
        let jump = Jump::over(l as u64);
        (jumps[0][l], jumps[1][l]) = (jump.multiply, jump.add);
        l += 1;
    }
    jumps
};
/// The jump from one vector's states to the next one's.
const TO_NEXT: Jump = Jump::over(LANES as u64);

/// A single number.
#[derive(Clone, Copy)]
pub(crate) struct One;

impl Lanes for One {
    type F = f32;
    type M = bool;

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn floor(self, a: f32) -> f32 {
        a.floor()
    }
    #[inline(always)]
    fn less(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn larger(self, a: f32, b: f32) -> f32 {
        if b < a { a } else { b }
    }
    #[inline(always)]
    fn smaller(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn select(self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() << 23)
    }
    #[inline(always)]
    fn exponent(self, a: f32) -> f32 {
        ((a.to_bits() >> 23) as i32 - 127) as f32
    }
    #[inline(always)]
    fn mantissa(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() & 0x007f_ffff | 0x3f80_0000)
    }
}

/// Plain arrays, which the compiler vectorises for any target.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Computes one element of the result for each lane.
#[inline(always)]
fn each<T>(f: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(f)
}

/// Applies operations of [`One`] to each lane.
macro_rules! lanewise {
    ($($name:ident($($a:ident),+));+) => {$(
        #[inline(always)]
        fn $name(self, $($a: Vector),+) -> Vector {
            each(|l| One.$name($($a[l]),+))
        }
    )+};
}

impl Lanes for Portable {
    type F = Vector;
    type M = [bool; LANES];

    lanewise! {
        add(a, b); mul(a, b); div(a, b); mul_add(a, b, c); floor(a); sqrt(a); larger(a, b); smaller(a, b);
        shift_to_exponent(a); exponent(a); mantissa(a)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Vector {
        [x; LANES]
    }
    #[inline(always)]
    fn less(self, a: Vector, b: Vector) -> [bool; LANES] {
        each(|l| a[l] < b[l])
    }
    #[inline(always)]
    fn select(self, mask: [bool; LANES], a: Vector, b: Vector) -> Vector {
        each(|l| if mask[l] { a[l] } else { b[l] })
    }
}

impl Wide for Portable {
    type S = [u64; LANES];
    type X = [u32; LANES];
    type I = [i32; LANES];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn load(self, from: &Vector) -> Vector {
        *from
    }
    #[inline(always)]
    fn store(self, a: Vector, to: &mut Vector) {
        *to = a;
    }
    #[inline(always)]
    fn bits(self, mask: [bool; LANES]) -> u16 {
        (0..LANES).fold(0, |bits, l| bits | u16::from(mask[l]) << l)
    }
    #[inline(always)]
    fn states(self, state: u64) -> [u64; LANES] {
        each(|l| TO_LANE[0][l].wrapping_mul(state).wrapping_add(TO_LANE[1][l]))
    }
    #[inline(always)]
    fn first(self, states: [u64; LANES]) -> u64 {
        states[0]
    }
    #[inline(always)]
    fn draw(self, states: &mut [u64; LANES]) -> [u32; LANES] {
        let x = each(|l| output(states[l]));
        *states = each(|l| TO_NEXT.from(states[l]));
        x
    }
    #[inline(always)]
    fn numbers(self, x: [u32; LANES], to: &mut [u32; LANES]) {
        *to = x;
    }
    #[inline(always)]
    fn unit_interval(self, x: [u32; LANES]) -> Vector {
        each(|l| unit_interval(x[l]))
    }
    #[inline(always)]
    fn end_distance(self, x: [u32; LANES], upper: [bool; LANES]) -> Vector {
        each(|l| end_distance(x[l], upper[l]))
    }
    #[inline(always)]
    fn round(self, both: [Vector; 2], to: &mut Small) {
        to.iter_mut().zip(both.as_flattened()).for_each(|(to, x)| *to = x.round_ties_even() as i16);
    }
    #[inline(always)]
    fn load_whole(self, from: &[i32; LANES]) -> [i32; LANES] {
        *from
    }
    #[inline(always)]
    fn store_whole(self, a: [i32; LANES], to: &mut [i32; LANES]) {
        *to = a;
    }
    #[inline(always)]
    fn add_small(self, sums: [[i32; LANES]; 2], rows: [&Small; 2], signs: i32) -> [[i32; LANES]; 2] {
        let [first, second] = [signs as i16, (signs >> 16) as i16].map(i32::from);
        let term = |n: usize| first * i32::from(rows[0][n]) + second * i32::from(rows[1][n]);
        [each(|l| sums[0][l] + term(l)), each(|l| sums[1][l] + term(LANES + l))]
    }
    #[inline(always)]
    fn number(self, a: [i32; LANES]) -> Vector {
        each(|l| a[l] as f32)
    }
    #[inline(always)]
    fn zip(self, a: Vector, b: Vector) -> (Vector, Vector) {
        let half = |first: usize| each(|l| if l % 2 == 0 { a[first + l / 2] } else { b[first + l / 2] });
        (half(0), half(LANES / 2))
    }
}

pub(crate) mod isa;
#[cfg(test)]
pub(crate) mod printed;
pub(crate) mod threads;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Compiles each function in it for every instruction set, and dispatches by the first argument, an [`Isa`](crate::Isa). The name
/// before the bar is the [`Lanes`] of the body. Functions that the body calls must be `#[inline(always)]`; otherwise they are
/// compiled for the target's baseline.
macro_rules! dispatch {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident $(<const $c:ident: usize>)? (|$lanes:ident| $($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name $(<const $c: usize>)? (isa: $crate::lanes::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<L: $crate::lanes::Wide, $(const $c: usize)?> ($lanes: L, $($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
            fn avx512 $(<const $c: usize>)? (lanes: $crate::lanes::Avx512, $($arg: $ty),*) $(-> $ret)? {
                body::<_, $($c)?>(lanes, $($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
            fn avx2 $(<const $c: usize>)? (lanes: $crate::lanes::Avx2, $($arg: $ty),*) $(-> $ret)? {
                body::<_, $($c)?>(lanes, $($arg),*)
            }

            match isa.kind() {
                $crate::lanes::isa::Kind::Scalar => body::<_, $($c)?>($crate::lanes::Portable, $($arg),*),
                // SAFETY: an `Isa` of this kind is created only if the processor reported these features.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::isa::Kind::Avx2 => unsafe { avx2 $(::<$c>)? ($crate::lanes::Avx2::assume(), $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::isa::Kind::Avx512 => unsafe { avx512 $(::<$c>)? ($crate::lanes::Avx512::assume(), $($arg),*) },
            }
        }
    )*};
}
pub(crate) use dispatch;

dispatch! {
    /// `out.len()` consecutive random numbers, starting at the generator's state `state`.
    pub(crate) fn uniforms(|l| state: u64, out: &mut [f32]) {
        let mut draws = l.states(state);
        let (vectors, rest) = out.as_chunks_mut();
        for vector in vectors {
            l.store(l.unit_interval(l.draw(&mut draws)), vector);
        }
        let mut vector = [0.0; LANES];
        l.store(l.unit_interval(l.draw(&mut draws)), &mut vector);
        rest.copy_from_slice(&vector[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::{isa::Isa, *};
    use rand_core::Rng;
    use rand_pcg::Pcg32;

    dispatch! {
        fn round(|l| numbers: &[Vector; 2], to: &mut Small) {
            l.round([l.load(&numbers[0]), l.load(&numbers[1])], to);
        }

        fn add_small(|l| sums: &mut [[i32; LANES]; 2], rows: [&Small; 2], signs: i32, numbers: &mut [Vector; 2]) {
            let made = l.add_small([l.load_whole(&sums[0]), l.load_whole(&sums[1])], rows, signs);
            for v in 0..2 {
                l.store_whole(made[v], &mut sums[v]);
                l.store(l.number(made[v]), &mut numbers[v]);
            }
        }
    }

    /// Rounding and adding in the order of any instruction set gives rows of numbers in that order.
    #[test]
    fn sums_of_small_whole_numbers_are_exact() {
        let mut generator = Pcg32::new(1, 2);
        for isa in Isa::available() {
            for signs in [[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0], [-1, 0]] {
                for largest in [1.0, 500.0, 32_767.0] {
                    let mut number = || (2.0 * (generator.next_u32() as f32 / u32::MAX as f32) - 1.0) * largest;
                    let mut rows: [[Vector; 2]; 2] = std::array::from_fn(|_| [each(|_| number()), each(|_| number())]);
                    (rows[0][0][3], rows[1][0][3], rows[0][1][15]) = (largest, -largest, largest - 0.5);
                    let before = [each(|l| number() as i32 * 60_000 - l as i32), each(|l| l as i32 - 20)];
                    let mut small = [[0; 2 * LANES]; 2];
                    rows.iter().zip(&mut small).for_each(|(row, small)| round(isa, row, small));
                    let (mut sums, mut numbers) = (before, [[0.0; LANES]; 2]);
                    let both = signs[0] & 0xffff | signs[1] << 16;
                    add_small(isa, &mut sums, [&small[0], &small[1]], both, &mut numbers);
                    for (v, l) in (0..2).flat_map(|v| (0..LANES).map(move |l| (v, l))) {
                        let term = |row: usize| signs[row] * rows[row][v][l].round_ties_even() as i32;
                        let expected = before[v][l] + term(0) + term(1);
                        assert_eq!(
                            (sums[v][l], numbers[v][l]),
                            (expected, expected as f32),
                            "{isa}, {signs:?}: {v}, {l}"
                        );
                    }
                }
            }
        }
    }
}
