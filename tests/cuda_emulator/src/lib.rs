//! An emulator of libcuda and libcublas that executes PTX on the CPU.
//!
//! On the library path under the names of the real libraries, it lets a program that uses CUDA's driver interface run
//! on a machine without a GPU. Its memory is separate from the host's. It checks every access, reports races, and can shuffle
//! the order of everything that is unordered. The README documents its use.

pub mod blas;
mod build;
pub mod driver;
mod machine;
mod ptx;
mod settings;
#[cfg(test)]
mod tests;
