//! Conditionals on the device: one layer from rows of the other.

use super::{
    Cuda,
    launch::{Buffer, Grid, Ptr},
    memory::{Batch, Parameters, count, rows_of, stride, strip, threads, unpack, words},
};
use crate::{
    backend::{Activations, Layer},
    error::Result,
    uniforms::Uniforms,
};

impl Cuda {
    pub(super) fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Batch<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        let stream = self.stream();
        let side = parameters.side(given);
        let (n, units) = (rows.rows, parameters.shape.units(given.other()));
        let turn = self.turn_to(rows, 0)?;
        let pre = Buffer::zeros(stream, n * stride(units))?;
        let mean = Buffer::zeros(stream, n * stride(units))?;
        let sample = Buffer::zeros(stream, n * words(units))?;
        let generator = draws.as_ref().map(|draws| Buffer::of(stream, &[draws.state()])).transpose()?;
        let state = generator.as_ref().map_or(Ptr::NULL, Buffer::ptr);
        let grid = Grid::new(count("rows", n)?, threads(side.made));
        let rows = rows_of(rows, &turn)?;
        self.run().propagate(stream, grid, side, rows, 0, Ptr::NULL, state, pre.ptr(), mean.ptr(), sample.ptr())?;
        strip(&pre.read(stream)?, units, &mut out.pre_activation);
        strip(&mean.read(stream)?, units, &mut out.mean);
        if let Some(draws) = draws {
            unpack(&sample.read(stream)?, units, &mut out.sample);
            draws.skip((n * units) as u64);
        }
        Ok(())
    }
}
