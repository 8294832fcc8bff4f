//! Both phases of an update on the device, and what is watched: captured once as a graph, then replayed.

use super::{
    Cuda,
    chains::{drawn, sweep_grid},
    launch,
    launch::{Buffer, Graph, Grid, Ptr},
    memory::{Batch, Captured, Chains, Parameters, Work, count, rows_of, stride, threads},
};
use crate::{
    backend::{Layer, Plan, Shape, Watch},
    error::Result,
};
use cudarc::driver::CudaStream;

/// What a graph freezes: as long as these are the same it can be replayed.
fn key(parameters: &Parameters, batch: Batch<'_>, chains: &Chains, plan: Plan, work: &Work) -> [u64; 20] {
    let watch = match plan.watch {
        Watch::Nothing => 0,
        Watch::Bit(_) => 1,
        Watch::AllBits => 2,
        Watch::Reconstruction => 3,
    };
    let (numbers, states) = (&parameters.numbers, &chains.states);
    [
        batch.rows as u64,
        u64::from(batch.eight_bit),
        chains.betas.len() as u64,
        plan.k as u64,
        u64::from(plan.persistent),
        watch,
        numbers.weights.ptr().address,
        numbers.transposed.ptr().address,
        numbers.visible_bias.ptr().address,
        numbers.hidden_bias.ptr().address,
        states.generator.ptr().address,
        states.betas.ptr().address,
        states.hidden.ptr().address,
        states.visible.ptr().address,
        states.visible_pre.ptr().address,
        states.hidden_mean.ptr().address,
        work.positive.ptr().address,
        work.pre.ptr().address,
        work.base.ptr().address,
        work.terms.ptr().address,
    ]
}

impl Cuda {
    pub(super) fn phases(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        let shape = parameters.shape;
        if !plan.persistent {
            chains.resize(self.stream(), batch.rows)?;
        }
        chains.states.own(self.stream())?;
        self.make_room(shape, batch.rows, plan.watch, work)?;
        let bit = if let Watch::Bit(bit) = plan.watch { bit } else { 0 };
        self.begin(&work.turn, batch, bit)?;
        let key = key(parameters, batch, chains, plan, work);
        let mut captured = match work.captured.take() {
            Some(captured) if captured.key == key => captured,
            _ => {
                let rows = rows_of(batch, &work.turn)?;
                let launches = |stream: &CudaStream| self.launch_phases(stream, parameters, rows, chains, plan, work);
                Captured { key, graph: Graph::record(&work.recorder, self.stream(), launches)? }
            }
        };
        captured.graph.launch()?;
        work.captured = Some(captured);
        let start = if plan.persistent { 0 } else { batch.rows as u64 * shape.n_hidden() as u64 };
        chains.uniforms.skip(start + drawn(shape, chains, plan.k));
        Ok(())
    }

    /// Room for a batch of so many rows, as far as there is not enough.
    pub(super) fn make_room(&self, shape: Shape, rows: usize, watch: Watch, work: &mut Work) -> Result<()> {
        let stream = self.stream();
        let (nv, nh) = (shape.n_visible(), shape.n_hidden());
        if work.rows < rows {
            work.positive = Buffer::zeros(stream, rows * stride(nh))?;
            work.values = Buffer::zeros(stream, rows)?;
            let address = work.positive.ptr().address;
            work.turn.0.write(stream, &[0, 0, address])?;
            work.rows = rows;
        }
        let (pre, base, terms) = match watch {
            Watch::AllBits => (rows * stride(nh), rows * stride(nh), rows * nv),
            Watch::Reconstruction => (rows * stride(nv), 1, 1),
            Watch::Bit(_) | Watch::Nothing => (1, 1, 1),
        };
        if work.pre.len() < pre {
            work.pre = Buffer::zeros(stream, pre)?;
        }
        if work.base.len() < base {
            work.base = Buffer::zeros(stream, base)?;
        }
        if work.terms.len() < terms {
            work.terms = Buffer::zeros(stream, terms)?;
        }
        Ok(())
    }

    /// The kernels of both phases, one after the other.
    fn launch_phases(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, chains: &Chains, plan: Plan,
        work: &Work,
    ) -> Result<()> {
        let run = self.run();
        let shape = parameters.shape;
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let (positive, values) = (work.positive.ptr(), work.values.ptr());
        let n = rows.rows;
        let generator = chains.states.generator.ptr();
        let by_row = Grid::new(n, threads(up.made));
        let sixteen_a_row = Grid::new(n.div_ceil(8), 128);
        let none = Ptr::NULL;
        match plan.persistent {
            true => run.propagate(stream, by_row, up, rows, 0, none, Ptr::NULL, none, positive, Ptr::NULL)?,
            false => {
                let hidden = chains.states.hidden.ptr();
                run.propagate(stream, by_row, up, rows, 0, none, generator, none, positive, hidden)?;
            }
        }
        match plan.watch {
            Watch::Bit(_) => {
                run.pseudo_likelihood_of_bit(stream, by_row, up, rows, down.bias, work.turn.bit(), values)?;
            }
            Watch::AllBits => {
                let (pre, base, terms) = (work.pre.ptr(), work.base.ptr(), work.terms.ptr());
                self.launch_all_bits(stream, up, rows, down.bias, [pre, base], terms, values)?;
            }
            Watch::Reconstruction if plan.persistent => {
                let means = launch::Rows { place: work.turn.means(), stride: up.stride, eight_bit: 0, ..rows };
                let by_row = Grid::new(n, threads(down.made));
                run.propagate(stream, by_row, down, means, 0, none, Ptr::NULL, work.pre.ptr(), none, Ptr::NULL)?;
                run.cross_entropy(stream, sixteen_a_row, rows, down.made, work.pre.ptr(), down.stride, values)?;
            }
            Watch::Reconstruction | Watch::Nothing => {}
        }
        let first = if plan.persistent { 0 } else { u64::from(n) * u64::from(up.made) };
        let grid = sweep_grid(shape, chains)?;
        run.sweep(stream, grid, down, up, chains.arguments(), generator, first, count("k", plan.k)?)?;
        if plan.watch == Watch::Reconstruction && !plan.persistent {
            let pre = chains.states.visible_pre.ptr();
            run.cross_entropy(stream, sixteen_a_row, rows, down.made, pre, down.stride, values)?;
        }
        let watched = if plan.watch == Watch::Nothing { 0 } else { n };
        let drawn = first + drawn(shape, chains, plan.k);
        run.finish(stream, Grid::new(1, 1), generator, drawn, values, watched, work.watched.ptr())
    }
}
