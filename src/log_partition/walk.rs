//! A walk over all states of the smaller layer, in the order of Gray's code.

use super::products::{Lane, add_means, add_scaled, log_of_product, log_product, multiply, softplus, spans, spread};
use crate::{
    error::{Error, Result},
    lanes::{
        LANES,
        isa::Isa,
        threads::{RowsMut, share},
    },
    rbm::RbmRef,
    units::Segments,
};

/// The largest layer that is enumerated: 2^28 states.
pub const MAX_UNITS: usize = 28;
/// Log2 of the number of states between two starts from scratch.
const LOG2_CHUNK: usize = 11;
/// Log2 of the greatest number of blocks, which threads share.
const LOG2_BLOCKS: usize = 6;
/// The limit of a for e^a, which leaves room for the product with one more factor.
const MAX_EXPONENT: f64 = 600.0;

/// The model in the form that the walk uses: the `outer` layer is enumerated, the `inner` one summed.
pub(super) struct Walk {
    isa: Isa,
    /// True if the hidden layer is the enumerated one.
    pub hidden_outside: bool,
    outer_bias: Vec<f64>,
    inner: usize,
    inner_bias: Vec<f64>,
    /// The laws of the inner units, their biases and precisions, unless all inner units are binary.
    laws: Option<(Segments, Vec<f32>, Vec<f64>)>,
    /// The weights, outer × inner.
    weights: Vec<f64>,
    /// The change of the terms if a unit turns on or off: e^W and e^-W as factors, or W and -W as summands.
    on: Vec<Lane>,
    off: Vec<Lane>,
    /// True if terms are e^a, false if they are a itself.
    products: bool,
    /// The number of vectors that are multiplied before exponents are taken out.
    spans: Vec<usize>,
}

/// The position of a walk: the terms of the inner units, c·h of the outer ones, and which of them are on.
struct Position {
    terms: Vec<Lane>,
    bias: f64,
    state: u64,
}

impl Walk {
    pub fn new(rbm: RbmRef<'_>) -> Result<Self> {
        let shape = rbm.shape();
        let visible = shape.visible();
        let hidden_outside = shape.n_hidden() <= shape.n_visible() || !visible.is_binary();
        let laws = (!visible.is_binary())
            .then(|| (visible, rbm.visible_bias().to_vec(), rbm.precision().into_iter().map(f64::from).collect()));
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let (visible_bias, hidden_bias) = (wide(rbm.visible_bias()), wide(rbm.hidden_bias()));
        let (outer_bias, inner_bias) =
            if hidden_outside { (hidden_bias, visible_bias) } else { (visible_bias, hidden_bias) };
        let (outer, inner) = (outer_bias.len(), inner_bias.len());
        if outer > MAX_UNITS {
            return Err(Error::States { limit: MAX_UNITS, units: outer });
        }
        let weight = |k: usize| {
            let (o, i) = (k / inner, k % inner);
            let at = if hidden_outside { i * outer + o } else { o * inner + i };
            f64::from(rbm.weights()[at])
        };
        let weights: Vec<f64> = (0..outer * inner).map(weight).collect();
        // The greatest |a| of each unit, one vector at a time.
        let size = |i: usize| inner_bias[i].abs() + (0..outer).map(|o| weights[o * inner + i].abs()).sum::<f64>();
        let vectors = inner.div_ceil(LANES);
        let greatest: Vec<f64> =
            (0..vectors).map(|v| (v * LANES..inner.min((v + 1) * LANES)).map(size).fold(0.0, f64::max)).collect();
        let products = visible.is_binary() && greatest.iter().all(|&a| a <= MAX_EXPONENT);
        let mut new = Self {
            isa: Isa::detect()?,
            hidden_outside,
            outer_bias,
            inner,
            inner_bias,
            laws,
            on: Vec::new(),
            off: Vec::new(),
            weights,
            products,
            spans: spans(&greatest),
        };
        let change = |sign: f64| {
            let rows = new.weights.chunks_exact(inner);
            rows.flat_map(|row| spread(row.iter().map(|w| if products { (sign * w).exp() } else { sign * w }), vectors))
                .collect()
        };
        (new.on, new.off) = (change(1.0), change(-1.0));
        Ok(new)
    }

    fn outer(&self) -> usize {
        self.outer_bias.len()
    }

