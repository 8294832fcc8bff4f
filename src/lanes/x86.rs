//! The vector operations of AVX-512 and of AVX2 with FMA.
//!
//! The operations are methods of the tokens [`Avx512`] and [`Avx2`]. The caller of `assume`, which creates a token, guarantees that
//! the processor has the instructions. The single `unsafe` block below (`methods!`) relies on that.
#![allow(unsafe_code)]

use super::{LANES, Lanes, Small, TO_LANE, TO_NEXT, Vector, Wide};
use crate::uniforms::END_STEP;
use std::arch::x86_64::*;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx512 {
    /// # Safety
    /// The processor has AVX-512 F, BW, DQ and VL.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Avx2 {
    /// # Safety
    /// The processor has AVX2 and FMA.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// The positions of the bits that are 1 in a byte, ascending, at the front.
const PLACES: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                all[byte][n] = bit as u8;
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

/// Methods of a token whose bodies are vector instructions.
macro_rules! methods {
    ($($(#[$attribute:meta])* fn $name:ident($self:ident $(, $argument:ident: $of:ty)*) $(-> $result:ty)? {
        $($body:tt)*
    })*) => {$(
        $(#[$attribute])*
        #[inline(always)]
        fn $name($self $(, $argument: $of)*) $(-> $result)? {
            // SAFETY: `self` exists only if the processor has the instructions (`assume`). Loads and stores stay within arrays of
            // 16 numbers or of 32 small integers. They move the whole array, or one of its equal parts selected by an index from a
            // fixed range, or (`list` of AVX2) 8 numbers at position 0 and then 8 numbers at position 8 at most.
            unsafe { $($body)* }
        }
    )*};
}

/// Applies an operation to both halves. Not a closure: the compiler may compile one for the target's baseline.
macro_rules! both {
    ($i:ident => $operation:expr) => {
        [
            {
                const $i: usize = 0;
                let _ = $i;
                $operation
            },
            {
                const $i: usize = 1;
                let _ = $i;
                $operation
            },
        ]
    };
}

impl Lanes for Avx512 {
    type F = __m512;
    type M = __mmask16;

    methods! {
        fn splat(self, x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add(self, a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn mul(self, a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(self, a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn floor(self, a: __m512) -> __m512 { _mm512_roundscale_ps::<0x01>(a) }
        fn sqrt(self, a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        fn less(self, a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        fn larger(self, a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn smaller(self, a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 { _mm512_mask_blend_ps(mask, b, a) }
        fn shift_to_exponent(self, a: __m512) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a)))
        }
        fn exponent(self, a: __m512) -> __m512 {
            let biased = _mm512_srli_epi32::<23>(_mm512_castps_si512(a));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(biased, _mm512_set1_epi32(127)))
        }
        fn mantissa(self, a: __m512) -> __m512 {
            let bits = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x007f_ffff));
            _mm512_castsi512_ps(_mm512_or_si512(bits, _mm512_set1_epi32(0x3f80_0000)))
        }
    }
}

impl Wide for Avx512 {
    type S = [__m512i; 2];
    type X = __m512i;
    type I = __m512i;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn bits(self, mask: __mmask16) -> u16 {
        mask
    }

    methods! {
        fn load(self, from: &Vector) -> __m512 { _mm512_loadu_ps(from.as_ptr()) }
        fn store(self, a: __m512, to: &mut Vector) { _mm512_storeu_ps(to.as_mut_ptr(), a) }
        fn prefetch(self, from: &Vector) { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().cast()) }
        fn states(self, state: u64) -> [__m512i; 2] {
            let mut states = [_mm512_set1_epi64(state as i64); 2];
            for half in 0..2 {
                let multiply = _mm512_loadu_si512(TO_LANE[0].as_ptr().add(8 * half).cast());
                let add = _mm512_loadu_si512(TO_LANE[1].as_ptr().add(8 * half).cast());
                states[half] = _mm512_add_epi64(_mm512_mullo_epi64(states[half], multiply), add);
            }
            states
        }
        fn first(self, states: [__m512i; 2]) -> u64 { _mm_cvtsi128_si64(_mm512_castsi512_si128(states[0])) as u64 }
        fn draw(self, states: &mut [__m512i; 2]) -> __m512i {
            let multiply = _mm512_set1_epi64(TO_NEXT.multiply as i64);
            let add = _mm512_set1_epi64(TO_NEXT.add as i64);
            let mut xored = [_mm512_setzero_si512(); 2];
            let before = *states;
            for half in 0..2 {
                let s = before[half];
                xored[half] = _mm512_srli_epi64::<27>(_mm512_xor_si512(_mm512_srli_epi64::<18>(s), s));
                states[half] = _mm512_add_epi64(_mm512_mullo_epi64(s, multiply), add);
            }
            // The word to rotate is the low half of its 64 bits; the rotation is the top five bits of the state.
            let low = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(1));
            let word = _mm512_permutex2var_epi32(xored[0], low, xored[1]);
            let turn = _mm512_srli_epi32::<27>(_mm512_permutex2var_epi32(before[0], high, before[1]));
            _mm512_rorv_epi32(word, turn)
        }
        fn numbers(self, x: __m512i, to: &mut [u32; LANES]) { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
        fn unit_interval(self, x: __m512i) -> __m512 {
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(x)), _mm512_set1_ps(1.0 / 16_777_216.0))
        }
        fn end_distance(self, x: __m512i, upper: __mmask16) -> __m512 {
            let steps = _mm512_mask_xor_epi32(x, upper, x, _mm512_set1_epi32(-1));
            let steps = _mm512_cvtepi32_ps(_mm512_min_epu32(steps, _mm512_set1_epi32(i32::MAX)));
            _mm512_fmadd_ps(steps, _mm512_set1_ps(END_STEP), _mm512_set1_ps(END_STEP / 2.0))
        }
        fn round(self, both: [__m512; 2], to: &mut Small) {
            // The instruction works within 128 bits: four numbers of the first vector, four of the second, and so on. `add_small`
            // separates them again.
            let packed = _mm512_packs_epi32(_mm512_cvtps_epi32(both[0]), _mm512_cvtps_epi32(both[1]));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), packed);
        }
        fn load_whole(self, from: &[i32; LANES]) -> __m512i { _mm512_loadu_si512(from.as_ptr().cast()) }
        fn store_whole(self, a: __m512i, to: &mut [i32; LANES]) { _mm512_storeu_si512(to.as_mut_ptr().cast(), a) }
        fn add_small(self, sums: [__m512i; 2], rows: [&Small; 2], signs: i32) -> [__m512i; 2] {
            let signs = _mm512_set1_epi32(signs);
            let (a, b) = (_mm512_loadu_si512(rows[0].as_ptr().cast()), _mm512_loadu_si512(rows[1].as_ptr().cast()));
            [
                _mm512_add_epi32(sums[0], _mm512_madd_epi16(_mm512_unpacklo_epi16(a, b), signs)),
                _mm512_add_epi32(sums[1], _mm512_madd_epi16(_mm512_unpackhi_epi16(a, b), signs)),
            ]
        }
        fn number(self, a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn zip(self, a: __m512, b: __m512) -> (__m512, __m512) {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
        }
        fn list(self, on: u16, first: u32, to: &mut [u32; LANES]) -> usize {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let all = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(on, all));
            on.count_ones() as usize
        }
    }
}

