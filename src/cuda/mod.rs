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
//! | a worker carries a group of chains through all k steps | a block carries one chain; a grid is all chains |
//! | a lane of a vector holds one unit of the layer that is made | a thread does; a layer of more units than threads takes turns |
//! | active list, states in the second-level cache | active list, states in shared memory |
//! | tiles of 64 × 64 weights, in both directions | rows of weights padded to 128 bytes, in both directions; a warp reads 32 neighbours |
//! | loads run ahead of additions by out-of-order execution | 16 rows are loaded, then added in their order |
//! | `crate::lanes::Wide::draw`: vectors of states jump by 16 | each thread jumps to its unit, then from layer to layer |
//! | 16 partial sums in `f64`, halves added | 16 threads, halves added by shuffles |
//! | two splits among threads an update | one graph launch and two kernel launches an update |
//! | `learn`: 64 visible units, then their transposed block | a block of 32 × 32 weights, transposed in shared memory |
//!
//! The order of the files is that of use: `failure` (what the driver says), `launch` (memory and kernels), `sizes`, `blas`,
//! `opened` and `handle` (the device), `data` and `memory` (what lives there), `layers` (one layer from the other), `chains`,
//! `learn`, `energies`, `phases`. Each verb is written once; the two kinds of sums part in `layers` (a kernel, or a product and
//! a kernel), where chains move (a kernel for all steps, or loops of products) and in `learn` (a kernel, or two products).
//!
//! # An update
//!
//! The phases are captured once as a graph and repeated. What changes from update to update (which rows, which bit) is
//! written to device memory by `begin`, the generator's state is moved on by `finish`: nothing is frozen in the graph that
//! should not be. Other sizes, or parameters and chains at other addresses, make a new graph.
//!
//! | | launches by the host | kernels | copied to the device | copied back |
//! |---|---|---|---|---|
//! | CUDA, PCD watched by pseudo-likelihood | 3: `begin`, graph, `learn` | 6: `begin`, `propagate`, `pseudo_likelihood_of_bit`, `sweep`, `finish`, `learn` | 20 bytes, as arguments of `begin` and `learn` | 0 |
//! | CPU | – | 2 splits | 0 | 0 |
//!
//! An epoch costs one read-back: [`Trainer::report`](crate::Trainer::report) reads 8 bytes. Bytes that the processors read and
//! write in the tutorial's update (784 × 500, 20 rows, 20 chains, PCD-15), counted from the loops, not measured:
//!
//! | kernel | bytes | on the CPU |
//! |---|---|---|
//! | `sweep`: 20 chains × 15 steps × (about 100 active visible units × 2.0 kB + about 50 active hidden units × 3.1 kB) | 108 MB, second-level cache | the same 108 MB, of which each strip of weights comes into a core's second-level cache once a step and thread: 15 × 3.2 MB = 48 MB a thread |
//! | `propagate`: 20 rows × about 150 units that are not 0 × 2.0 kB | 6 MB | 6 MB |
//! | `pseudo_likelihood_of_bit`: 20 rows × about 100 × 2.0 kB | 4 MB | 4 MB |
//! | `learn`: W read, W and its transpose written, the means that belong to active units | 5 + 4 MB | 5 + 4 MB |
//!
//! # What to expect of it: an estimate, not a measurement
//!
//! On an H100 (132 multiprocessors at 1.7 GHz, 3.35 TB/s, 50 MB second-level cache, 67 TFLOP/s in `f32`). Nothing here was
//! ever timed.
//!
//! - *The tutorial's update: about 90 µs.* W and its transpose (3.2 MB) stay in the second-level cache. 20 chains keep 20
//!   multiprocessors busy; each takes in at most 64 bytes a cycle, 109 GB/s. A step reads 200 kB and 157 kB: 3.3 µs, which is
//!   the bound. It is reached if enough loads are in flight: at a latency of 280 cycles that takes 18 kB, and 16 warps of
//!   500 hidden units with 16 loads each have 32 kB. Four barriers, two lists and two exponentials a step add about 1 µs:
//!   15 steps are 64 µs. `propagate` and the pseudo-likelihood are one such half-step each, 4 and 3 µs, `learn` 5 µs (9 MB, two
//!   waits for memory a visible unit), `begin` and `finish` 2 µs each, and about 1.5 µs lie between two kernels. The design is
//!   within 1.5 times of its bound, and the bound is that one chain has one multiprocessor.
//! - *A sweep of 10 000 chains, one step: about 0.75 ms; 15 steps: 11 ms.* 3.6 GB a step at the 5.5 TB/s or so that the
//!   second-level cache gives to all multiprocessors together: 0.65 ms. The dense product is 15.7 GFLOP a step: 0.23 ms at
//!   the peak of the arithmetic, 0.35 ms at what matrix libraries reach: for many chains cuBLAS, about 0.41 ms with all
//!   that belongs to a step, is nearly twice as fast, and gives up the canonical bits for it.
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
//! | a sweep of k steps | 1 kernel | 1 + 4k: product, `activate`, product, `activate` |
//! | gradient and update | 1 kernel | 7: two conversions to numbers, two products, both biases, `transpose` |
//!
//! [`Sums::Gemm`](crate::Sums::Gemm) takes products always, [`Sums::Auto`](crate::Sums::Auto) from so many chains or rows on as
//! `handle` says. Both numbers follow from the estimates below and were never timed.
//!
//! PCD-k watched by pseudo-likelihood: 9 launches by the host (`begin`, graph, and the update's seven), 4k + 8 kernels in the
//! graph (three each of the positive phase and of the pseudo-likelihood, the sweep, `finish`); the first update of a kind
//! is launched kernel by kernel. Copied to the device: 28 bytes, as arguments (which rows, which bit, four times the
//! rate); copied back: 0. Bytes that move on the device, with M chains and B rows, besides what cuBLAS reads twice:
//!
//! | | bytes | M = 10 000, B = 20, 784 × 500 |
//! |---|---|---|
//! | a product, up or down | 4·M·(n_visible + n_hidden) + W | 53 MB |
//! | `activate` after it | 8·M·(units made) | 63 and 40 MB |
//! | a step | 16·M·(n_visible + n_hidden) + 2·W | 209 MB |
//! | update | 4·(M + B)·(3·n_visible + 2·n_hidden) + 6·W | 144 MB |
//!
//! What to expect on the same H100, never timed either:
//!
//! - *A sweep of 10 000 chains, one step: about 0.41 ms; 15 steps: 6.2 ms.* The two products are 15.7 GFLOP: 0.23 ms at the
//!   peak, 0.35 ms at the two thirds of it that matrix libraries reach; their bytes hide behind the arithmetic. `activate`
//!   moves 103 MB: 31 µs at the memory's speed, since 10 000 rows of both layers do not fit the cache, and about 70
//!   instructions a unit are 32 µs of arithmetic, part of it hidden: some 50 µs. Between the four kernels of a step lie 1.5 µs
//!   each. So arithmetic is the bound, and the design is within 1.8 times of the peak's 0.23 ms. The canonical estimate
//!   is 0.75 ms a step at MNIST's densities, and several times that where half of the units are on.
//! - *The update around it: about 0.25 ms.* Its product over the chains is 7.8 GFLOP, 0.18 ms at two thirds of the peak; 144 MB
//!   are 43 µs, half of it hidden; the monitor and the positive phase of 20 rows some 30 µs.
//! - *Where the two cross.* Canonical sums take 65 ns a chain and step once there are more chains than multiprocessors.
//!   A product of few rows does not fill the device: 1000 chains make 16 × 13 and 16 × 8 tiles of 64 × 64, which is 60 µs a
//!   step at half the speed and 75 with everything, against 65; 2000 chains about 115 against 130. Denser layers move that
//!   point down, hence 1024 chains. Of rows, those of real numbers none of which is 0 cost canonical sums 1.6 MB,
//!   0.29 µs each, those of MNIST's digits 0.3 MB, while a product of some hundred rows takes about 30 µs whatever their
//!   number: they cross near 100 and near 600 rows, and 256 lies between.
//!
//! TF32 would take the products to the tensor cores, some 5 times as fast, and make memory the bound: about 0.15 ms a step. It
//! rounds every weight to eleven bits and has a name of its own, [`Sums::GemmTf32`](crate::Sums::GemmTf32).
//!
//! # What is not verified
//!
//! The kernels were executed by an emulator, not by a GPU: `tests/cuda_emulator`. So nothing is known of how the real driver
//! compiles and schedules them, of weak memory ordering, of work that overlaps, of captures by a real driver, and of any time;
//! nor of cuBLAS's own numerics and speed, and whether it may be captured as it is here (its manual says so). The emulator's
//! double of it adds in orders of its own and rounds for TF32 as the hardware is said to. See the README.

mod blas;
mod chains;
mod data;
mod energies;
mod failure;
mod handle;
mod launch;
mod layers;
mod learn;
mod memory;
mod opened;
mod phases;
mod sizes;

pub(crate) use data::{Batch, Data};
pub use handle::{Cuda, Sweeps};
pub use opened::Program;
