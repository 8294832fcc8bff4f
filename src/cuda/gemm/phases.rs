//! Both phases of an update by products, as far as they are worth it, and what is watched.

use super::{CudaGemm, LEAST_CHAINS, LEAST_ROWS, layers::Outcome};
use crate::{
    backend::{Layer, Plan, Watch},
    cuda::{
        launch::{self, Buffer, Ptr},
        memory::{Batch, Chains, Parameters, Work, rows_of, stride},
        phases::key,
    },
    error::Result,
};
use cudarc::driver::CudaStream;

/// Which part of the phases is made by products.
#[derive(Clone, Copy)]
struct Worth {
    rows: bool,
    chains: bool,
}

impl CudaGemm {
    pub(super) fn phases(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        let n_chains = if plan.persistent { chains.betas.len() } else { batch.rows };
        let worth =
            Worth { rows: self.is_worth(batch.rows, LEAST_ROWS), chains: self.is_worth(n_chains, LEAST_CHAINS) };
        if !worth.rows && !worth.chains {
            return self.cuda.phases(parameters, batch, chains, plan, work);
        }
        let shape = parameters.shape;
        self.cuda.prepare(shape, batch, chains, plan, work)?;
        if worth.rows {
            self.make_numbers(shape, batch.rows, 0, work)?;
            let sums = batch.rows * stride(shape.n_hidden());
            if plan.watch != Watch::Nothing && work.pre.len() < sums {
                work.pre = Buffer::zeros(self.cuda.stream(), sums)?;
            }
        }
        if worth.chains {
            self.make_states(chains)?;
        }
        let rows = rows_of(batch, &work.turn)?;
        let road = 1 + u64::from(worth.rows) + 2 * u64::from(worth.chains) + 4 * u64::from(self.tf32);
        let key = key(parameters, batch, chains, plan, work, road);
        let captured = work.captured.take();
        let launches = |stream: &CudaStream| self.launch_phases(stream, parameters, rows, chains, plan, work, worth);
        // Not at once: cuBLAS loads a kernel when it is needed first, which may not be while launches are captured.
        let captured = self.cuda.replay(captured, key, &work.recorder, false, launches)?;
        work.captured = Some(captured);
        self.cuda.skip_phases(batch, chains, plan);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn launch_phases(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, chains: &Chains, plan: Plan,
        work: &Work, worth: Worth,
    ) -> Result<()> {
        if worth.rows {
            self.launch_positive(stream, parameters, rows, chains, plan, work)?;
            self.launch_watch(stream, parameters, rows, plan, work)?;
        } else {
            self.cuda.launch_positive(stream, parameters, rows, chains, plan, work)?;
            self.cuda.launch_watch(stream, parameters, rows, plan, work)?;
        }
        let first = self.cuda.first_draw(parameters, rows, plan);
        if worth.chains {
            self.launch_sweep(stream, parameters, chains, first, plan.k)?;
        } else {
            self.cuda.launch_sweep(stream, parameters, chains, first, plan.k)?;
        }
        self.cuda.launch_end(stream, parameters, rows, chains, plan, work)
    }

    /// The hidden means of the batch, and the start of chains that do not persist.
    fn launch_positive(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, chains: &Chains, plan: Plan,
        work: &Work,
    ) -> Result<()> {
        let (up, numbers, means) = (parameters.side(Layer::Visible), work.numbers[0].ptr(), work.positive.ptr());
        self.numbers_of_rows(stream, rows, false, Ptr::NULL, numbers)?;
        self.sums(stream, up, numbers, rows.rows, means)?;
        let mut outcome = Outcome { means, ..Outcome::NOTHING };
        if !plan.persistent {
            outcome.generator = chains.states.generator.ptr();
            outcome.bits = chains.states.hidden.ptr();
        }
        self.finish_layer(stream, up, rows.rows, means, outcome)
    }

    /// What is watched before the chains move.
    fn launch_watch(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, plan: Plan, work: &Work,
    ) -> Result<()> {
        let (numbers, pre, values) = (work.numbers[0].ptr(), work.pre.ptr(), work.values.ptr());
        match plan.watch {
            Watch::Bit(_) => self.launch_bit(stream, parameters, rows, work.turn.bit(), numbers, pre, values),
            Watch::AllBits => {
                let scratch = [pre, work.means.ptr()];
                self.launch_all_bits(stream, parameters, rows, numbers, scratch, work.terms.ptr(), values)
            }
            Watch::Reconstruction if plan.persistent => {
                let down = parameters.side(Layer::Hidden);
                self.sums(stream, down, work.positive.ptr(), rows.rows, pre)?;
                self.finish_layer(stream, down, rows.rows, pre, Outcome { pre, ..Outcome::NOTHING })?;
                self.cuda.launch_cross_entropy(stream, down, rows, pre, work)
            }
            Watch::Reconstruction | Watch::Nothing => Ok(()),
        }
    }
}