impl Lanes for Avx2 {
    type F = [__m256; 2];
    type M = [__m256; 2];

    methods! {
        fn splat(self, x: f32) -> [__m256; 2] { both!(I => _mm256_set1_ps(x)) }
        fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_add_ps(a[I], b[I])) }
        fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_mul_ps(a[I], b[I])) }
        fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_div_ps(a[I], b[I])) }
        fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            both!(I => _mm256_fmadd_ps(a[I], b[I], c[I]))
        }
        fn floor(self, a: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_floor_ps(a[I])) }
        fn sqrt(self, a: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_sqrt_ps(a[I])) }
        fn less(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            both!(I => _mm256_cmp_ps::<_CMP_LT_OQ>(a[I], b[I]))
        }
        fn larger(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_max_ps(a[I], b[I])) }
        fn smaller(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { both!(I => _mm256_min_ps(a[I], b[I])) }
        fn select(self, mask: [__m256; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            both!(I => _mm256_blendv_ps(b[I], a[I], mask[I]))
        }
        fn shift_to_exponent(self, a: [__m256; 2]) -> [__m256; 2] {
            both!(I => _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a[I]))))
        }
        fn exponent(self, a: [__m256; 2]) -> [__m256; 2] {
            let bias = _mm256_set1_epi32(127);
            both!(I => _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32::<23>(_mm256_castps_si256(a[I])), bias)))
        }
        fn mantissa(self, a: [__m256; 2]) -> [__m256; 2] {
            let (mask, one) = (_mm256_set1_epi32(0x007f_ffff), _mm256_set1_epi32(0x3f80_0000));
            both!(I => {
                _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(_mm256_castps_si256(a[I]), mask), one))
            })
        }
    }
}

