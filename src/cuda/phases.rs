//! Both phases of an update on the device, and the monitor: captured once as a graph, then repeated.

use super::{
    arguments::{LawsArgument, RowsArgument},
    blas::Blas,
    buffer::Ptr,
    data::Batch,
    failure::failed,
    handle::Cuda,
    launch::{Graph, Grid},
    layers::{Given, Outcome},
    memory::{CudaChains, CudaParameters, Kept},
    sizes::sixteen_a_row,
    work::{Captured, CudaWork},
};
use crate::{
    error::Result,
    shape::Layer,
    verbs::{self, Plan, Watch},
};
use cudarc::driver::CudaStream;

impl verbs::Contrasting for Cuda {
    fn phases(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &mut CudaChains, work: &mut CudaWork, plan: Plan,
    ) -> Result<()> {
        self.allocate_for_phases(parameters, batch, chains, work, plan)?;
        let (stream, captured) = (self.stream(), work.captured.take());
        let phases = self.both_phases(parameters, batch, chains, work, plan)?;
        let (of_rows, of_chains) = (phases.of_rows, phases.of_chains);
        let (key, drawn) = (phases.key(), phases.drawn());
        let graph = match captured.filter(|captured| captured.key == key) {
            Some(Captured { graph: Some(graph), .. }) => Some(graph),
            // cuBLAS loads a kernel at its first use, which may not be during a capture.
            None if of_rows.is_some() || of_chains.is_some() => None,
            _ => Some(Graph::record(&work.recorder, stream, |recorder| phases.launch_branches(recorder))?),
        };
        let graph = match graph {
            Some(mut graph) => graph.launch().map(|()| Some(graph))?,
            None => phases.launch(stream).map(|()| None)?,
        };
        work.captured = Some(Captured { key, graph });
        chains.uniforms.skip(drawn);
        Ok(())
    }

    fn watched(&self, work: &CudaWork) -> Result<f64> {
        Ok(work.watched.read(self.stream())?.first().copied().unwrap_or(0.0))
    }

    fn watch_from(&self, work: &mut CudaWork, sum: f64) -> Result<()> {
        if sum == 0.0 { work.watched.clear(self.stream()) } else { work.watched.write(self.stream(), &[sum]) }
    }
}

impl Cuda {
    fn allocate_for_phases(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &mut CudaChains, work: &mut CudaWork, plan: Plan,
    ) -> Result<()> {
        if !plan.persistent {
            chains.resize(self.stream(), batch.len())?;
        }
        work.begin(parameters.shape, batch, plan.watch, self.blas_for_rows(batch.len()).is_some())?;
        let keeps = batch.has_missing() || chains.held.is_some();
        chains.own(self.stream(), self.blas_for_chains().is_some() || keeps || self.is_shared())?;
        self.grow_grid(chains, plan.k)
    }

    fn both_phases<'a>(
        &'a self, parameters: &'a CudaParameters, batch: Batch<'a>, chains: &'a CudaChains, work: &'a CudaWork,
        plan: Plan,
    ) -> Result<BothPhases<'a>> {
        let rows = batch.argument(&work.cursor)?;
        let kept = if batch.has_missing() { Some(Kept { batch, rows, left_out: true }) } else { chains.kept()? };
        let (of_rows, of_chains) = (self.blas_for_rows(batch.len()), self.blas_for_chains());
        Ok(BothPhases { cuda: self, parameters, rows, chains, kept, plan, work, of_rows, of_chains })
    }

    /// The phases if this process moves a share of the chains. `exchange` gathers the results of all ranks, before the monitor's
    /// terms are added up. There is no graph, because the exchange interrupts the kernels.
    #[cfg(feature = "mpi")]
    pub(super) fn phases_of_share(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &mut CudaChains, work: &mut CudaWork, plan: Plan,
        exchange: impl FnOnce(&mut CudaChains, &mut CudaWork) -> Result<()>,
    ) -> Result<()> {
        self.allocate_for_phases(parameters, batch, chains, work, plan)?;
        let (stream, phases) = (self.stream(), self.both_phases(parameters, batch, chains, work, plan)?);
        phases.positive(stream)?;
        phases.watch_start(stream)?;
        phases.sweep(stream)?;
        phases.watch_end(stream)?;
        exchange(chains, work)?;
        let phases = self.both_phases(parameters, batch, chains, work, plan)?;
        let drawn = phases.drawn();
        phases.finish(stream)?;
        chains.uniforms.skip(drawn);
        Ok(())
    }
}

