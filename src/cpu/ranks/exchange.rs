//! The exchange between ranks: columns of the means to their owners, columns of the weights to all.
//!
//! A rank owns a contiguous part of the rows, of the chains and of the hidden tiles; the columns of its tiles are contiguous too.

use super::{Part, Ranks};
use crate::{
    cpu::{
        blocks::transpose_block,
        descend::CpuRule,
        parameters::CpuParameters,
        tiles::{Row, TILE, VECTORS, tiles, vectors},
    },
    error::Result,
    lanes::{
        LANES,
        threads::{RowsMut, in_parts, share_pieces},
    },
    shape::Shape,
    verbs::Activations,
};
use std::ops::Range;

/// The hidden units of a rank's tiles.
fn columns(part: Part, units: usize) -> Range<usize> {
    let tiles = part.range(tiles(units));
    tiles.start * TILE..units.min(tiles.end * TILE).max(tiles.start * TILE)
}

/// The number of units of a tile.
fn len(units: usize, tile: usize) -> usize {
    TILE.min(units - tile * TILE)
}

impl Ranks {
    /// Gathers the rows of all ranks' parts on every rank.
    pub(crate) fn gather_activations(&self, units: usize, out: &mut Activations) -> Result<()> {
        let all = [&mut out.pre_activation, &mut out.mean, &mut out.sample];
        all.into_iter().filter(|values| !values.is_empty()).try_for_each(|values| self.world.all_gather(values, units))
    }

