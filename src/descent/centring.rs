//! The centred gradient: units have offsets, and the gradient is that of the units' differences from them.
//!
//! With offsets μ of the visible and λ of the hidden units, and G the plain gradient,
//!
//! - G_W ← G_W - g_b·λᵀ - μ·g_cᵀ
//! - g_b ← g_b - G_W·λ and g_c ← g_c - G_Wᵀ·μ, with the new G_W
//! - μ ← (1 - ν)·μ + ν·⟨v⟩ and λ ← (1 - ν)·λ + ν·⟨p⟩, over the rows of the batch.
//!
//! The parameters stay those of the ordinary model. The rule is invariant to an exchange of bits for their opposites in the data
//! (W → -W, b → -b, c → c + Wᵀ1 for those rows), and it improves learning. An update uses the offsets from before it, as it uses the
//! parameters. Offsets are means of data only: with means of the model in them the rule diverges.
//!
//! Sources: K. Cho, T. Raiko, A. Ilin, "Enhanced gradient and adaptive learning rate for training restricted Boltzmann
//! machines", 2011; G. Montavon, K.-R. Müller, "Deep Boltzmann machines and the centering trick", 2012; J. Melchior,
//! A. Fischer, L. Wiskott, "How to center deep Boltzmann machines", 2016.

use super::{settled, slide};
use crate::lanes::Lanes;

/// A visible unit with an offset nearer to 0 gets the centre 0, so that a pixel that is never on costs nothing.
pub(crate) const RARE: f32 = 0.001;

/// The centred gradient; see the [module](self) for the equations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centring {
    /// ν, the weight of each batch's means in the offsets, within [0, 1].
    pub rate: f32,
}

impl Default for Centring {
    /// ν = 0.01.
    fn default() -> Self {
        Self { rate: 0.01 }
    }
}

/// The centre of a visible unit with this offset.
#[inline(always)]
pub(crate) fn centre_of<L: Lanes>(l: L, offset: L::F) -> L::F {
    l.select(l.less(l.larger(offset, l.negate(offset)), l.splat(RARE)), l.splat(0.0), offset)
}

/// The gradient of weights of a visible unit with this centre.
#[inline(always)]
pub(crate) fn centred<L: Lanes>(l: L, gradient: L::F, centre: L::F, slope: L::F) -> L::F {
    l.mul_add(l.negate(centre), slope, gradient)
}

/// An offset after an update whose rows have this mean.
#[inline(always)]
pub(crate) fn next_offset<L: Lanes>(l: L, offset: L::F, mean: L::F, rate: L::F) -> L::F {
    settled(l, slide(l, offset, mean, rate))
}
