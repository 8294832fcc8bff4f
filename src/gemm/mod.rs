//! The sgemm road: every product of a layer with the weights is one explicit matrix product, with fused loops around it.
//!
//! The textbook's formulation: states are rows of 0.0 and 1.0, a Gibbs step is two products, a gradient two more. Its sums
//! are in whatever order the BLAS likes, so its results are exempt from the numerics contract: they agree with
//! [`Cpu`](crate::Cpu) in distribution and up to rounding. [`Cpu`](crate::Cpu) is several times faster on sparse states; where
//! half of the units or more are on, a good BLAS draws level (on AVX2, for 512 chains, its products were a fifth ahead). This
//! road is the yardstick, the better choice on hardware without fused multiply-add, and the way to use a BLAS that one trusts.
//! Only the BLAS may use more than one thread here.

mod loops;
mod sgemm;

use crate::{
    backend::{Activations, Backend, ChainState, Gradient, Layer, Plan, Rows, Shape, Watch, sealed::Sealed},
    cpu::isa::Isa,
    elementary::softplus,
    error::Result,
    uniforms::{Jump, Uniforms},
};
use sgemm::{Matrix, sgemm};

/// The CPU with a matrix library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    isa: Isa,
}

impl Gemm {
    /// The sgemm road, its loops on the instruction set that [`Cpu::detect`](crate::Cpu::detect) would take.
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) where `HARMONIUM_ISA` names an instruction set that this machine lacks.
    pub fn detect() -> Result<Self> {
        Ok(Self { isa: Isa::detect()? })
    }
}

/// The parameters, row-major.
#[derive(Clone, Debug)]
pub struct Parameters {
    shape: Shape,
    weights: Vec<f32>,
    visible_bias: Vec<f32>,
    hidden_bias: Vec<f32>,
}

/// The states of M chains as numbers 0 and 1, chain after chain.
#[derive(Clone, Debug)]
pub struct Chains {
    shape: Shape,
    uniforms: Uniforms,
    betas: Vec<f32>,
    hidden: Vec<f32>,
    hidden_pre: Vec<f32>,
    hidden_mean: Vec<f32>,
    visible: Vec<f32>,
    visible_pre: Vec<f32>,
    visible_mean: Vec<f32>,
}

/// One layer made from another, besides what lasts.
#[derive(Debug, Default)]
struct Room {
    states: Vec<f32>,
    pre: Vec<f32>,
    mean: Vec<f32>,
}

/// Statistics of an update.
#[derive(Debug, Default)]
pub struct Work {
    /// The batch as numbers.
    rows: Vec<f32>,
    /// Hidden pre-activations and means of the batch.
    pre: Vec<f32>,
    positive: Vec<f32>,
    values: Vec<f64>,
    watched: f64,
    room: Room,
}

/// Rows as numbers.
fn dense(rows: Rows<'_>, out: &mut Vec<f32>) {
    out.clear();
    (0..rows.len()).for_each(|r| out.extend((0..rows.units()).map(|i| rows.value(r, i))));
}

impl Parameters {
    /// pre ← the sums over the layer `given`.
    fn sums(&self, given: Layer, states: &[f32], pre: &mut Vec<f32>) {
        let weights = Matrix::new(&self.weights, self.shape.n_hidden());
        let units = self.shape.units(given);
        pre.resize(states.len() / units * self.shape.units(given.other()), 0.0);
        let weights = if given == Layer::Visible { weights } else { weights.t() };
        sgemm(1.0, Matrix::new(states, units), weights, 0.0, pre);
    }

    fn bias(&self, layer: Layer) -> &[f32] {
        match layer {
            Layer::Visible => &self.visible_bias,
            Layer::Hidden => &self.hidden_bias,
        }
    }
}

