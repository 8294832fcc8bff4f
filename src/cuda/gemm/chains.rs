//! Chains by products: all of them make a step together, layer after layer.

use super::{CudaGemm, LEAST_CHAINS, LEAST_ROWS, layers::Outcome};
use crate::{
    backend::Layer,
    cuda::{
        chains::drawn,
        launch::{Buffer, Ptr, Side},
        memory::{Batch, Chains, Parameters, count, rows_of, sixteen_a_row, stride},
    },
    error::{CudaError, Error, Result},
};
use cudarc::driver::CudaStream;

impl CudaGemm {
    pub(super) fn start(&self, parameters: &Parameters, chains: &mut Chains, rows: Batch<'_>) -> Result<()> {
        if !self.is_worth(rows.rows, LEAST_ROWS) {
            return self.cuda.start(parameters, chains, rows);
        }
        let stream = self.cuda.stream();
        chains.resize(stream, rows.rows)?;
        chains.states.own(stream)?;
        let turn = self.cuda.turn_to(rows, 0)?;
        let numbers = Buffer::zeros(stream, rows.rows * stride(rows.units))?;
        let (up, rows, states) = (parameters.side(Layer::Visible), rows_of(rows, &turn)?, &chains.states);
        // The means belong to a sweep, which is yet to come: room for the sums.
        let sums = states.hidden_mean.ptr();
        self.numbers_of_rows(stream, rows, false, Ptr::NULL, numbers.ptr())?;
        self.sums(stream, up, numbers.ptr(), rows.rows, sums)?;
        let (betas, generator, bits) = (states.betas.ptr(), states.generator.ptr(), states.hidden.ptr());
        self.finish_layer(stream, up, rows.rows, sums, Outcome { betas, generator, bits, ..Outcome::NOTHING })?;
        self.cuda.advance(chains, u64::from(rows.rows) * u64::from(up.made))
    }

    pub(super) fn sweep(&self, parameters: &Parameters, chains: &mut Chains, k: usize) -> Result<()> {
        if !self.is_worth(chains.betas.len(), LEAST_CHAINS) {
            return self.cuda.sweep(parameters, chains, k);
        }
        self.make_states(chains)?;
        self.launch_sweep(self.cuda.stream(), parameters, chains, 0, k)?;
        self.cuda.advance(chains, drawn(chains.shape, chains, k))
    }

    /// Room for both layers of all chains as numbers.
    pub(super) fn make_states(&self, chains: &mut Chains) -> Result<()> {
        let (stream, n) = (self.cuda.stream(), chains.betas.len());
        let sizes = [chains.shape.n_visible(), chains.shape.n_hidden()].map(|units| n * stride(units));
        let states = chains.states.own(stream)?;
        if states.numbers.is_none() {
            states.numbers = Some([Buffer::zeros(stream, sizes[0])?, Buffer::zeros(stream, sizes[1])?]);
        }
        Ok(())
    }

    /// A sweep that begins to draw `first` numbers after the generator's place, in the room that was made.
    pub(super) fn launch_sweep(
        &self, stream: &CudaStream, parameters: &Parameters, chains: &Chains, first: u64, k: usize,
    ) -> Result<()> {
        let steps = Steps::new(self, stream, parameters, chains)?;
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        steps.begin()?;
        let betas = chains.states.betas.ptr();
        for step in 0..k {
            let [visible, hidden] = steps.outcomes(first, step, k);
            steps.visible(down, Outcome { betas, ..visible })?;
            steps.hidden_sums(up)?;
            steps.hidden(up, Outcome { betas, ..hidden })?;
        }
        Ok(())
    }