    /// Log2 of the number of states that are walked from one start.
    fn log2_chunk(&self) -> usize {
        LOG2_CHUNK.min(self.outer())
    }

    /// Log2 of the number of blocks.
    fn log2_blocks(&self) -> usize {
        LOG2_BLOCKS.min(self.outer() - self.log2_chunk())
    }

    fn vectors(&self) -> usize {
        self.inner.div_ceil(LANES)
    }

    /// The first state of a chunk, computed from scratch.
    fn start(&self, chunk: u64) -> Position {
        let index = chunk << self.log2_chunk();
        let state = index ^ (index >> 1);
        let mut pre = self.inner_bias.clone();
        let mut bias = 0.0;
        for (o, row) in self.weights.chunks_exact(self.inner).enumerate() {
            if state >> o & 1 == 1 {
                bias += self.outer_bias[o];
                pre.iter_mut().zip(row).for_each(|(a, w)| *a += w);
            }
        }
        let terms = pre.into_iter().map(|a| if self.products { a.exp() } else { a });
        let mut terms: Vec<Lane> = spread(terms, self.vectors()).collect();
        if !self.products
            && let Some(last) = terms.last_mut()
        {
            // Padding: softplus and σ of -∞ are 0.
            let used = self.inner - (self.vectors() - 1) * LANES;
            last[used..].fill(f64::NEG_INFINITY);
        }
        Position { terms, bias, state }
    }

    /// Visits the states of a chunk. `visit` gets the position and the log of the state's contribution to Z. `flip` is called before each
    /// change, with the unit that changes and whether it was on.
    fn chunk_states<T>(
        &self, chunk: u64, with: &mut T, mut visit: impl FnMut(&mut T, &Position, f64),
        mut flip: impl FnMut(&mut T, usize, bool),
    ) -> Position {
        let vectors = self.vectors();
        let mut place = self.start(chunk);
        for index in 0..1u64 << self.log2_chunk() {
            let log = if index == 0 {
                self.log_sum(&place.terms)
            } else {
                let unit = index.trailing_zeros() as usize;
                let was_on = place.state >> unit & 1 == 1;
                flip(with, unit, was_on);
                place.state ^= 1 << unit;
                place.bias += if was_on { -self.outer_bias[unit] } else { self.outer_bias[unit] };
                let change = &(if was_on { &self.off } else { &self.on })[unit * vectors..][..vectors];
                self.step(&mut place.terms, change)
            };
            visit(with, &place, place.bias + log);
        }
        place
    }

    /// Σ log(1 + e^a), or the log-normaliser for other laws.
    fn log_sum(&self, terms: &[Lane]) -> f64 {
        if let Some((segments, bias, precision)) = &self.laws {
            return segments.log_normaliser(&terms.as_flattened()[..self.inner], bias, precision);
        }
        match self.products {
            true => log_of_product(log_product(self.isa, terms, &self.spans)),
            false => terms.as_flattened().iter().map(|&a| softplus(a)).sum(),
        }
    }

    /// Applies a change to the terms, then returns [`log_sum`](Self::log_sum).
    fn step(&self, terms: &mut [Lane], change: &[Lane]) -> f64 {
        if self.products {
            return log_of_product(multiply(self.isa, terms, change, &self.spans));
        }
        terms.as_flattened_mut().iter_mut().zip(change.as_flattened()).for_each(|(a, w)| *a += w);
        self.log_sum(terms)
    }