impl Gemm {
    /// pre and σ(pre) of the layer other than `given`; β is 1 where there are no `betas`.
    fn conditional(
        self, parameters: &Parameters, given: Layer, states: &[f32], betas: Option<&[f32]>, pre: &mut Vec<f32>,
        mean: &mut Vec<f32>,
    ) {
        parameters.sums(given, states, pre);
        let bias = parameters.bias(given.other());
        mean.resize(pre.len(), 0.0);
        for (r, (pre, mean)) in pre.chunks_exact_mut(bias.len()).zip(mean.chunks_exact_mut(bias.len())).enumerate() {
            loops::activate(self.isa, pre, betas.map_or(1.0, |betas| betas[r]), bias, None, mean);
        }
    }

    /// sample ~ mean, row after row; moves the sequence on.
    fn draw(self, mean: &[f32], units: usize, draws: &mut Uniforms, sample: &mut Vec<f32>) {
        sample.resize(mean.len(), 0.0);
        let over = Jump::over(units as u64);
        let mut state = draws.state();
        for (mean, sample) in mean.chunks_exact(units).zip(sample.chunks_exact_mut(units)) {
            loops::fire(self.isa, mean, state, sample);
            state = over.from(state);
        }
        draws.skip(mean.len() as u64);
    }

    fn run(self, parameters: &Parameters, chains: &mut Chains, k: usize) {
        let Chains { shape, uniforms, betas, hidden, hidden_pre, hidden_mean, visible, visible_pre, visible_mean } =
            chains;
        for _ in 0..k {
            self.conditional(parameters, Layer::Hidden, hidden, Some(betas), visible_pre, visible_mean);
            self.draw(visible_mean, shape.n_visible(), uniforms, visible);
            self.conditional(parameters, Layer::Visible, visible, Some(betas), hidden_pre, hidden_mean);
            self.draw(hidden_mean, shape.n_hidden(), uniforms, hidden);
        }
    }

    /// The log pseudo-likelihood's terms of the visible units `bits`, summed for each row.
    fn pseudo(
        self, parameters: &Parameters, rows: Rows<'_>, bits: std::ops::Range<usize>, room: &mut Room, out: &mut [f64],
    ) {
        let shape = parameters.shape;
        let Room { states, pre, mean } = room;
        // Rounded to 0 and 1: x ≥ 0.5 → 1.
        states.clear();
        let row = |r: usize| (0..rows.units()).map(move |i| f32::from(u8::from(rows.bit(r, i))));
        (0..rows.len()).for_each(|r| states.extend(row(r)));
        self.conditional(parameters, Layer::Visible, states, None, pre, mean);
        let rows = states.chunks_exact(shape.n_visible()).zip(pre.chunks_exact(shape.n_hidden()));
        for (out, (x, pre)) in out.iter_mut().zip(rows) {
            let term = |i: usize| {
                let change = 1.0 - 2.0 * x[i];
                let weights = &parameters.weights[i * shape.n_hidden()..][..shape.n_hidden()];
                let added = loops::sum_flip(self.isa, pre, weights, change);
                let difference = f64::from(-change * parameters.visible_bias[i]) - added;
                -f64::from(softplus(-difference as f32))
            };
            *out = bits.clone().map(term).sum();
        }
    }

    fn cross_entropy(self, rows: &[f32], units: usize, pre: &[f32], out: &mut [f64]) {
        for (out, (x, pre)) in out.iter_mut().zip(rows.chunks_exact(units).zip(pre.chunks_exact(units))) {
            *out = -loops::sum_cross_entropy(self.isa, pre, x);
        }
    }
}

/// out ← scale·Σ rows + beta·out.
fn add_rows(scale: f32, rows: &[f32], beta: f32, out: &mut [f32]) {
    out.iter_mut().for_each(|x| *x *= beta);
    for row in rows.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(out, x)| *out += scale * x);
    }
}

/// out ← scale·(rowsᵀ·means, Σ rows, Σ means) + beta·out.
fn accumulate(shape: Shape, scale: f32, rows: &[f32], means: &[f32], beta: f32, out: [&mut [f32]; 3]) {
    let [weights, visible_bias, hidden_bias] = out;
    sgemm(scale, Matrix::new(rows, shape.n_visible()).t(), Matrix::new(means, shape.n_hidden()), beta, weights);
    add_rows(scale, rows, beta, visible_bias);
    add_rows(scale, means, beta, hidden_bias);
}

