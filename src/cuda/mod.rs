//! CUDA: the same operations as on the CPU, and with canonical sums the same bits, on an NVIDIA GPU.
//!
//! Two ways to make sums, as on the CPU: canonical ones, and cuBLAS's, which have a section of their own below. Everything else
//! is shared.
//!
//! With canonical sums every verb of [`Cuda`] is *canonical*, as every verb of [`Cpu`](crate::Cpu) is: sums take their terms in
//! the same order, the elementary functions are the same operations, units draw the numbers at the same positions.
//! Parameters, data (eight bits stay eight bits), chains, the generator's state and the sums of the monitor live on the device.
//!
//! | on the CPU | on the device |
//! |---|---|
//! | a worker carries a group of chains through all k steps | a block carries one chain; few chains get a cluster of blocks each; of many all make one layer after the other |
//! | a lane of a vector holds one unit of the layer that is made | a thread does; a layer of more units than threads takes turns |
//! | active list, states in the second-level cache | active list, states in shared memory |
//! | tiles of 64 × 64 weights, in both directions | rows of weights padded to 128 bytes, in both directions; a warp reads 32 neighbours |
//! | loads run ahead of additions by out-of-order execution | 16 rows are loaded, then added in their order; a cluster copies all of them at once |
//! | `crate::lanes::Wide::draw`: vectors of states jump by 16 | each thread jumps to its unit, then from layer to layer |
//! | 16 partial sums in `f64`, halves added | 16 threads, halves added by shuffles |
//! | two splits among threads an update | one graph launch and two kernel launches an update |
//! | `learn`: 64 visible units, then their transposed block | a block of 8 × 64 weights, transposed in shared memory |
//! | rules of descent: splits over rows and chains, over hidden units, over visible units and weights | a kernel each: over rows and chains, over the units of both layers, over the weights |
//!
//! The order of the files is that of use: `failure` (what the driver says), `buffer` and `arguments` (memory, and what kernels
//! take), `launch` (kernels, graphs, the driver), `sizes`, `blas`,
//! `opened` and `handle` (the device), `data`, `memory` and `work` (what lives there), `layers` (one layer from the other),
//! `visible` (visible layers of several laws), `chains`, `grid` (many chains by rough sums), `learn`, `descend` (updates by rules, and
//! what rules keep), `energies`, `phases`. `share` tells which chains a process moves, `ranks` has several processes. Each verb is written once; the two kinds of sums part in `layers` (a kernel, or a product and a kernel), where
//! chains move (kernels, or loops of products) and in `learn` and `descend` (a kernel, or two products).
//!
//! # Chains
//!
//! | | where | how |
//! |---|---|---|
//! | `sweep` | 34 chains and more, and all of small models | a block carries one chain through all steps. A multiprocessor takes in 64 bytes of weights a cycle at most |
//! | `sweep_in_clusters` | up to 33 chains on 132 multiprocessors, from compute capability 9.0 on | eight blocks carry one chain, each some units of both layers. They write their bits into one another's shared memory by asynchronous stores, whose bytes the receiver counts |
//! | `layer_by_strips` | from 256 chains on, of large models | a block keeps the weights to 64 units in its shared memory and makes these units of one chain after the other |
//! | `draw_on_grid` | in the place of strips for all steps of a sweep but the last, from compute capability 8.0 on | matrix units add up weights rounded to 16 bits, and almost every bit is decided by these sums |
//!
//! `Cuda::sweeps_of` chooses. The bits are the same.
//!
//! # Chains on a grid
//!
//! Where nobody wants means, a unit is one bit, and a rough sum with a rigorous bound on its error almost always decides it. So do CPUs
//! (`src/cpu/decision.rs` has the proof, `kernels/grid.cuh` its formulas, printed from the CPU's functions), and matrix units can, for sums of
//! whole numbers are the same in any order. A weight is 256·high + low, two planes of bytes; a block multiplies the bits of 128 chains
//! with both planes of 64 units, decides by the bound, and makes canonical sums of what stays open, a warp a unit.
//!
//! | a step of M chains | |
//! |---|---|
//! | products of bytes | 4·M·n_visible·n_hidden |
//! | planes, from the second-level cache | 4·n_visible·n_hidden bytes for every 128 chains |
//! | bits, from there | M/8·n_visible·n_hidden/64 bytes each way |
//! | launches | 2, and 2 a sweep that round the weights |
//!
//! 10 000 chains of 784 × 500 units are 16·10⁹ multiplications and as many additions: 26 µs on an H100 at 60 % of the rate that NVIDIA
//! gives for bytes, about what `mma.sync` reaches there; drawing 12.8 million units at some 30 instructions takes 15 µs, the rest
//! about 10. That is an estimate of 50 µs against 289 measured for strips and 171 for TF32. *None of it has been measured on a
//! GPU.* `benches/gpu` compares: `10000x15` and `1000x15` against `10000x15-strips`, `1000x15-strips` and the products of cuBLAS.
//!
//! The grid serves sweeps of more than one step, so PCD-k and CD-k with k > 1, samplers and tempering, from as many chains on as
//! strips do: with fewer there are not enough blocks for all multiprocessors. It does not serve annealing, whose hidden sums are
//! wanted, chains that hold units, and visible units of other laws. A block whose mean bound is above 0.1, or a model without a useful
//! grid (a weight of 128 and more, or none that is finite), makes canonical sums in the same kernel, as strips do but
//! 128 rows of weights at a time.
//!
//! # Visible units of several laws
//!
//! Binary models take the roads of this page. Others go a layer at a time, with either kind of sums: `propagate`, or a product,
//! makes the sums of all rows, and then `visible_layer` all that the laws ask for, a thread a variable. What hidden units read
//! are numbers x = s·v in device memory, as rows of data are; those of a batch are scaled once an update, inside its graph.
//!
//! | | kernels |
//! |---|---|
//! | a step | `propagate`, `visible_layer`, `propagate`, `activate` |
//! | a step of annealing | the same, with `gain_of_laws` before the last one |
//! | gradient and update | `learn_from_numbers`, or `descend_weights_from_numbers` in the place of `descend_weights` |
//! | pseudo-likelihood | `propagate`, `pseudo_likelihood_of_states`, `pseudo_likelihood_of_sites`; of all variables also those of bits |
//! | free energy, its gradient | also `own_energies` and `own_gradients`, where there are Gaussian units |
//!
//! Bits would be a thirty-second of that memory, and what is read besides, a row of weights for each unit that is not 0, is
//! far more. None of this has been timed on a device.
//!
//! # Missing values and held units
//!
//! A data set with missing values has the host's mask beside its values, which are 0 there: a unit that is missing enters no sum of
//! weights. Kernels that add up terms of visible units ask the mask. Chains that hold units, or leave out those that their row
//! lacks, make one layer after the other with either kind of sums: `propagate` or a product, `activate` or `visible_layer`, and then
//! `keep_visible`, which writes over what was drawn. That reads or writes 4 to 8 bytes of each visible unit, beside the rows of
//! weights of the active ones; roads that carry a chain through all steps, clusters and strips are not for these chains. The mask's
//! address is device memory's, like that of the rows: a graph goes on from batch to batch. None of this has been timed on a device.
//!
//! # An update
//!
//! The phases are captured once as a graph and repeated; with canonical sums what looks at the batch lies beside the sweep in it.
//! What changes from update to update (which rows, which mask, which bit) is written to device memory by `begin`, the generator's state is
//! moved on by `finish`: nothing is frozen in the graph that should not be. Other sizes, or parameters and chains at other
//! addresses, make a new graph.
//!
//! | | launches by the host | kernels | copied to the device | copied back |
//! |---|---|---|---|---|
//! | CUDA, PCD watched by pseudo-likelihood | 3: `begin`, graph, `learn` | 6: `begin`, `propagate`, `pseudo_likelihood_of_bit`, a sweep, `finish`, `learn` | 28 bytes, as arguments of `begin` and `learn` | 0 |
//! | the same by rules of descent | 5: `begin`, graph, `count_from_offsets`, `descend_biases`, `descend_weights` | 8 | 116 bytes | 0 |
//! | CPU | – | 2 splits, by rules 3 | 0 | 0 |
//!
//! What [`Descent`](crate::Descent) asks of an update takes the place of `learn`: `count_from_offsets` makes P̂ and N̂ and two
//! numbers of each row and chain, sixteen threads each; `descend_biases` all that has a number for each unit, a thread a unit,
//! with what the weights need of it; `descend_weights` is `learn` with another step. Offsets slide in the second one, so the
//! third one finds in `centre` what this update counts from. That reads P and N and writes P̂ and N̂, 8·(M + B)·n_hidden bytes
//! beside those of a plain update, reads the visible units once more, and velocities, which are read and written, where there is
//! momentum. At the tutorial's size the emulator counts 0.4 % more instructions than in `learn` with the centred gradient alone, and
//! 7 % with all rules. On an H200 an update of the recipe `density`, 100 rows and chains and 1 or 5 steps, takes 72 µs on average.
//! [`Average`](crate::descent::Average) is four launches of `approach`, one for each list of parameters.
//!
//! An epoch costs one read-back: [`Trainer::report`](crate::Trainer::report) reads 8 bytes.
//!
//! # How long it takes
//!
//! Measured on an H200 (2026-11-26, driver 580.159.04; `docs/gpu.md` has the commands, and PyTorch and JAX beside it):
//!
//! | | | bound by |
//! |---|---|---|
//! | the tutorial's update | 78 µs | 15 steps one after the other, 4.1 µs each |
//! | watched by pseudo-likelihood | 79 µs | beside the sweep it costs next to nothing |
//! | a step of 10 000 chains | 289 µs | instructions: on the way up some 1500 of a warp for a chain and 64 units |
//! | CD-1, 784 × 1024, 128 rows | 74 µs | three kernels one after the other |
//! | PCD-1, 784 × 2048, 512 rows and chains | 381 µs | `learn` and `propagate`, 193 and 89 µs on an H100 |
//!
//! *The tutorial's update.* Of a step's 6900 cycles some 2000 go into listing the active units, 3500 into copying their rows of
//! weights from the second-level cache and adding them, 1000 into drawing, 400 into the exchange of bits between the blocks
//! (`clock64` in a copy of the kernel). Seven hundred instructions of a warp come one after the other in half a step, at seven
//! cycles each: with so few chains the device waits, whatever its bandwidth. The first design, a block a chain, took 8.4 µs
//! a step; clusters whose blocks meet at a barrier of the cluster 5.8, since that barrier waits for global memory too and empties
//! the first-level cache. Clusters of 4 and 16 blocks are slower than those of 8, as are copies past the first-level cache (5.1 µs),
//! copies by the warp that lists a row (8.2 µs) and direct loads without shared memory (4.4 µs). Strides of rows that are odd
//! multiples of a line, polling for the bits and adding the first half of the rows while the second one comes change
//! nothing.
//!
//! *Many chains.* One step of 10 000 chains reads 3.6 GB of weights, which the second-level cache gives at 5.7 TB/s. Shared memory
//! gives several times as much, and then the instructions are the bound.
//!
//! # The sums of cuBLAS
//!
//! For many chains and for inputs that are not mostly 0: every product of a layer with the weights is one call of cuBLAS, with
//! fused kernels around it. All chains make a step together: two products, each followed by one pass that adds the bias, takes
//! σ and draws. Only the order in which cuBLAS adds is its own. So a result differs from the canonical one by rounding, and a
//! sample where u falls between two means that differ by rounding.
//!
//! | | canonical | cuBLAS |
//! |---|---|---|
//! | states | bits | numbers 0 and 1; bits at the end of a sweep |
//! | work of a step | rows of weights of the active units | all weights, at the speed of a matrix library |
//! | a sweep of k steps | 1 kernel, or 2k | 1 + 4k: product, `activate`, product, `activate` |
//! | gradient and update | 1 kernel | 7: two conversions to numbers, two products, both biases, `transpose` |
//! | update by rules | 3 kernels | 8: the first two of those, two conversions, two products, `descend_by_products`, `transpose` |
//!
//! PCD-k watched by pseudo-likelihood: 9 launches by the host (`begin`, graph, and the update's seven), 4k + 8 kernels in the
//! graph (three each of the positive phase and of the pseudo-likelihood, the sweep, `finish`); the first update of a kind
//! is launched kernel by kernel. Copied to the device: 36 bytes, as arguments (which rows, their mask, which bit, four
//! times the rate); copied back: 0. Bytes that move on the device, with M chains and B rows, besides what cuBLAS reads twice:
//!
//! | | bytes | M = 10 000, B = 20, 784 × 500 |
//! |---|---|---|
//! | a product, up or down | 4·M·(n_visible + n_hidden) + W | 53 MB |
//! | `activate` after it | 8·M·(units made) | 63 and 40 MB |
//! | a step | 16·M·(n_visible + n_hidden) + 2·W | 209 MB |
//! | update | 4·(M + B)·(3·n_visible + 2·n_hidden) + 6·W | 144 MB |
//!
//! [`Sums::Gemm`](crate::Sums::Gemm) takes products always, [`Sums::Auto`](crate::Sums::Auto) from so many rows or runs on as
//! `handle` says. On the H200 a step of 10 000 chains of digits takes 516 µs by products in `f32`, 171 in TF32, against 289
//! canonical: at a tenth of the units on, sums of active units are the faster ones, so `Auto` leaves sweeps to them. An update of PCD-1
//! with 784 × 2048 units and 512 rows and chains takes 313 µs by products and 142 in TF32.
//!
//! TF32 takes the products to the tensor cores. It may round every weight to eleven bits and has a name of its own,
//! [`Sums::GemmTf32`](crate::Sums::GemmTf32).
//!
//! # What is verified
//!
//! On an H200 every test passes, with the PTX that comes with the crate and with what NVRTC makes of the source; the tutorial's
//! 37 500 updates and runs of the recipe `density` end in the CPU's models, byte for byte; the sanitizer finds neither faults of memory
//! nor races. `docs/gpu.md` has that run; since then the PTX was made anew from functions that Rust prints, the same
//! operations, and has run on the emulator alone; so have the kernels of visible layers of several laws, of missing values and
//! held units, and of the grid. No second card beside the first has been tried.

mod arguments;
mod blas;
mod buffer;
mod chains;
mod data;
mod descend;
mod energies;
mod failure;
mod grid;
mod handle;
mod launch;
mod layers;
mod learn;
mod memory;
mod opened;
mod phases;
#[cfg(feature = "mpi")]
mod ranks;
mod share;
mod sizes;
mod visible;
mod work;

pub(crate) use data::{Batch, Data};
pub use handle::{Cuda, Sweeps};
pub use opened::Program;
#[cfg(feature = "mpi")]
pub use ranks::CudaRanks;
