//! The register file of a warp and element-wise operations on it.
//!
//! A register is a row of 32 lanes. Rows of 64-bit registers are in a separate file, and a predicate is a bit mask,
//! so an operation on a whole warp is one short loop over arrays.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// One register of all lanes.
pub type Row<R> = [R; LANES];

/// The storage types: `u32` for every type of up to 32 bits, `u64` for the wider ones.
pub trait Raw: Copy + Default + Send + Sync + 'static {
    /// The rows of this width.
    fn file(registers: &Registers) -> &[Row<Self>];
    /// The rows of this width, for writing.
    fn file_mut(registers: &mut Registers) -> &mut [Row<Self>];
}

impl Raw for u32 {
    fn file(registers: &Registers) -> &[Row<Self>] {
        &registers.narrow
    }
    fn file_mut(registers: &mut Registers) -> &mut [Row<Self>] {
        &mut registers.narrow
    }
}

impl Raw for u64 {
    fn file(registers: &Registers) -> &[Row<Self>] {
        &registers.wide
    }
    fn file_mut(registers: &mut Registers) -> &mut [Row<Self>] {
        &mut registers.wide
    }
}

/// A type as which a lane of a register can be read.
pub trait Lane: Copy + Send + Sync + 'static {
    /// Its storage type.
    type Raw: Raw;
    /// Reads it; ignores bits above its own.
    fn from_raw(raw: Self::Raw) -> Self;
    /// Writes it; extends signed types.
    fn into_raw(self) -> Self::Raw;
}

macro_rules! int_lanes {
    ($($ty:ty: $raw:ty),*) => {$(
        impl Lane for $ty {
            type Raw = $raw;
            fn from_raw(raw: $raw) -> Self { raw as $ty }
            fn into_raw(self) -> $raw { self as $raw }
        }
    )*};
}
int_lanes!(u8: u32, u16: u32, u32: u32, i8: u32, i16: u32, i32: u32, u64: u64, i64: u64);

macro_rules! float_lanes {
    ($($ty:ty: $raw:ty),*) => {$(
        impl Lane for $ty {
            type Raw = $raw;
            fn from_raw(raw: $raw) -> Self { <$ty>::from_bits(raw) }
            fn into_raw(self) -> $raw { self.to_bits() }
        }
    )*};
}
float_lanes!(f32: u32, f64: u64);

/// The registers of one warp.
#[derive(Clone, Default)]
pub struct Registers {
    /// Registers of up to 32 bits.
    pub narrow: Vec<Row<u32>>,
    /// 64-bit registers.
    pub wide: Vec<Row<u64>>,
    /// Predicates, a bit per lane.
    pub predicates: Vec<u32>,
}

/// The lanes of a mask, in order.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> + Clone {
    (0..LANES).filter(move |lane| mask >> lane & 1 != 0)
}

/// Compiles a body twice: for the baseline, and for AVX2 with FMA, where a fused multiply-add is one instruction.
macro_rules! vectorised {
    ($(fn $name:ident / $fast:ident <$($generic:ident),*> ($self:ident, $($arg:ident: $ty:ty),*) $(-> $out:ty)?
       where [$($bound:tt)*] $body:block)*) => {$(
        #[allow(clippy::too_many_arguments)]
        #[inline]
        pub fn $name<$($generic),*>(&mut $self, $($arg: $ty),*) $(-> $out)? where $($bound)* {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn $fast<$($generic),*>(registers: &mut Registers, $($arg: $ty),*) $(-> $out)? where $($bound)* {
                    registers.$fast($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: both features were just detected.
                    return unsafe { $fast($self, $($arg),*) };
                }
            }
            $self.$fast($($arg),*)
        }

        #[allow(clippy::too_many_arguments)]
        #[inline(always)]
        fn $fast<$($generic),*>(&mut $self, $($arg: $ty),*) $(-> $out)? where $($bound)* $body
    )*};
}

impl Registers {
    /// The row of a register.
    #[inline(always)]
    pub fn row<R: Raw>(&self, slot: usize) -> &Row<R> {
        &R::file(self)[slot]
    }

    /// Writes the lanes of a mask.
    #[inline(always)]
    pub fn write<R: Raw>(&mut self, mask: u32, slot: usize, values: &Row<R>) {
        let row = &mut R::file_mut(self)[slot];
        if mask == u32::MAX {
            *row = *values;
            return;
        }
        for lane in 0..LANES {
            if mask >> lane & 1 != 0 {
                row[lane] = values[lane];
            }
        }
    }

    /// Writes the predicate bits of a mask.
    #[inline(always)]
    pub fn write_predicate(&mut self, mask: u32, slot: usize, bits: u32) {
        let old = &mut self.predicates[slot];
        *old = *old & !mask | bits & mask;
    }

    vectorised! {
        fn map1 / map1_body<A, D, F>(self, mask: u32, d: usize, a: usize, f: F)
        where [A: Lane, D: Lane, F: Fn(A) -> D] {
            let a = self.row::<A::Raw>(a);
            let out = std::array::from_fn(|i| f(A::from_raw(a[i])).into_raw());
            self.write(mask, d, &out);
        }

        fn map2 / map2_body<A, B, D, F>(self, mask: u32, d: usize, a: usize, b: usize, f: F)
        where [A: Lane, B: Lane, D: Lane, F: Fn(A, B) -> D] {
            let (a, b) = (self.row::<A::Raw>(a), self.row::<B::Raw>(b));
            let out = std::array::from_fn(|i| f(A::from_raw(a[i]), B::from_raw(b[i])).into_raw());
            self.write(mask, d, &out);
        }

        fn map3 / map3_body<A, B, C, D, F>(self, mask: u32, d: usize, a: usize, b: usize, c: usize, f: F)
        where [A: Lane, B: Lane, C: Lane, D: Lane, F: Fn(A, B, C) -> D] {
            let (a, b, c) = (self.row::<A::Raw>(a), self.row::<B::Raw>(b), self.row::<C::Raw>(c));
            let out = std::array::from_fn(|i| {
                f(A::from_raw(a[i]), B::from_raw(b[i]), C::from_raw(c[i])).into_raw()
            });
            self.write(mask, d, &out);
        }

        fn test2 / test2_body<A, F>(self, a: usize, b: usize, f: F) -> u32
        where [A: Lane, F: Fn(A, A) -> bool] {
            let (a, b) = (self.row::<A::Raw>(a), self.row::<A::Raw>(b));
            let hits: Row<u8> = std::array::from_fn(|i| u8::from(f(A::from_raw(a[i]), A::from_raw(b[i]))));
            gather_bits(&hits)
        }
    }
}

/// One bit per byte: the multiplication moves the low bits of eight bytes into the highest byte.
#[inline(always)]
fn gather_bits(bytes: &Row<u8>) -> u32 {
    let mut bits = 0;
    for (i, chunk) in bytes.chunks_exact(8).enumerate() {
        let word = chunk.iter().rev().fold(0u64, |w, &b| w << 8 | u64::from(b));
        bits |= ((word.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32) << (8 * i);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_gathered_in_lane_order() {
        for pattern in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
            let bytes = std::array::from_fn(|i| (pattern >> i & 1) as u8);
            assert_eq!(gather_bits(&bytes), pattern);
        }
    }

    #[test]
    fn masked_lanes_keep_their_values() {
        let mut registers = Registers { narrow: vec![[7; LANES], [1; LANES]], ..Registers::default() };
        registers.map1(0x5, 0, 1, |a: u32| a + 1);
        assert_eq!(registers.narrow[0][..4], [2, 7, 2, 7]);
    }
}
