//! Blocks of weights in an update: the sums of both phases for a block, and its transpose.

use super::{
    host::Cpu,
    inputs::Inputs,
    statistics::{Panels, Statistics},
    sums::Terms,
    tiles::{Row, TILE, tiles, vectors},
};
use crate::{
    lanes::{LANES, Wide, dispatch},
    shape::Shape,
};
use std::cell::RefCell;

/// The scratch of a worker for its visible tiles.
#[derive(Default)]
pub(super) struct TileScratch {
    /// The units of a visible tile, in the rows and in the chains.
    pub rows: Inputs,
    pub chains: Inputs,
    /// The sums of both phases for a block.
    sums: [Vec<Row>; 2],
}

impl TileScratch {
    /// Loads the units of a visible tile, from the rows and from the chains.
    pub fn take(&mut self, cpu: Cpu, statistics: Statistics<'_>, shape: Shape, tile: usize) {
        let Self { rows, chains, sums } = self;
        let (units, width) = (TILE.min(shape.n_visible() - tile * TILE), tiles(shape.n_hidden()));
        rows.take_columns(cpu, statistics.batch, tile, statistics.precision, statistics.row_weights);
        match statistics.numbers {
            None => chains.take_bit_columns(cpu, statistics.visible, tiles(shape.n_visible()), tile, units),
            Some(numbers) => chains.take_columns(cpu, numbers, tile, statistics.precision, None),
        }
        rows.multiply_rows(statistics.positive, width);
        chains.multiply_rows(statistics.negative, width);
        sums.iter_mut().for_each(|sums| sums.resize(TILE, Row::ZERO));
    }

    /// The sums over the rows and over the chains for the block with hidden tile `hidden`.
    pub fn terms<'a>(&'a mut self, cpu: Cpu, shape: Shape, panels: &'a Panels, hidden: usize) -> [Terms<'a>; 2] {
        let Self { rows, chains, sums: [made, others] } = self;
        let vectors = vectors(shape.n_hidden(), hidden);
        [(&*rows, &panels.positive, made), (&*chains, &panels.negative, others)].map(|(inputs, panels, room)| {
            let panel = panels.len() / tiles(shape.n_hidden());
            inputs.terms(cpu.isa, &panels[hidden * panel..][..panel], hidden, vectors, room)
        })
    }
}

thread_local! {
    static SCRATCH: RefCell<TileScratch> = RefCell::default();
}

pub(super) fn with_scratch<T>(f: impl FnOnce(&mut TileScratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

dispatch! {
    /// Writes the transpose of a block, if a transpose is stored, except for idle units.
    pub(super) fn transpose_block(|l| weights: &[Row], transposed: &mut [Row], vectors: usize, idle: u64) {
        for (group, rows) in weights.as_chunks().0.iter().enumerate().take(transposed.len() / LANES) {
            if (idle >> (group * LANES)) as u16 == u16::MAX {
                continue;
            }
            for (v, columns) in transposed.as_chunks_mut().0.iter_mut().enumerate().take(vectors) {
                transpose(l, rows, v, columns, group);
            }
        }
    }
}

/// Transposes vector `v` of 16 rows to vector `group` of 16 rows.
#[inline(always)]
fn transpose<L: Wide>(l: L, from: &[Row; LANES], v: usize, to: &mut [Row; LANES], group: usize) {
    let mut rows = [l.splat(0.0); LANES];
    for i in 0..LANES {
        rows[i] = l.load(&from[i].0[v]);
    }
    let columns = l.transpose(rows);
    for i in 0..LANES {
        l.store(columns[i], &mut to[i].0[group]);
    }
}
