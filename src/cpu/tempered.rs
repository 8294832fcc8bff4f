//! Computes a layer from the other one, for a group of rows that each have an inverse temperature: sums, then pre-activations.

use super::{
    host::Cpu,
    inputs::Inputs,
    layers,
    parameters::CpuParameters,
    tiles::{Row, tiles, vectors},
};
use crate::{rows::Rows, shape::Layer};

/// The maximum size of a group: enough rows to reuse a strip, few enough for its tile to stay in the first-level cache.
const GROUP: usize = 64;
/// The maximum size of a group for a matrix library, which packs all weights again for every product.
pub(crate) const MOST_ROWS: usize = 512;

impl Cpu {
    /// The maximum size of a group of rows.
    pub(super) fn group(self) -> usize {
        if self.gemm { MOST_ROWS } else { GROUP }
    }
}

/// The scratch of a layer's computation.
#[derive(Default)]
pub(crate) struct LayerScratch {
    inputs: Inputs,
    /// One tile of every row of the group.
    tile: Vec<Row>,
}

impl LayerScratch {
    /// Whether the inputs of the sum are known to be bits.
    pub fn holds_bits(&self) -> bool {
        self.inputs.are_bits()
    }
}

/// A model with the inverse temperatures of the rows of a group.
#[derive(Clone, Copy)]
pub(crate) struct Tempered<'a> {
    pub cpu: Cpu,
    pub parameters: &'a CpuParameters,
    /// The visible bias of the model at β = 0, one row of tiles, and the precisions of its visible units.
    pub reference: &'a [Row],
    pub reference_precision: &'a [f32],
    pub betas: &'a [f32],
}

/// β = 1, the model itself, for every row of a group.
static BETA_ONE: [f32; MOST_ROWS] = [1.0; MOST_ROWS];

impl<'a> Tempered<'a> {
    /// The model itself (β = 1) for a group of rows.
    pub fn untempered(cpu: Cpu, parameters: &'a CpuParameters, rows: usize) -> Self {
        // At β = 1 the reference has no effect.
        Self { cpu, parameters, reference: &[], reference_precision: &[], betas: &BETA_ONE[..rows] }
    }

    /// A tile of the bias of the model at β = 0.
    #[inline(always)]
    pub fn reference_of(&self, layer: Layer, tile: usize) -> &'a Row {
        match layer {
            Layer::Visible => self.reference.get(tile).unwrap_or(&Row::ZERO),
            Layer::Hidden => &Row::ZERO,
        }
    }

    /// Computes the layer other than `given` from the inputs in `scratch`. `take` receives each tile's number, its number of
    /// vectors and the sums of its rows.
    pub fn sums(&self, given: Layer, scratch: &mut LayerScratch, mut take: impl FnMut(usize, usize, &mut [Row])) {
        let rows = self.betas.len();
        let units = self.parameters.shape.units(given.other());
        let LayerScratch { inputs, tile } = scratch;
        tile.resize(rows.max(tile.len()), Row::ZERO);
        inputs.multiply_weights(self.parameters, given);
        for number in 0..tiles(units) {
            let vectors = vectors(units, number);
            let made = &mut tile[..rows];
            inputs.sums(self.cpu.isa, self.parameters.strip(given, number), number, vectors, made);
            take(number, vectors, made);
        }
    }

    /// [`sums`](Self::sums), with pre-activations instead of sums.
    pub fn make(&self, given: Layer, scratch: &mut LayerScratch, mut take: impl FnMut(usize, usize, &mut [Row])) {
        self.sums(given, scratch, |tile, vectors, rows| {
            let reference = self.reference_of(given.other(), tile);
            let bias = &self.parameters.bias(given.other())[tile];
            layers::pre_activations(self.cpu.isa, rows, bias, reference, self.betas, vectors);
            take(tile, vectors, rows);
        });
    }

    /// [`make`](Self::make) from rows of real numbers.
    pub fn make_from_rows(
        &self, given: Layer, rows: Rows<'_>, scratch: &mut LayerScratch, take: impl FnMut(usize, usize, &mut [Row]),
    ) {
        self.take_rows(given, rows, scratch);
        self.make(given, scratch, take);
    }

    /// Loads rows of real numbers as inputs.
    pub fn take_rows(&self, given: Layer, rows: Rows<'_>, scratch: &mut LayerScratch) {
        let precision = match given {
            Layer::Visible => &self.parameters.precision[..],
            Layer::Hidden => &[],
        };
        scratch.inputs.take_rows(self.cpu, rows, self.parameters.skip(given), precision);
    }

    /// [`make`](Self::make) from packed bits.
    pub fn make_from_bits(
        &self, given: Layer, bits: &[u64], scratch: &mut LayerScratch, take: impl FnMut(usize, usize, &mut [Row]),
    ) {
        self.take_bits(given, bits, scratch);
        self.make(given, scratch, take);
    }

    /// Loads packed bits as inputs.
    pub fn take_bits(&self, given: Layer, bits: &[u64], scratch: &mut LayerScratch) {
        let (units, skip) = (self.parameters.shape.units(given), self.parameters.skip(given));
        scratch.inputs.take_bits(self.cpu, bits, units, skip);
    }
}