impl Sealed for Gemm {}

#[allow(private_interfaces)]
impl Backend for Gemm {
    type Parameters = Parameters;
    type Chains = Chains;
    type Work = Work;
    type Data<'a> = Rows<'a>;
    type Batch<'a> = Rows<'a>;

    fn load<'a>(&self, rows: Rows<'a>) -> Result<Rows<'a>> {
        Ok(rows)
    }

    fn batch<'a>(data: &'a Rows<'_>, rows: std::ops::Range<usize>) -> Rows<'a> {
        data.range(rows)
    }

    fn batch_size(batch: Rows<'_>) -> (usize, usize) {
        (batch.len(), batch.units())
    }

    fn upload(&self, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32]) -> Result<Parameters> {
        let (weights, visible_bias, hidden_bias) = (weights.to_vec(), visible_bias.to_vec(), hidden_bias.to_vec());
        Ok(Parameters { shape, weights, visible_bias, hidden_bias })
    }

    fn download(
        &self, parameters: &Parameters, weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32],
    ) -> Result<()> {
        weights.copy_from_slice(&parameters.weights);
        visible_bias.copy_from_slice(&parameters.visible_bias);
        hidden_bias.copy_from_slice(&parameters.hidden_bias);
        Ok(())
    }

    fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Rows<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        let mut states = Vec::new();
        dense(rows, &mut states);
        self.conditional(parameters, given, &states, None, &mut out.pre_activation, &mut out.mean);
        if let Some(draws) = draws {
            self.draw(&out.mean, parameters.shape.units(given.other()), draws, &mut out.sample);
        }
        Ok(())
    }

    fn free_energy(&self, parameters: &Parameters, rows: Rows<'_>, out: &mut [f64]) -> Result<()> {
        let (mut states, mut pre, mut mean) = (Vec::new(), Vec::new(), Vec::new());
        dense(rows, &mut states);
        self.conditional(parameters, Layer::Visible, &states, None, &mut pre, &mut mean);
        let rows = states.chunks_exact(rows.units()).zip(pre.chunks_exact(parameters.shape.n_hidden()));
        for (out, (x, pre)) in out.iter_mut().zip(rows) {
            let bias: f64 = x.iter().zip(&parameters.visible_bias).map(|(&x, &b)| f64::from(x) * f64::from(b)).sum();
            *out = -bias - loops::sum_softplus(self.isa, pre);
        }
        Ok(())
    }

    fn free_energy_gradient(
        &self, parameters: &Parameters, rows: Rows<'_>, weights: &[f32], work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        let Work { rows: states, pre, positive, .. } = work;
        dense(rows, states);
        self.conditional(parameters, Layer::Visible, states, None, pre, positive);
        let shape = parameters.shape;
        let weighted = |states: &mut [f32], units: usize| {
            let rows = states.chunks_exact_mut(units).zip(weights);
            rows.for_each(|(row, weight)| row.iter_mut().for_each(|x| *x *= weight));
        };
        // The product takes each row's weight once, from the data; the bias' sums take it from either side.
        weighted(states, shape.n_visible());
        sgemm(
            -1.0,
            Matrix::new(states, shape.n_visible()).t(),
            Matrix::new(positive, shape.n_hidden()),
            0.0,
            &mut out.weights,
        );
        weighted(positive, shape.n_hidden());
        add_rows(-1.0, states, 0.0, &mut out.visible_bias);
        add_rows(-1.0, positive, 0.0, &mut out.hidden_bias);
        Ok(())
    }

    fn pseudo_log_likelihood(
        &self, parameters: &Parameters, rows: Rows<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        let n_visible = parameters.shape.n_visible();
        let bits = bit.map_or(0..n_visible, |bit| bit..bit + 1);
        self.pseudo(parameters, rows, bits, &mut Room::default(), out);
        if bit.is_some() {
            out.iter_mut().for_each(|x| *x *= n_visible as f64);
        }
        Ok(())
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<Chains> {
        let words = shape.n_hidden().div_ceil(64);
        let bits =
            |chain: &[u64]| (0..shape.n_hidden()).map(|j| (chain[j / 64] >> (j % 64) & 1) as f32).collect::<Vec<_>>();
        Ok(Chains {
            shape,
            uniforms: state.uniforms.clone(),
            betas: state.betas.clone(),
            hidden: state.hidden.chunks_exact(words).flat_map(bits).collect(),
            hidden_pre: Vec::new(),
            hidden_mean: Vec::new(),
            visible: Vec::new(),
            visible_pre: Vec::new(),
            visible_mean: Vec::new(),
        })
    }

    fn n_chains(chains: &Chains) -> usize {
        chains.betas.len()
    }

    fn chain_state(&self, chains: &Chains) -> Result<ChainState> {
        let word = |units: &[f32]| units.iter().enumerate().fold(0, |word, (j, &x)| word | u64::from(x != 0.0) << j);
        let hidden =
            chains.hidden.chunks_exact(chains.shape.n_hidden()).flat_map(|chain| chain.chunks(64).map(word)).collect();
        Ok(ChainState { hidden, betas: chains.betas.clone(), uniforms: chains.uniforms.clone() })
    }

    fn start(&self, parameters: &Parameters, chains: &mut Chains, rows: Rows<'_>) -> Result<()> {
        let mut states = Vec::new();
        dense(rows, &mut states);
        chains.betas.resize(rows.len(), 1.0);
        let Chains { shape, uniforms, betas, hidden, hidden_pre, hidden_mean, .. } = chains;
        self.conditional(parameters, Layer::Visible, &states, Some(betas), hidden_pre, hidden_mean);
        self.draw(hidden_mean, shape.n_hidden(), uniforms, hidden);
        Ok(())
    }

    fn sweep(&self, parameters: &Parameters, chains: &mut Chains, k: usize) -> Result<()> {
        self.run(parameters, chains, k);
        Ok(())
    }

    fn anneal(
        &self, parameters: &Parameters, chains: &mut Chains, reference: &[f32], betas: &[f32], log_weights: &mut [f64],
    ) -> Result<()> {
        let Chains { shape, uniforms, hidden, hidden_pre, hidden_mean, visible, visible_pre, visible_mean, .. } =
            chains;
        let bias = &parameters.visible_bias;
        let slopes: Vec<f64> = bias.iter().zip(reference).map(|(&b, &a)| f64::from(b) - f64::from(a)).collect();
        for pair in betas.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            parameters.sums(Layer::Hidden, hidden, visible_pre);
            visible_mean.resize(visible_pre.len(), 0.0);
            let rows =
                visible_pre.chunks_exact_mut(shape.n_visible()).zip(visible_mean.chunks_exact_mut(shape.n_visible()));
            for (pre, mean) in rows {
                loops::activate(self.isa, pre, from, bias, Some(reference), mean);
            }
            self.draw(visible_mean, shape.n_visible(), uniforms, visible);
            parameters.sums(Layer::Visible, visible, hidden_pre);
            hidden_mean.resize(hidden_pre.len(), 0.0);
            let warmer = f64::from(to) - f64::from(from);
            let rows =
                hidden_pre.chunks_exact_mut(shape.n_hidden()).zip(hidden_mean.chunks_exact_mut(shape.n_hidden()));
            for (((pre, mean), x), log_weight) in
                rows.zip(visible.chunks_exact(shape.n_visible())).zip(&mut *log_weights)
            {
                let mut before = pre.to_vec();
                loops::activate(self.isa, &mut before, from, &parameters.hidden_bias, None, mean);
                loops::activate(self.isa, pre, to, &parameters.hidden_bias, None, mean);
                let visible: f64 = x.iter().zip(&slopes).map(|(&x, slope)| f64::from(x) * slope).sum();
                let hidden = loops::sum_softplus(self.isa, pre) - loops::sum_softplus(self.isa, &before);
                *log_weight += warmer * visible + hidden;
            }
            self.draw(hidden_mean, shape.n_hidden(), uniforms, hidden);
        }
        if let Some(&last) = betas.last() {
            chains.betas.fill(last);
        }
        Ok(())
    }

    fn visible(&self, chains: &Chains, out: &mut Activations) -> Result<()> {
        out.pre_activation.copy_from_slice(&chains.visible_pre);
        out.mean.copy_from_slice(&chains.visible_mean);
        out.sample.copy_from_slice(&chains.visible);
        Ok(())
    }

    fn work(&self, _: Shape) -> Result<Work> {
        Ok(Work::default())
    }

    fn phases(
        &self, parameters: &Parameters, batch: Rows<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        let (shape, rows) = (parameters.shape, batch.len());
        let Work { rows: states, pre, positive, values, watched, room } = work;
        dense(batch, states);
        values.resize(rows, 0.0);
        self.conditional(parameters, Layer::Visible, states, None, pre, positive);
        if !plan.persistent {
            chains.betas.resize(rows, 1.0);
            self.draw(positive, shape.n_hidden(), &mut chains.uniforms, &mut chains.hidden);
        }
        match plan.watch {
            Watch::Bit(bit) => {
                self.pseudo(parameters, batch, bit..bit + 1, room, values);
                values.iter_mut().for_each(|x| *x *= shape.n_visible() as f64);
            }
            Watch::AllBits => self.pseudo(parameters, batch, 0..shape.n_visible(), room, values),
            Watch::Reconstruction if plan.persistent => {
                self.conditional(parameters, Layer::Hidden, positive, None, pre, &mut room.mean);
                self.cross_entropy(states, shape.n_visible(), pre, values);
            }
            Watch::Reconstruction | Watch::Nothing => {}
        }
        self.run(parameters, chains, plan.k);
        if plan.watch == Watch::Reconstruction && !plan.persistent {
            self.cross_entropy(states, shape.n_visible(), &chains.visible_pre, values);
        }
        if plan.watch != Watch::Nothing {
            *watched += values.iter().sum::<f64>() / rows as f64;
        }
        Ok(())
    }

    fn gradient(
        &self, parameters: &Parameters, batch: Rows<'_>, chains: &Chains, work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        let (shape, b, m) = (parameters.shape, 1.0 / batch.len() as f32, 1.0 / chains.betas.len() as f32);
        let Gradient { weights, visible_bias, hidden_bias } = out;
        accumulate(shape, -b, &work.rows, &work.positive, 0.0, [weights, visible_bias, hidden_bias]);
        accumulate(shape, m, &chains.visible, &chains.hidden_mean, 1.0, [weights, visible_bias, hidden_bias]);
        Ok(())
    }

    fn update(
        &self, parameters: &mut Parameters, batch: Rows<'_>, chains: &Chains, work: &mut Work, lr: f32,
    ) -> Result<()> {
        let (shape, b, m) = (parameters.shape, lr / batch.len() as f32, lr / chains.betas.len() as f32);
        let Parameters { weights, visible_bias, hidden_bias, .. } = parameters;
        accumulate(shape, b, &work.rows, &work.positive, 1.0, [weights, visible_bias, hidden_bias]);
        accumulate(shape, -m, &chains.visible, &chains.hidden_mean, 1.0, [weights, visible_bias, hidden_bias]);
        Ok(())
    }

    fn apply(&self, parameters: &mut Parameters, gradient: &Gradient, lr: f32) -> Result<()> {
        for (parameters, gradient) in [
            (&mut parameters.weights, &gradient.weights),
            (&mut parameters.visible_bias, &gradient.visible_bias),
            (&mut parameters.hidden_bias, &gradient.hidden_bias),
        ] {
            parameters.iter_mut().zip(gradient).for_each(|(x, g)| *x -= lr * g);
        }
        Ok(())
    }

    fn watched(&self, work: &mut Work) -> Result<f64> {
        Ok(std::mem::take(&mut work.watched))
    }

    fn watch_from(&self, work: &mut Work, sum: f64) -> Result<()> {
        work.watched = sum;
        Ok(())
    }
}
