//! Both phases of an update on the device, and what is watched: captured once as a graph, then replayed.

use super::{
    Cuda,
    chains::drawn,
    launch,
    launch::{Buffer, Graph, Grid, Ptr, Side},
    memory::{Batch, Captured, Chains, Parameters, Work, rows_of, sixteen_a_row, stride, threads},
};
use crate::{
    backend::{Layer, Plan, Shape, Watch},
    error::Result,
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// The road in a graph's key; the gemm road has other numbers.
const CANONICAL: u64 = 0;

/// What a graph freezes: as long as these are the same it can be replayed.
pub(super) fn key(
    parameters: &Parameters, batch: Batch<'_>, chains: &Chains, plan: Plan, work: &Work, road: u64,
) -> [u64; 24] {
    let watch = match plan.watch {
        Watch::Nothing => 0,
        Watch::Bit(_) => 1,
        Watch::AllBits => 2,
        Watch::Reconstruction => 3,
    };
    let (numbers, states) = (&parameters.numbers, &chains.states);
    let [visible, hidden] =
        states.numbers.as_ref().map_or([0, 0], |numbers| [0, 1].map(|layer| numbers[layer].ptr().address));
    [
        road,
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
        work.means.ptr().address,
        work.terms.ptr().address,
        work.numbers[0].ptr().address,
        visible,
        hidden,
    ]
}

impl Cuda {
    pub(super) fn phases(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        self.prepare(parameters.shape, batch, chains, plan, work)?;
        let rows = rows_of(batch, &work.turn)?;
        let key = key(parameters, batch, chains, plan, work, CANONICAL);
        let captured = work.captured.take();
        let launches = |stream: &CudaStream| self.launch_phases(stream, parameters, rows, chains, plan, work);
        let captured = self.replay(captured, key, &work.recorder, true, launches)?;
        work.captured = Some(captured);
        self.skip_phases(batch, chains, plan);
        Ok(())
    }

    /// Room for both phases, and the kernels pointed at the batch.
    pub(super) fn prepare(
        &self, shape: Shape, batch: Batch<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        if !plan.persistent {
            chains.resize(self.stream(), batch.rows)?;
        }
        chains.states.own(self.stream())?;
        self.make_room(shape, batch.rows, plan.watch, work)?;
        let bit = if let Watch::Bit(bit) = plan.watch { bit } else { 0 };
        self.begin(&work.turn, batch, bit)
    }

    /// Repeats what was captured if it is for this key, and else captures it anew; `at_once`, or where the launches
    /// were made once as they are: a library may load its kernels when they are first launched.
    pub(super) fn replay(
        &self, captured: Option<Captured>, key: [u64; 24], recorder: &Arc<CudaStream>, at_once: bool,
        launches: impl FnOnce(&CudaStream) -> Result<()>,
    ) -> Result<Captured> {
        let mut captured = match captured {
            Some(captured) if captured.key == key => captured,
            _ if at_once => Captured { key, graph: None },
            _ => {
                launches(self.stream())?;
                return Ok(Captured { key, graph: None });
            }
        };
        let graph = match captured.graph.take() {
            Some(graph) => graph,
            None => Graph::record(recorder, self.stream(), launches)?,
        };
        captured.graph.insert(graph).launch()?;
        Ok(captured)
    }

    /// Moves the sequence on as the device's generator was.
    pub(super) fn skip_phases(&self, batch: Batch<'_>, chains: &mut Chains, plan: Plan) {
        let start = if plan.persistent { 0 } else { batch.rows as u64 * chains.shape.n_hidden() as u64 };
        chains.uniforms.skip(start + drawn(chains.shape, chains, plan.k));
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
        let (pre, means, terms) = match watch {
            Watch::AllBits => (rows * stride(nh), 2 * rows * stride(nh), rows * nv),
            Watch::Reconstruction => (rows * stride(nv), 1, 1),
            Watch::Bit(_) | Watch::Nothing => (1, 1, 1),
        };
        if work.pre.len() < pre {
            work.pre = Buffer::zeros(stream, pre)?;
        }
        if work.means.len() < means {
            work.means = Buffer::zeros(stream, means)?;
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
        self.launch_positive(stream, parameters, rows, chains, plan, work)?;
        self.launch_watch(stream, parameters, rows, plan, work)?;
        self.launch_sweep(stream, parameters, chains, self.first_draw(parameters, rows, plan), plan.k)?;
        self.launch_end(stream, parameters, rows, chains, plan, work)
    }

    /// How many numbers the start of the chains draws before their sweep.
    pub(super) fn first_draw(&self, parameters: &Parameters, rows: launch::Rows, plan: Plan) -> u64 {
        if plan.persistent { 0 } else { u64::from(rows.rows) * parameters.shape.n_hidden() as u64 }
    }

    /// The hidden means of the batch, and the start of chains that do not persist.
    pub(super) fn launch_positive(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, chains: &Chains, plan: Plan,
        work: &Work,
    ) -> Result<()> {
        let (run, up, none) = (self.run(), parameters.side(Layer::Visible), Ptr::NULL);
        let (by_row, positive) = (Grid::new(rows.rows, threads(up.made)), work.positive.ptr());
        match plan.persistent {
            true => run.propagate(stream, by_row, up, rows, 0, none, Ptr::NULL, none, positive, Ptr::NULL),
            false => {
                let (generator, hidden) = (chains.states.generator.ptr(), chains.states.hidden.ptr());
                run.propagate(stream, by_row, up, rows, 0, none, generator, none, positive, hidden)
            }
        }
    }

    /// What is watched before the chains move.
    pub(super) fn launch_watch(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, plan: Plan, work: &Work,
    ) -> Result<()> {
        let (run, none, values, n) = (self.run(), Ptr::NULL, work.values.ptr(), rows.rows);
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        match plan.watch {
            Watch::Bit(_) => {
                let by_row = Grid::new(n, threads(up.made));
                run.pseudo_likelihood_of_bit(stream, by_row, up, rows, down.bias, work.turn.bit(), values)?;
            }
            Watch::AllBits => {
                let (pre, means, terms) = (work.pre.ptr(), work.means.ptr(), work.terms.ptr());
                self.launch_all_bits(stream, up, rows, down.bias, [pre, means], terms, values)?;
            }
            Watch::Reconstruction if plan.persistent => {
                let means = launch::Rows { place: work.turn.means(), stride: up.stride, eight_bit: 0, ..rows };
                let by_row = Grid::new(n, threads(down.made));
                run.propagate(stream, by_row, down, means, 0, none, Ptr::NULL, work.pre.ptr(), none, Ptr::NULL)?;
                self.launch_cross_entropy(stream, down, rows, work.pre.ptr(), work)?;
            }
            Watch::Reconstruction | Watch::Nothing => {}
        }
        Ok(())
    }

    pub(super) fn launch_cross_entropy(
        &self, stream: &CudaStream, down: Side, rows: launch::Rows, pre: Ptr<f32>, work: &Work,
    ) -> Result<()> {
        let (grid, values) = (sixteen_a_row(rows.rows), work.values.ptr());
        self.run().cross_entropy(stream, grid, rows, down.made, pre, down.stride, values)
    }

    /// What is watched of the chains' ends, and all sums and places moved on.
    pub(super) fn launch_end(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, chains: &Chains, plan: Plan,
        work: &Work,
    ) -> Result<()> {
        if plan.watch == Watch::Reconstruction && !plan.persistent {
            let down = parameters.side(Layer::Hidden);
            self.launch_cross_entropy(stream, down, rows, chains.states.visible_pre.ptr(), work)?;
        }
        let watched = if plan.watch == Watch::Nothing { 0 } else { rows.rows };
        let drawn = self.first_draw(parameters, rows, plan) + drawn(parameters.shape, chains, plan.k);
        let (generator, values, sum) = (chains.states.generator.ptr(), work.values.ptr(), work.watched.ptr());
        self.run().finish(stream, Grid::new(1, 1), generator, drawn, values, watched, sum)
    }
}
