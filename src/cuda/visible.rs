//! Visible layers of several laws: first all sums of a layer, as for any layer, and then one kernel for all laws.
//!
//! Visible states of these models are numbers in device memory: v, and x = s·v, which hidden layers read. Without Gaussian
//! units the two are the same memory. On the way down the hidden layer's bits become numbers. Binary models need none of this.

use super::{
    arguments::{LawsArgument, ParametersArgument, RowsArgument, SideArgument},
    buffer::{Buffer, Ptr},
    data::Batch,
    handle::Cuda,
    launch::Grid,
    layers::{Given, Outcome},
    memory::{CudaChains, CudaParameters, Numbers},
    sizes::{block_of_rows, count, sixteen_a_row, stride, warp_a_row},
    work::Scratch,
};
use crate::{
    elementary::exp,
    error::Result,
    rbm::{Gradient, RbmRef},
    shape::{Layer, Shape},
    units::{Segment, Segments},
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// The laws of the visible units, if not all of them are binary.
#[derive(Debug)]
pub(super) struct Laws {
    /// `Segment` of kernels/visible.cu, one for each.
    segments: Buffer<u32>,
    /// s of each unit; empty without Gaussian units.
    precision: Buffer<f32>,
    /// ln σ² of all units; empty without Gaussian units.
    pub log_variance: Vec<f32>,
    count: u32,
    sites: u32,
}

impl Laws {
    /// The laws alone, without precisions.
    pub fn new(stream: &Arc<CudaStream>, segments: Segments) -> Result<Self> {
        let mut table = Vec::new();
        for (segment, units) in segments.iter() {
            let law = match segment {
                Segment::Binary(_) => 0,
                Segment::Potts { .. } => 1,
                Segment::Gaussian(_) => 2,
            };
            table.push(law);
            for n in [units.start, segment.sites(), segment.states()] {
                table.push(count("units", n)?);
            }
        }
        Ok(Self {
            segments: Buffer::of(stream, &table)?,
            precision: Buffer::EMPTY,
            log_variance: Vec::new(),
            count: table.len() as u32 / 4,
            sites: count("sites", segments.sites())?,
        })
    }

    /// The laws of a model, or none if all its visible units are binary.
    pub fn of(stream: &Arc<CudaStream>, rbm: RbmRef<'_>) -> Result<Option<Arc<Self>>> {
        let visible = rbm.shape().visible();
        if visible.is_binary() {
            return Ok(None);
        }
        let mut new = Self::new(stream, visible)?;
        if !visible.is_discrete() {
            new.precision = Buffer::of(stream, &rbm.precision())?;
            new.log_variance = rbm.visible_log_variance().to_vec();
            new.log_variance.resize(rbm.shape().n_visible(), 0.0);
        }
        Ok(Some(Arc::new(new)))
    }

    pub fn argument(&self) -> LawsArgument {
        LawsArgument {
            segments: self.segments.ptr(),
            precision: self.precision.ptr(),
            reference_precision: Ptr::NULL,
            count: self.count,
            sites: self.sites,
        }
    }
}

/// Memory for rows of x = s·v, and its address; empty without Gaussian units.
#[derive(Debug)]
pub(super) struct Scaled {
    pub numbers: Buffer<f32>,
    pub place: Buffer<u64>,
}

impl Scaled {
    pub const EMPTY: Self = Self { numbers: Buffer::EMPTY, place: Buffer::EMPTY };

    /// Grows the memory for `rows` rows.
    pub fn grow(&mut self, stream: &Arc<CudaStream>, shape: Shape, rows: usize) -> Result<()> {
        if !shape.visible().is_discrete() && self.numbers.grow(stream, rows * stride(shape.n_visible()))? {
            self.place = Buffer::of(stream, &[self.numbers.ptr().address])?;
        }
        Ok(())
    }

    /// The rows as hidden layers read them: the scaled ones, or `rows` without Gaussian units.
    pub fn argument(&self, rows: RowsArgument) -> RowsArgument {
        if self.place.len() == 0 {
            return rows;
        }
        RowsArgument { place: self.place.ptr(), stride: stride(rows.stride as usize) as u32, eight_bit: 0, ..rows }
    }
}

impl Cuda {
    /// Scales rows of visible states if there are Gaussian units, into memory that was allocated before.
    pub(super) fn scale(
        &self, stream: &CudaStream, parameters: &CudaParameters, rows: RowsArgument, scaled: &Scaled,
    ) -> Result<RowsArgument> {
        let to = scaled.argument(rows);
        if let Some(laws) = parameters.laws.as_ref().filter(|laws| laws.precision.len() > 0) {
            let (grid, precision) = (block_of_rows(rows.stride, rows.rows, 1)?, laws.precision.ptr());
            self.run().scaled_rows(stream, grid, rows, rows.stride, precision, scaled.numbers.ptr(), to.stride)?;
        }
        Ok(to)
    }

    /// The same in new memory, for the rows of one call.
    pub(super) fn scaled(
        &self, parameters: &CudaParameters, batch: Batch<'_>, rows: RowsArgument,
    ) -> Result<(Scaled, RowsArgument)> {
        let mut scaled = Scaled::EMPTY;
        scaled.grow(self.stream(), parameters.shape, batch.len())?;
        let rows = self.scale(self.stream(), parameters, rows, &scaled)?;
        Ok((scaled, rows))
    }

    /// The visible layer of `rows` rows, from its sums. Its results may overwrite them.
    pub(super) fn activate_visible(
        &self, stream: &CudaStream, down: SideArgument, laws: LawsArgument, rows: u32, sums: Ptr<f32>, to: Outcome,
    ) -> Result<()> {
        let Outcome { betas, beta_step, generator, first, pre, means, states, scaled, .. } = to;
        let (run, grid) = (self.run(), block_of_rows(laws.sites, rows, 1)?);
        run.visible_layer(
            stream, grid, down, laws, sums, betas, beta_step, generator, first, pre, means, states, scaled,
        )
    }

    /// The log probability of rows of visible states given these pre-activations, into `values`.
    pub(super) fn reconstruct(
        &self, stream: &CudaStream, laws: LawsArgument, rows: RowsArgument, pre: Ptr<f32>, values: Ptr<f64>,
    ) -> Result<()> {
        let (grid, width) = (warp_a_row(rows.rows), stride(rows.stride as usize) as u32);
        self.run().reconstruction(stream, grid, rows, laws, pre, width, values)
    }

    /// Sets ln σ² and the precisions.
    pub(super) fn set_log_variance(&self, parameters: &mut CudaParameters, log_variance: Vec<f32>) -> Result<()> {
        let (stream, visible) = (self.stream(), parameters.shape.visible());
        let Some(laws) = &mut parameters.laws else { return Ok(()) };
        // Copies of the parameters keep their values.
        if Arc::get_mut(laws).is_none() {
            let precision = laws.precision.copy(stream)?;
            *laws = Arc::new(Laws { precision, ..Laws::new(stream, visible)? });
        }
        if let Some(laws) = Arc::get_mut(laws) {
            let precision: Vec<f32> = log_variance.iter().map(|&log| exp(-log)).collect();
            laws.precision.write(stream, &precision)?;
            laws.log_variance = log_variance;
        }
        Ok(())
    }

    /// The gradient of ln σ² for an update, from that of the weights.
    pub(super) fn variance_gradients(
        &self, parameters: &CudaParameters, rows: RowsArgument, chains: &CudaChains, gradient: &Numbers,
        out: &mut Gradient,
    ) -> Result<()> {
        out.visible_log_variance.fill(0.0);
        let Some(laws) = parameters.laws.as_ref().filter(|laws| laws.precision.len() > 0) else { return Ok(()) };
        let (stream, shape) = (self.stream(), parameters.shape);
        let [of, to]: [ParametersArgument; 2] = [&parameters.numbers, gradient].map(|numbers| numbers.argument(shape));
        let log_variance = Buffer::zeros(stream, shape.n_visible())?;
        let grid = block_of_rows(of.n_visible, 1, 1)?;
        let (of_rows, of_chains) = (1.0 / rows.rows as f32, -1.0 / chains.len() as f32);
        let (ends, width) = (chains.states.values.ptr(), stride(shape.n_visible()) as u32);
        let n = count("chains", chains.len())?;
        self.run().variance_gradients(
            stream,
            grid,
            rows,
            of_rows,
            ends,
            width,
            n,
            of_chains,
            laws.argument(),
            of,
            to,
            log_variance.ptr(),
        )?;
        out.visible_log_variance.copy_from_slice(&log_variance.read(stream)?);
        Ok(())
    }

    /// Adds the Gaussian units' own energies to a gradient of free energies of these rows, whose weights are in `gradient`.
    pub(super) fn own_gradients(
        &self, parameters: &CudaParameters, rows: RowsArgument, row_weights: Ptr<f32>, gradient: &Numbers,
        out: &mut Gradient,
    ) -> Result<()> {
        let (stream, shape) = (self.stream(), parameters.shape);
        out.visible_log_variance.fill(0.0);
        let Some(laws) = parameters.laws.as_ref().filter(|laws| laws.precision.len() > 0) else { return Ok(()) };
        let [of, to]: [ParametersArgument; 2] = [&parameters.numbers, gradient].map(|numbers| numbers.argument(shape));
        let log_variance = Buffer::zeros(stream, shape.n_visible())?;
        let grid = block_of_rows(of.n_visible, 1, 1)?;
        self.run().own_gradients(stream, grid, rows, laws.argument(), row_weights, of, to, log_variance.ptr())?;
        let (log_variance, bias) = (log_variance.read(stream)?, gradient.visible_bias.read(stream)?);
        for (segment, units) in shape.visible().iter() {
            if segment.is_number() {
                out.visible_log_variance[units.clone()].copy_from_slice(&log_variance[units.clone()]);
                out.visible_bias[units.clone()].copy_from_slice(&bias[units]);
            }
        }
        Ok(())
    }

    /// The pseudo-likelihood of each row: of all variables, or the number of variables times the term of one. `given` are
    /// rounded rows and `pre` their hidden pre-activations.
    pub(super) fn pseudo_likelihood_by_laws(
        &self, stream: &CudaStream, parameters: &CudaParameters, laws: LawsArgument, given: Given,
        site: Option<Ptr<u32>>, scratch: &Scratch,
    ) -> Result<()> {
        /// With sixteen threads each.
        const UNITS: u32 = 16;
        let (run, rows, terms) = (self.run(), given.rows, scratch.terms.ptr());
        let (up, bias) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden).bias);
        let grid = Grid { slices: up.given.div_ceil(UNITS).min(1024), ..Grid::new(rows.rows, 16 * UNITS) };
        let (place, pre) = (site.unwrap_or(Ptr::NULL), scratch.pre.ptr());
        run.pseudo_likelihood_of_states(stream, grid, up, rows, laws, bias, place, pre, terms)?;
        let grid = warp_a_row(rows.rows);
        run.pseudo_likelihood_of_sites(stream, grid, rows, laws, place, terms, up.given, scratch.values.ptr())
    }

    /// Subtracts the visible units' own energies from the hidden units' terms of free energies in `values`.
    pub(super) fn own_energies(
        &self, stream: &CudaStream, laws: LawsArgument, rows: RowsArgument, bias: Ptr<f32>, values: Ptr<f64>,
    ) -> Result<()> {
        self.run().own_energies(stream, sixteen_a_row(rows.rows), rows, laws, rows.stride, bias, values)
    }
}