    /// Runs `run` for every block, on all threads; `out` has one value for each block.
    fn for_blocks<T: Send>(&self, out: &mut [T], run: impl Fn(std::ops::Range<u64>, &mut T) + Sync) {
        let chunks = 1u64 << (self.outer() - self.log2_chunk() - self.log2_blocks());
        share(RowsMut::new(1, out), &|part: RowsMut<'_, T>| {
            for (n, out) in part.values.iter_mut().enumerate() {
                let first = (part.first + n) as u64 * chunks;
                run(first..first + chunks, out);
            }
        });
    }

    /// log Z in nats. Calls `watch`, on any thread, with the number of states completed since.
    pub fn log_z(&self, watch: &(dyn Fn(u64) + Sync)) -> f64 {
        let mut blocks = vec![LogSum::EMPTY; 1 << self.log2_blocks()];
        self.for_blocks(&mut blocks, |chunks, sum| {
            for chunk in chunks {
                let mut part = LogSum::EMPTY;
                self.chunk_states(chunk, &mut part, |part, _, log| part.add(log), |_, _, _| {});
                sum.merge(part);
                watch(1 << self.log2_chunk());
            }
        });
        let mut all = LogSum::EMPTY;
        blocks.into_iter().for_each(|block| all.merge(block));
        all.log()
    }

    /// The means of the outer units, of the inner units, and of their products, outer × inner.
    ///
    /// The products cost one row a state, instead of one row for each unit that is on. With S the sum of p·σ(a) over the states so
    /// far, the row of a unit gets -S when the unit turns on and +S when it turns off.
    pub fn moments(&self, log_z: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (outer, vectors) = (self.outer(), self.vectors());
        let mut blocks = vec![(Vec::new(), Vec::new(), Vec::new()); 1 << self.log2_blocks()];
        self.for_blocks(&mut blocks, |chunks, (units, means, products)| {
            *units = vec![0.0; outer];
            *means = vec![[0.0; LANES]; vectors];
            *products = vec![[0.0; LANES]; outer * vectors];
            for chunk in chunks {
                let mut sums = Sums { p: 0.0, means: vec![[0.0; LANES]; vectors], units, products };
                let mut means_of = vec![0.0; self.inner];
                // A unit that is on at the start has accumulated nothing.
                let end = self.chunk_states(
                    chunk,
                    &mut sums,
                    |sums, place, log| {
                        let p = (log - log_z).exp();
                        sums.p += p;
                        match &self.laws {
                            None => add_means(self.isa, self.products, p, &place.terms, &mut sums.means),
                            Some((segments, ..)) => {
                                segments.means_f64(&place.terms.as_flattened()[..self.inner], &mut means_of);
                                let sums = sums.means.as_flattened_mut().iter_mut();
                                sums.zip(&means_of).for_each(|(sum, mean)| *sum += p * mean);
                            }
                        }
                    },
                    |sums, unit, was_on| sums.take(self.isa, unit, if was_on { 1.0 } else { -1.0 }),
                );
                for unit in (0..outer).filter(|unit| end.state >> unit & 1 == 1) {
                    sums.take(self.isa, unit, 1.0);
                }
                let Sums { means: done, .. } = sums;
                means.as_flattened_mut().iter_mut().zip(done.as_flattened()).for_each(|(sum, x)| *sum += x);
            }
        });
        let mut units = vec![0.0; outer];
        let mut means = vec![0.0; self.inner];
        let mut products = vec![0.0; outer * self.inner];
        for (block_units, block_means, block_products) in &blocks {
            units.iter_mut().zip(block_units).for_each(|(sum, x)| *sum += x);
            means.iter_mut().zip(block_means.as_flattened()).for_each(|(sum, x)| *sum += x);
            for (row, part) in products.chunks_exact_mut(self.inner).zip(block_products.chunks_exact(vectors)) {
                row.iter_mut().zip(part.as_flattened()).for_each(|(sum, x)| *sum += x);
            }
        }
        (units, means, products)
    }
}

/// The running sums of a chunk, and the sums of its block that they are added to.
struct Sums<'a> {
    p: f64,
    means: Vec<Lane>,
    units: &'a mut [f64],
    products: &'a mut [Lane],
}

impl Sums<'_> {
    fn take(&mut self, isa: Isa, unit: usize, sign: f64) {
        let vectors = self.means.len();
        self.units[unit] += sign * self.p;
        add_scaled(isa, sign, &self.means, &mut self.products[unit * vectors..][..vectors]);
    }
}

/// A sum of exponentials, as e^greatest·sum.
#[derive(Clone, Copy)]
pub(super) struct LogSum {
    greatest: f64,
    sum: f64,
}

impl LogSum {
    pub const EMPTY: Self = Self { greatest: f64::NEG_INFINITY, sum: 0.0 };

    pub fn add(&mut self, log: f64) {
        self.merge(Self { greatest: log, sum: 1.0 });
    }

    fn merge(&mut self, other: Self) {
        if other.greatest > self.greatest {
            *self =
                Self { greatest: other.greatest, sum: other.sum + self.sum * (self.greatest - other.greatest).exp() };
        } else if other.greatest > f64::NEG_INFINITY {
            self.sum += other.sum * (other.greatest - self.greatest).exp();
        }
    }

    pub fn log(self) -> f64 {
        self.greatest + self.sum.ln()
    }
}