    /// Before, each rank has its part of the rows of visible words, and all hidden means of its part of the rows of each matrix.
    /// Afterwards each has all words, and in addition to the means of its own rows those of all rows for the tiles that it owns.
    pub(super) fn exchange(&self, shape: Shape, words: &mut [u64], mut means: [&mut Vec<Row>; 2]) -> Result<()> {
        let (units, own) = (shape.n_hidden(), self.world.part);
        let width = tiles(units);
        let rows = |means: &[Row], part: Part| part.range(means.len() / width);
        let others = || self.world.parts().filter(|part| part.rank != own.rank);
        let mut scratch = self.world.scratch();
        let [packed, received] = &mut *scratch;
        packed.clear();
        // The words are sent while the means are packed.
        self.world.all_gather_while(words, tiles(shape.n_visible()), || {
            for to in others() {
                for means in &means {
                    for row in means.chunks_exact(width).skip(rows(means, own).start).take(rows(means, own).len()) {
                        for tile in to.range(width) {
                            packed.extend_from_slice(&row[tile].units()[..len(units, tile)]);
                        }
                    }
                }
            }
        })?;
        let n = |part| means.iter().map(|means| rows(means, part).len()).sum::<usize>();
        let is_other = |part: Part| usize::from(part.rank != own.rank);
        let go: Vec<_> = self.world.parts().map(|to| is_other(to) * n(own) * columns(to, units).len()).collect();
        let come: Vec<_> =
            self.world.parts().map(|from| is_other(from) * n(from) * columns(own, units).len()).collect();
        self.world.all_to_all(packed, [go.into_iter(), come.into_iter()], received)?;
        let mut rest = &received[..];
        for from in others() {
            for means in &mut means {
                let rows = rows(means, from);
                for row in means.chunks_exact_mut(width).skip(rows.start).take(rows.len()) {
                    for tile in own.range(width) {
                        let (numbers, others) = rest.split_at(len(units, tile));
                        row[tile].units_mut()[..numbers.len()].copy_from_slice(numbers);
                        rest = others;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gathers the columns that each rank owns, of a row-major matrix and of a row, on every rank.
    pub(super) fn gather_columns(&self, shape: Shape, matrix: &mut [f32], row: &mut [f32]) -> Result<()> {
        let units = shape.n_hidden();
        let own = columns(self.world.part, units);
        let n = matrix.len() / units + 1;
        let mut scratch = self.world.scratch();
        let [packed, received] = &mut *scratch;
        packed.clear();
        for row in matrix.chunks_exact(units).chain([&*row]) {
            packed.extend_from_slice(&row[own.clone()]);
        }
        self.world.all_gather_parts(packed, self.world.parts().map(|part| n * columns(part, units).len()), received)?;
        let mut rest = &received[..];
        for part in self.world.parts() {
            let columns = columns(part, units);
            for row in matrix.chunks_exact_mut(units).chain([&mut *row]) {
                let (numbers, others) = rest.split_at(columns.len());
                row[columns.clone()].copy_from_slice(numbers);
                rest = others;
            }
        }
        Ok(())
    }

    /// Gathers the weights, biases, offsets and means of the hidden tiles that each rank owns, on every rank. Velocities
    /// stay with their owner.
    pub(super) fn gather_tiles(&self, parameters: &mut CpuParameters, mut rule: Option<&mut CpuRule>) -> Result<()> {
        let (shape, own) = (parameters.shape, self.world.part);
        let (units, width) = (shape.n_hidden(), tiles(shape.n_hidden()));
        let mut scratch = self.world.scratch();
        let [packed, received] = &mut *scratch;
        packed.clear();
        for i in 0..shape.n_visible() {
            for tile in own.range(width) {
                let row = &parameters.weights[parameters.row(i, tile)];
                packed.extend_from_slice(&row.units()[..len(units, tile)]);
            }
        }
        let mut layers = vec![&mut parameters.hidden_bias];
        if let Some(CpuRule { hidden_offset, hidden_mean, .. }) = &mut rule {
            layers.extend([hidden_offset, hidden_mean]);
        }
        for layer in &layers {
            for tile in own.range(width) {
                packed.extend_from_slice(&layer[tile].units()[..len(units, tile)]);
            }
        }
        let n = shape.n_visible() + layers.len();
        let lens = self.world.parts().map(|part| n * columns(part, units).len());
        self.world.all_gather_parts(packed, lens, received)?;
        // The start and the distance of the rows of each tile.
        let mut places = vec![(0, 0); width];
        let mut begin = 0;
        for part in self.world.parts() {
            let columns = columns(part, units);
            for tile in part.range(width) {
                places[tile] = (begin + tile * TILE - columns.start, columns.len());
            }
            begin += n * columns.len();
        }
        let of_row = |i: usize, tile: usize| {
            let (first, step) = places[tile];
            &received[first + i * step..][..len(units, tile)]
        };
        let is_own = |tile: usize| own.range(width).contains(&tile);
        for (number, layer) in layers.into_iter().enumerate() {
            for (tile, row) in layer.iter_mut().enumerate().filter(|(tile, _)| !is_own(*tile)) {
                let numbers = of_row(shape.n_visible() + number, tile);
                row.units_mut()[..numbers.len()].copy_from_slice(numbers);
            }
        }
        let (rows, blocks) = (parameters.block_rows(), parameters.blocks);
        parameters.grid.keep();
        let grid = parameters.grid.parts(rows);
        let (weights, transposed) = (&mut parameters.weights, &mut parameters.transposed);
        let size = 3 * VECTORS * weights.len();
        share_pieces((RowsMut::new(rows, weights), RowsMut::new(rows, transposed), grid), size, &|job| {
            in_parts(job, 1, |(weights, transposed, mut grid)| {
                let first = weights.first * TILE;
                let visible = first..shape.n_visible().min(first + TILE);
                blocks.each(0..width, weights.values, transposed.values, |tile, weights, step, transposed| {
                    if is_own(tile) {
                        return;
                    }
                    for (i, row) in visible.clone().zip(weights.iter_mut().step_by(step)) {
                        row.units_mut()[..len(units, tile)].copy_from_slice(of_row(i, tile));
                    }
                    transpose_block(self.cpu.isa, weights, transposed, vectors(units, tile), 0);
                    if let Some(grid) = &mut grid {
                        grid.round(tile, weights, transposed, 0);
                    }
                });
            });
        });
        parameters.renew_grid();
        Ok(())
    }

    /// The centred means of the other ranks' rows, for the tiles that this one owns.
    pub(super) fn centre_others(&self, shape: Shape, means: [&[Row]; 2], rule: &mut CpuRule) {
        let (units, own) = (shape.n_hidden(), self.world.part);
        let width = tiles(units);
        for ((means, to), shift) in means.into_iter().zip(&mut rule.centred).zip(&rule.shifts) {
            let rows = own.range(means.len() / width);
            for r in (0..means.len() / width).filter(|r| !rows.contains(r)) {
                for tile in own.range(width) {
                    let (mean, shift, to) = (&means[r * width + tile], &shift[tile], &mut to[r * width + tile]);
                    let numbers = mean.units().iter().zip(shift.units()).zip(to.units_mut());
                    numbers.take(vectors(units, tile) * LANES).for_each(|((mean, shift), to)| *to = mean - shift);
                }
            }
        }
    }

    /// Gathers the factors of each rank's rows and chains on every rank.
    pub(super) fn gather_factors(&self, rule: &mut CpuRule) -> Result<()> {
        let all = rule.factors.iter_mut().flat_map(|factors| [&mut factors.visible, &mut factors.hidden]);
        all.into_iter().try_for_each(|factors| self.world.all_gather(factors, 1))
    }
}