impl Avx2 {
    methods! {
        /// s·multiply + add modulo 2^64, from products of 32 bits.
        fn jump(self, s: __m256i, multiply: __m256i, add: __m256i) -> __m256i {
            let low = _mm256_mul_epu32(s, multiply);
            // Low half times high half, and high half times low half: both are added to the high half.
            let cross = _mm256_mullo_epi32(s, _mm256_shuffle_epi32::<0b10_11_00_01>(multiply));
            let high = _mm256_and_si256(cross, _mm256_set1_epi64x(0xffff_ffff << 32));
            let cross = _mm256_add_epi64(_mm256_slli_epi64::<32>(cross), high);
            _mm256_add_epi64(_mm256_add_epi64(low, add), cross)
        }
    }
}

impl Wide for Avx2 {
    type S = [__m256i; 4];
    type X = [__m256i; 2];
    type I = [__m256i; 2];
    const MANY_REGISTERS: bool = false;

    methods! {
        fn load(self, from: &Vector) -> [__m256; 2] { both!(I => _mm256_loadu_ps(from.as_ptr().add(8 * I))) }
        fn store(self, a: [__m256; 2], to: &mut Vector) {
            for i in 0..2 {
                _mm256_storeu_ps(to.as_mut_ptr().add(8 * i), a[i]);
            }
        }
        fn prefetch(self, from: &Vector) { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().cast()) }
        fn bits(self, mask: [__m256; 2]) -> u16 {
            let [low, high] = both!(I => _mm256_movemask_ps(mask[I]));
            (low | high << 8) as u16
        }
        fn states(self, state: u64) -> [__m256i; 4] {
            let mut states = [_mm256_set1_epi64x(state as i64); 4];
            for q in 0..4 {
                let multiply = _mm256_loadu_si256(TO_LANE[0].as_ptr().add(4 * q).cast());
                let add = _mm256_loadu_si256(TO_LANE[1].as_ptr().add(4 * q).cast());
                states[q] = self.jump(states[q], multiply, add);
            }
            states
        }
        fn first(self, states: [__m256i; 4]) -> u64 { _mm256_extract_epi64::<0>(states[0]) as u64 }
        fn draw(self, states: &mut [__m256i; 4]) -> [__m256i; 2] {
            let multiply = _mm256_set1_epi64x(TO_NEXT.multiply as i64);
            let add = _mm256_set1_epi64x(TO_NEXT.add as i64);
            let mut numbers = [_mm256_setzero_si256(); 2];
            for half in 0..2 {
                let mut xored = [_mm256_setzero_ps(); 2];
                let mut tops = [_mm256_setzero_ps(); 2];
                for i in 0..2 {
                    let s = states[2 * half + i];
                    let x = _mm256_srli_epi64::<27>(_mm256_xor_si256(_mm256_srli_epi64::<18>(s), s));
                    (xored[i], tops[i]) = (_mm256_castsi256_ps(x), _mm256_castsi256_ps(s));
                    states[2 * half + i] = self.jump(s, multiply, add);
                }
                // The word to rotate is the low half of its 64 bits; the rotation is the top five bits of the state.
                let word = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(xored[0], xored[1]));
                let top = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(tops[0], tops[1]));
                let turn = _mm256_srli_epi32::<27>(top);
                // Shifts left by 32 - turn in two steps, so that no shift is by 32.
                let back = _mm256_xor_si256(turn, _mm256_set1_epi32(31));
                let left = _mm256_sllv_epi32(_mm256_add_epi32(word, word), back);
                let x = _mm256_or_si256(_mm256_srlv_epi32(word, turn), left);
                // The shuffle works within 128 bits; this puts the words in order.
                numbers[half] = _mm256_permute4x64_epi64::<0b11_01_10_00>(x);
            }
            numbers
        }
        fn numbers(self, x: [__m256i; 2], to: &mut [u32; LANES]) {
            for i in 0..2 {
                _mm256_storeu_si256(to.as_mut_ptr().add(8 * i).cast(), x[i]);
            }
        }
        fn unit_interval(self, x: [__m256i; 2]) -> [__m256; 2] {
            both!(I => {
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(x[I])), _mm256_set1_ps(1.0 / 16_777_216.0))
            })
        }
        fn end_distance(self, x: [__m256i; 2], upper: [__m256; 2]) -> [__m256; 2] {
            both!(I => {
                let steps = _mm256_xor_si256(x[I], _mm256_castps_si256(upper[I]));
                let steps = _mm256_cvtepi32_ps(_mm256_min_epu32(steps, _mm256_set1_epi32(i32::MAX)));
                _mm256_fmadd_ps(steps, _mm256_set1_ps(END_STEP), _mm256_set1_ps(END_STEP / 2.0))
            })
        }
        fn round(self, both: [[__m256; 2]; 2], to: &mut Small) {
            // As for AVX-512, for each half of both vectors.
            for i in 0..2 {
                let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(both[0][i]), _mm256_cvtps_epi32(both[1][i]));
                _mm256_storeu_si256(to.as_mut_ptr().add(16 * i).cast(), packed);
            }
        }
        fn load_whole(self, from: &[i32; LANES]) -> [__m256i; 2] {
            both!(I => _mm256_loadu_si256(from.as_ptr().add(8 * I).cast()))
        }
        fn store_whole(self, a: [__m256i; 2], to: &mut [i32; LANES]) {
            for i in 0..2 {
                _mm256_storeu_si256(to.as_mut_ptr().add(8 * i).cast(), a[i]);
            }
        }
        fn add_small(self, sums: [[__m256i; 2]; 2], rows: [&Small; 2], signs: i32) -> [[__m256i; 2]; 2] {
            let (signs, mut sums) = (_mm256_set1_epi32(signs), sums);
            for i in 0..2 {
                let a = _mm256_loadu_si256(rows[0].as_ptr().add(16 * i).cast());
                let b = _mm256_loadu_si256(rows[1].as_ptr().add(16 * i).cast());
                sums[0][i] = _mm256_add_epi32(sums[0][i], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), signs));
                sums[1][i] = _mm256_add_epi32(sums[1][i], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), signs));
            }
            sums
        }
        fn number(self, a: [__m256i; 2]) -> [__m256; 2] { both!(I => _mm256_cvtepi32_ps(a[I])) }
        fn zip(self, a: [__m256; 2], b: [__m256; 2]) -> ([__m256; 2], [__m256; 2]) {
            // The instruction works within 128 bits: quarters 0 and 2 come from the low result, 1 and 3 from the high one.
            let low = both!(I => _mm256_unpacklo_ps(a[I], b[I]));
            let high = both!(I => _mm256_unpackhi_ps(a[I], b[I]));
            let half = |i: usize| {
                [_mm256_permute2f128_ps::<0x20>(low[i], high[i]), _mm256_permute2f128_ps::<0x31>(low[i], high[i])]
            };
            (half(0), half(1))
        }
        fn list(self, on: u16, first: u32, to: &mut [u32; LANES]) -> usize {
            let mut n = 0;
            for (half, byte) in on.to_le_bytes().into_iter().enumerate() {
                let places = _mm_cvtsi64_si128(i64::from_le_bytes(PLACES[usize::from(byte)]));
                let first = _mm256_set1_epi32((first + 8 * half as u32) as i32);
                let all = _mm256_add_epi32(_mm256_cvtepu8_epi32(places), first);
                _mm256_storeu_si256(to.as_mut_ptr().add(n).cast(), all);
                n += byte.count_ones() as usize;
            }
            n
        }
    }
}