    pub(super) fn anneal(
        &self, parameters: &Parameters, chains: &mut Chains, reference: &[f32], betas: &[f32], log_weights: &mut [f64],
    ) -> Result<()> {
        let pairs = betas.len().saturating_sub(1);
        if pairs == 0 || !self.is_worth(chains.betas.len(), LEAST_CHAINS) {
            return self.cuda.anneal(parameters, chains, reference, betas, log_weights);
        }
        let stream = self.cuda.stream();
        chains.betas.fill(betas[pairs]);
        let all = chains.betas.clone();
        chains.states.own(stream)?.betas.write(stream, &all)?;
        self.make_states(chains)?;
        let reference = Buffer::of(stream, reference)?;
        let schedule = Buffer::of(stream, betas)?;
        let weights = Buffer::of(stream, log_weights)?;
        let up = parameters.side(Layer::Visible);
        let down = Side { reference: reference.ptr(), ..parameters.side(Layer::Hidden) };
        let steps = Steps::new(self, stream, parameters, chains)?;
        let (grid, states) = (sixteen_a_row(steps.n), steps.visible_states);
        steps.begin()?;
        for pair in 0..pairs {
            let (from, to) = (schedule.ptr().offset(pair), schedule.ptr().offset(pair + 1));
            let [visible, hidden] = steps.outcomes(0, pair, pairs);
            steps.visible(down, Outcome { betas: from, beta_step: 0, ..visible })?;
            steps.hidden_sums(up)?;
            let (run, sums) = (self.cuda.run(), chains.states.hidden_mean.ptr());
            run.gain(stream, grid, down, up, steps.n, states, sums, from, weights.ptr())?;
            steps.hidden(up, Outcome { betas: to, beta_step: 0, ..hidden })?;
        }
        self.cuda.advance(chains, drawn(chains.shape, chains, pairs))?;
        log_weights.copy_from_slice(&weights.read(stream)?);
        Ok(())
    }
}

/// The steps of a sweep. The sums of a layer stand where its pre-activations or means are kept.
struct Steps<'a> {
    gemm: &'a CudaGemm,
    stream: &'a CudaStream,
    chains: &'a Chains,
    n: u32,
    visible_states: Ptr<f32>,
    hidden_states: Ptr<f32>,
    units: [u32; 2],
}

impl<'a> Steps<'a> {
    fn new(gemm: &'a CudaGemm, stream: &'a CudaStream, parameters: &Parameters, chains: &'a Chains) -> Result<Self> {
        let Some([visible, hidden]) = &chains.states.numbers else {
            let problem = "there is no room for the states".to_owned();
            return Err(Error::Cuda(CudaError::Failed { call: "sweep", problem }));
        };
        let units = [parameters.shape.n_visible() as u32, parameters.shape.n_hidden() as u32];
        let n = count("chains", chains.betas.len())?;
        Ok(Self { gemm, stream, chains, n, visible_states: visible.ptr(), hidden_states: hidden.ptr(), units })
    }

    /// What becomes of the sums of both layers in step number `step` of `k`, the first of which draws `first` numbers after
    /// the generator's place. Of the last step everything is kept.
    fn outcomes(&self, first: u64, step: usize, k: usize) -> [Outcome; 2] {
        let states = &self.chains.states;
        let [visible_draws, hidden_draws] = self.units.map(|units| u64::from(self.n) * u64::from(units));
        let first = first + step as u64 * (visible_draws + hidden_draws);
        let generator = states.generator.ptr();
        let mut visible = Outcome { generator, first, states: self.visible_states, ..Outcome::NOTHING };
        let mut hidden = Outcome { first: first + visible_draws, states: self.hidden_states, ..visible };
        if step + 1 == k {
            (visible.pre, visible.bits) = (states.visible_pre.ptr(), states.visible.ptr());
            (hidden.means, hidden.bits) = (states.hidden_mean.ptr(), states.hidden.ptr());
        }
        [visible, hidden]
    }

    /// The hidden bits as numbers.
    fn begin(&self) -> Result<()> {
        let bits = self.chains.states.hidden.ptr();
        self.gemm.numbers_of_bits(self.stream, bits, self.n, self.units[1], self.hidden_states)
    }

    /// v ~ P(v|h).
    fn visible(&self, down: Side, outcome: Outcome) -> Result<()> {
        let sums = self.chains.states.visible_pre.ptr();
        self.gemm.sums(self.stream, down, self.hidden_states, self.n, sums)?;
        self.gemm.finish_layer(self.stream, down, self.n, sums, outcome)
    }

    /// vW.
    fn hidden_sums(&self, up: Side) -> Result<()> {
        self.gemm.sums(self.stream, up, self.visible_states, self.n, self.chains.states.hidden_mean.ptr())
    }

    /// h ~ P(h|v).
    fn hidden(&self, up: Side, outcome: Outcome) -> Result<()> {
        self.gemm.finish_layer(self.stream, up, self.n, self.chains.states.hidden_mean.ptr(), outcome)
    }
}
