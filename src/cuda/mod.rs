//! The CUDA backend: the operations of the CPU on an NVIDIA GPU, with the same bits where sums are canonical.
//!
//! As on the CPU there are two kinds of sums: canonical sums and those of cuBLAS, which have their own section below. The rest
//! of the code is shared.
//!
//! With canonical sums every operation of [`Cuda`] is *canonical*, as every operation of [`Cpu`](crate::Cpu) is: sums take their
//! terms in the same order, the elementary functions are the same operations, and units draw the numbers at the same positions.
//! Parameters, data (eight bits stay eight bits), chains, the generator's state and the sums of the monitor stay on the device.
//!
//! | on the CPU | on the device |
//! |---|---|
//! | a worker carries a group of chains through all k steps | a block carries one chain; with few chains a cluster of blocks carries each; with many, all chains compute one layer after the other |
//! | a lane of a vector computes one unit of a layer | a thread does; it loops where a layer has more units than the block has threads |
//! | active list, states in the second-level cache | active list, states in shared memory |
//! | tiles of 64 × 64 weights, in both directions | rows of weights padded to 128 bytes, in both directions; a warp reads 32 neighbours |
//! | loads run ahead of additions by out-of-order execution | 16 rows are loaded, then added in order; a cluster copies all of them at once |
//! | `crate::lanes::Wide::draw`: vectors of states jump by 16 | each thread jumps to its unit, then from layer to layer |
//! | 16 partial sums in `f64`, halves added | 16 threads, halves added by shuffles |
//! | two splits among threads per update | one graph launch and two kernel launches per update |
//! | `learn`: 64 visible units, then their transposed block | a block of 8 × 64 weights, transposed in shared memory |
//! | rules of descent: splits over rows and chains, over hidden units, over visible units and weights | a kernel each: over rows and chains, over the units of both layers, over the weights |
//!
//! The order of the files is that of use. `failure`: the driver's errors. `buffer`, `arguments`: memory, and the arguments of
//! kernels. `launch`: kernels, graphs, the driver. `sizes`, `blas`. `opened`, `handle`: the device. `data`, `memory`, `work`: the
//! objects in its memory. `layers`: one layer from the other. `visible`: visible layers with several laws. `chains`, `grid`: Gibbs
//! steps, and those of many chains by approximate sums. `learn`, `descend`: updates, plain and by rules. `energies`, `phases`. `share`:
//! the chains that a process moves. `ranks`: several processes.
//!
//! Each operation is written once. The two kinds of sums differ in `layers` (a kernel, or a product and a kernel), in the steps of
//! chains (kernels, or loops of products) and in `learn` and `descend` (a kernel, or two products).
//!
//! # Chains
//!
//! | | used for | method |
//! |---|---|---|
//! | `sweep` | 34 chains and more, and any number for small models | a block carries one chain through all steps. A multiprocessor loads at most 64 bytes of weights per cycle |
//! | `sweep_in_clusters` | up to 33 chains on 132 multiprocessors, from compute capability 9.0 | eight blocks carry one chain; each computes some units of both layers. They write their bits into one another's shared memory by asynchronous stores, whose bytes the receiver counts |
//! | `layer_by_strips` | 256 chains and more, for large models | a block keeps the weights to 64 units in its shared memory and computes these units for one chain after the other |
//! | `draw_on_grid` | in place of strips for all steps of a sweep except the last, from compute capability 8.0 | matrix units add up weights rounded to 16 bits, and these sums decide almost every bit |
//!
//! `Cuda::sweeps_of` chooses. The bits are the same.
//!
//! # Chains on a grid
//!
//! Where no means are needed, a unit is one bit, and an approximate sum with a rigorous bound on its error almost always
//! decides it. The CPU works this way (`src/cpu/decision.rs` has the proof; `kernels/grid.cuh` has the formulas, printed from
//! the CPU's functions). So can matrix units, because sums of integers are the same in any order. A weight is 256·high + low,
//! two planes of bytes. A block multiplies the bits of 128 chains with both planes of 64 units, decides by the bound, and
//! computes canonical sums for the undecided units, a warp per unit.
//!
//! | a step of M chains | |
//! |---|---|
//! | products of bytes | 4·M·n_visible·n_hidden |
//! | planes, from the second-level cache | 4·n_visible·n_hidden bytes for every 128 chains |
//! | bits, from the second-level cache | M/8·n_visible·n_hidden/64 bytes in each direction |
//! | launches | 2, and 2 per sweep that round the weights |
//!
//! 10 000 chains of 784 × 500 units are 16·10⁹ multiplications and as many additions: 26 µs on an H100 at 60 % of NVIDIA's rate for
//! bytes, about what `mma.sync` reaches there. Drawing 12.8 million units at some 30 instructions takes 15 µs, the rest about
//! 10. This estimate is 50 µs against measured times of 289 for strips and 171 for TF32. *None of it has been measured on a
//! GPU.* `benches/gpu` compares `10000x15` and `1000x15` with `10000x15-strips`, `1000x15-strips` and the products of cuBLAS.
//!
//! The grid serves sweeps of more than one step: PCD-k and CD-k with k > 1, samplers and tempering. It starts at the same number of
//! chains as strips do, because fewer chains do not have enough blocks for all multiprocessors. It does not serve annealing, which
//! needs the hidden sums, clamped chains, or visible units of other laws. A block computes canonical sums in the same kernel if its
//! mean bound is above 0.1 or the model has no useful grid (a weight of 128 or more, or no finite weight). It does so as strips do,
//! but 128 rows of weights at a time.
//!
//! # Visible units of several laws
//!
//! The kernels above are for binary models. Other models compute a layer at a time, with either kind of sums: `propagate`, or a
//! product, computes the sums of all rows, and then `visible_layer` computes whatever the laws need, a thread per variable. Hidden
//! units read numbers x = s·v in device memory, in the layout of data rows. Those of a batch are scaled once per update, inside its
//! graph.
//!
//! | | kernels |
//! |---|---|
//! | a step | `propagate`, `visible_layer`, `propagate`, `activate` |
//! | a step of annealing | the same, with `gain_of_laws` before the last one |
//! | gradient and update | `learn_from_numbers`, or `descend_weights_from_numbers` in place of `descend_weights` |
//! | pseudo-likelihood | `propagate`, `pseudo_likelihood_of_states`, `pseudo_likelihood_of_sites`; for all variables also the kernels of bits |
//! | free energy, its gradient | also `own_energies` and `own_gradients`, where there are Gaussian units |
//!
//! Bits would take a thirty-second of that memory, but the main traffic is a row of weights for each unit that is not 0. None
//! of this has been timed on a device.
//!
//! # Missing values and clamped units
//!
//! A data set with missing values has the host's mask next to its values, which are 0 where they are missing: a missing unit
//! enters no sum of weights. Kernels that add up terms of visible units read the mask. Chains that clamp units, or leave out
//! the units that their row lacks, compute one layer after the other with either kind of sums: `propagate` or a product,
//! `activate` or `visible_layer`, and then `keep_visible`, which overwrites the sample. It reads or writes 4 to 8 bytes per visible unit, in addition
//! to the rows of weights of the active units. Such chains use neither `sweep` nor clusters, strips or the grid. The address of the
//! mask is in device memory, like that of the rows, so that one graph serves every batch. None of this has been timed on a device.
//!
//! # An update
//!
//! The phases are captured once as a graph and repeated. With canonical sums the graph has two branches: the sweep, and the
//! kernels that read the batch. `begin` writes to device memory whatever changes between updates (the address of the rows and
//! of their mask, the bit), and `finish` advances the generator's state: the graph contains nothing that has to change. Other
//! sizes, or parameters and chains at other addresses, need a new graph.
//!
//! | | launches by the host | kernels | copied to the device | copied back |
//! |---|---|---|---|---|
//! | CUDA, PCD monitored by pseudo-likelihood | 3: `begin`, graph, `learn` | 6: `begin`, `propagate`, `pseudo_likelihood_of_bit`, a sweep, `finish`, `learn` | 28 bytes, as arguments of `begin` and `learn` | 0 |
//! | the same by rules of descent | 5: `begin`, graph, `count_from_offsets`, `descend_biases`, `descend_weights` | 8 | 116 bytes | 0 |
//! | CPU | – | 2 splits, by rules 3 | 0 | 0 |
//!
//! With rules of descent ([`Descent`](crate::Descent)) three kernels replace `learn`. `count_from_offsets` computes P̂ and N̂
//! and two numbers for each row and chain, sixteen threads each. `descend_biases` computes everything that has a number for
//! each unit, a thread per unit, including what the weights need of it. `descend_weights` is `learn` with another step. The
//! second kernel slides the offsets, so it saves the offsets of this update in `centre` for the third one. These kernels read P
//! and N and write P̂ and N̂, 8·(M + B)·n_hidden bytes more than a plain update. They read the visible units once more, and with momentum they read and write the
//! velocities. At the tutorial's size the emulator counts 0.4 % more instructions than in `learn` with the centred gradient
//! alone, and 7 % with all rules. On an H200 an update of the recipe `density`, 100 rows and chains and 1 or 5 steps, takes 72 µs on average.
//! [`Average`](crate::descent::Average) launches `approach` four times, once for each list of parameters.
//!
//! An epoch costs one read-back: [`Trainer::report`](crate::Trainer::report) reads 8 bytes.
//!
//! # How long it takes
//!
//! Measured on an H200 (2026-11-26, driver 580.159.04; `docs/gpu.md` has the commands, and compares PyTorch and JAX):
//!
//! | | | bound by |
//! |---|---|---|
//! | the tutorial's update | 78 µs | 15 steps one after the other, 4.1 µs each |
//! | monitored by pseudo-likelihood | 79 µs | in parallel with the sweep it costs next to nothing |
//! | a step of 10 000 chains | 289 µs | instructions: in the upward half step some 1500 of a warp for a chain and 64 units |
//! | CD-1, 784 × 1024, 128 rows | 74 µs | three kernels one after the other |
//! | PCD-1, 784 × 2048, 512 rows and chains | 381 µs | `learn` and `propagate`, 193 and 89 µs on an H100 |
//!
//! *The tutorial's update.* Of a step's 6900 cycles some 2000 go into listing the active units, 3500 into copying their rows of
//! weights from the second-level cache and adding them, 1000 into drawing, 400 into the exchange of bits between the blocks
//! (`clock64` in a copy of the kernel). In half a step a warp executes seven hundred dependent instructions, at seven cycles
//! each: with so few chains the device waits for latency, whatever its bandwidth. The first design, a block per chain, took 8.4
//! µs a step. Clusters whose blocks meet at a barrier of the cluster took 5.8, since that barrier also waits for global memory
//! and empties the first-level cache. Clusters of 4 and 16 blocks are slower than those of 8, as are copies that bypass the
//! first-level cache (5.1 µs), copies by the warp that lists a row (8.2 µs) and direct loads without shared memory (4.4 µs).
//! Strides of rows that are odd multiples of a line, polling for the bits, and adding the first half of the rows while the
//! second one arrives change nothing.
//!
//! *Many chains.* One step of 10 000 chains reads 3.6 GB of weights, which the second-level cache delivers at 5.7 TB/s. Shared memory
//! is several times as fast, and then the instructions are the bound.
//!
//! # The sums of cuBLAS
//!
//! These suit many chains, and inputs that are not mostly 0. Every product of a layer with the weights is one call of cuBLAS,
//! between fused kernels. All chains make a step together: two products, each followed by one pass that adds the bias, takes σ
//! and samples. Only the order of cuBLAS's additions differs. So a result differs from the canonical one by rounding, and a
//! sample differs where u falls between two means that differ by rounding.
//!
//! | | canonical | cuBLAS |
//! |---|---|---|
//! | states | bits | numbers 0 and 1; bits at the end of a sweep |
//! | work of a step | rows of weights of the active units | all weights, at the speed of a matrix library |
//! | a sweep of k steps | 1 kernel, or 2k | 1 + 4k: product, `activate`, product, `activate` |
//! | gradient and update | 1 kernel | 7: two conversions to numbers, two products, both biases, `transpose` |
//! | update by rules | 3 kernels | 8: the first two of those, two conversions, two products, `descend_by_products`, `transpose` |
//!
//! PCD-k monitored by pseudo-likelihood: 9 launches by the host (`begin`, graph, and the update's seven), 4k + 8 kernels in the
//! graph (three each of the positive phase and of the pseudo-likelihood, the sweep, `finish`). The first update with given
//! sizes is launched kernel by kernel. Copied to the device: 36 bytes, as arguments (the addresses of the rows and of their
//! mask, the bit, four times the rate); copied back: 0. Bytes that move on the device, with M chains and B rows, without
//! repeated reads of cuBLAS:
//!
//! | | bytes | M = 10 000, B = 20, 784 × 500 |
//! |---|---|---|
//! | a product, up or down | 4·M·(n_visible + n_hidden) + W | 53 MB |
//! | `activate` after it | 8·M·(units of the layer) | 63 and 40 MB |
//! | a step | 16·M·(n_visible + n_hidden) + 2·W | 209 MB |
//! | update | 4·(M + B)·(3·n_visible + 2·n_hidden) + 6·W | 144 MB |
//!
//! [`Sums::Gemm`](crate::Sums::Gemm) always uses products; [`Sums::Auto`](crate::Sums::Auto) uses them from the numbers of rows or
//! runs in `handle`. On the H200 a step of 10 000 chains of digits takes 516 µs by products in `f32` and 171 in TF32, against 289
//! canonical: with a tenth of the units on, sums of active units are faster, so `Auto` leaves sweeps to them. An update of PCD-1
//! with 784 × 2048 units and 512 rows and chains takes 313 µs by products and 142 in TF32.
//!
//! TF32 uses the tensor cores for the products. It may round every weight to eleven bits, so it is a separate setting,
//! [`Sums::GemmTf32`](crate::Sums::GemmTf32).
//!
//! # What is verified
//!
//! On an H200 every test passes, with the PTX that comes with the crate and with what NVRTC compiles from the source. The
//! tutorial's
//! 37 500 updates and runs of the recipe `density` end in the CPU's models, byte for byte. The sanitizer finds neither memory faults
//! nor races. `docs/gpu.md` documents that run. Later PTX has run only on the emulator: it was compiled anew from functions
//! that Rust prints, with the same operations. The same holds for the kernels of visible layers with several laws, of missing
//! values and clamped units, and of the grid. No other card has been tried.

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