/// Both phases of one update, to be launched.
#[derive(Clone, Copy)]
struct BothPhases<'a> {
    cuda: &'a Cuda,
    parameters: &'a CudaParameters,
    rows: RowsArgument,
    chains: &'a CudaChains,
    /// The values that the chains keep: if values of the batch are missing, their zeros.
    kept: Option<Kept<'a>>,
    plan: Plan,
    work: &'a CudaWork,
    /// cuBLAS, if it computes the sums of the batch's rows, and those of the chains.
    of_rows: Option<&'a Blas>,
    of_chains: Option<&'a Blas>,
}

impl BothPhases<'_> {
    /// The values that a graph captures: as long as they do not change, the graph can be repeated.
    fn key(&self) -> [u64; 35] {
        let Self { rows, plan, work, .. } = self;
        let (numbers, states, scratch) = (&self.parameters.numbers, &self.chains.states, &work.scratch);
        let watch = match plan.watch {
            Watch::Nothing => 0,
            Watch::Site(_) => 1,
            Watch::AllSites => 2,
            Watch::Reconstruction => 3,
        };
        [
            u64::from(self.of_rows.is_some()),
            u64::from(self.of_chains.is_some()),
            u64::from(rows.rows),
            u64::from(rows.eight_bit),
            rows.missing.address,
            self.kept.map_or(0, |kept| kept.rows.place.address),
            self.chains.len() as u64,
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
            states.numbers[0].ptr().address,
            states.numbers[1].ptr().address,
            states.values.ptr().address,
            states.places.ptr().address,
            states.grid.ptr().address,
            self.laws().map_or(0, |laws| laws.segments.address),
            self.laws().map_or(0, |laws| laws.precision.address),
            work.scaled.numbers.ptr().address,
            work.scaled.place.ptr().address,
            work.positive.ptr().address,
            work.numbers[0].ptr().address,
            scratch.values.ptr().address,
            scratch.pre.ptr().address,
            scratch.means.ptr().address,
            scratch.terms.ptr().address,
        ]
    }

    fn laws(&self) -> Option<LawsArgument> {
        self.parameters.laws.as_ref().map(|laws| laws.argument())
    }

    /// The number of random numbers that the start of the chains draws before their sweep.
    fn first_draw(&self) -> u64 {
        if self.plan.persistent { 0 } else { u64::from(self.rows.rows) * self.parameters.shape.n_hidden() as u64 }
    }

    /// The number of all random numbers that are drawn.
    fn drawn(&self) -> u64 {
        self.first_draw() + self.chains.drawn(self.plan.k)
    }

    /// Launches the kernels, one after the other.
    fn launch(&self, stream: &CudaStream) -> Result<()> {
        self.positive(stream)?;
        self.watch_start(stream)?;
        self.sweep(stream)?;
        self.watch_end(stream)?;
        self.finish(stream)
    }

    /// Launches the kernels in two branches, those that read the batch in parallel with the sweep: few chains leave most of the
    /// device free. Products stay sequential, since they share a workspace.
    fn launch_branches(&self, stream: &CudaStream) -> Result<()> {
        if self.of_rows.is_some() && self.of_chains.is_some() {
            return self.launch(stream);
        }
        let branch = &self.work.branch;
        let starts = !self.plan.persistent;
        if starts {
            self.positive(stream)?;
        }
        branch.join(stream).map_err(failed("cuStreamWaitEvent"))?;
        let read_batch = || {
            if !starts {
                self.positive(branch)?;
            }
            self.watch_start(branch)
        };
        let launched = read_batch().and_then(|()| self.sweep(stream));
        // In any case: a branch that does not join invalidates the capture, and stays in capture mode itself.
        stream.join(branch).map_err(failed("cuStreamWaitEvent"))?;
        launched.and_then(|()| self.watch_end(stream)).and_then(|()| self.finish(stream))
    }

    /// The chains' k steps.
    fn sweep(&self, stream: &CudaStream) -> Result<()> {
        let Self { cuda, parameters, chains, kept, plan, of_chains, .. } = *self;
        cuda.launch_sweep(stream, of_chains, parameters, chains, kept, self.first_draw(), plan.k)
    }

    fn given(&self) -> Given {
        Given::new(self.rows, &self.work.numbers[0])
    }

    /// The hidden means of the batch, and the start of chains that are not persistent.
    fn positive(&self, stream: &CudaStream) -> Result<()> {
        let mut to = Outcome { means: self.work.positive.ptr(), ..Outcome::NOTHING };
        if !self.plan.persistent {
            to.generator = self.chains.states.generator.ptr();
            to.bits = self.chains.states.hidden.ptr().cast();
        }
        let rows = self.cuda.scale(stream, self.parameters, self.rows, &self.work.scaled)?;
        let given = Given { rows, ..self.given() };
        self.cuda.compute_layer(stream, self.of_rows, self.parameters.side(Layer::Visible), given, to)
    }

    /// The monitor's part before the chains move.
    fn watch_start(&self, stream: &CudaStream) -> Result<()> {
        let Self { cuda, parameters, work, of_rows, .. } = *self;
        match self.plan.watch {
            Watch::Site(_) | Watch::AllSites => {
                let bit = matches!(self.plan.watch, Watch::Site(_)).then(|| work.cursor.bit());
                cuda.launch_pseudo_likelihood(stream, of_rows, parameters, self.given(), bit, &work.scratch)
            }
            Watch::Reconstruction if self.plan.persistent => {
                let (up, pre) = (parameters.side(Layer::Visible), work.scratch.pre.ptr());
                let (place, missing) = (work.cursor.means(), Ptr::NULL);
                let rows = RowsArgument { place, missing, stride: up.stride, eight_bit: 0, ..self.rows };
                let means = Given { ready: true, ..Given::new(rows, &work.positive) };
                let (down, to) = (parameters.side(Layer::Hidden), Outcome { pre, ..Outcome::NOTHING });
                match self.laws() {
                    None => cuda.compute_layer(stream, of_rows, down, means, to)?,
                    Some(laws) => {
                        cuda.compute_sums(stream, of_rows, down, means, pre)?;
                        cuda.activate_visible(stream, down, laws, rows.rows, pre, to)?;
                    }
                }
                self.reconstruction(stream, pre)
            }
            Watch::Reconstruction | Watch::Nothing => Ok(()),
        }
    }

    /// The monitor's part after the chains have moved.
    fn watch_end(&self, stream: &CudaStream) -> Result<()> {
        if self.plan.watch == Watch::Reconstruction && !self.plan.persistent {
            self.reconstruction(stream, self.chains.states.visible_pre.ptr())?;
        }
        Ok(())
    }

    /// Advances the generator and the sum of the monitor.
    fn finish(&self, stream: &CudaStream) -> Result<()> {
        let (states, work) = (&self.chains.states, self.work);
        let rows = if self.plan.watch == Watch::Nothing { 0 } else { self.rows.rows };
        let (generator, values, watched) = (states.generator.ptr(), work.scratch.values.ptr(), work.watched.ptr());
        self.cuda.run().finish(stream, Grid::new(1, 32), generator, self.drawn(), values, rows, watched)
    }

    fn reconstruction(&self, stream: &CudaStream, pre: Ptr<f32>) -> Result<()> {
        let (rows, down) = (self.rows, self.parameters.side(Layer::Hidden));
        let (run, values) = (self.cuda.run(), self.work.scratch.values.ptr());
        if let Some(laws) = self.laws() {
            return self.cuda.reconstruct(stream, laws, rows, pre, values);
        }
        run.cross_entropy(stream, sixteen_a_row(rows.rows), rows, down.made, pre, down.stride, values)
    }
}
