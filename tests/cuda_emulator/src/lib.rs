//! A double of libcuda and libcublas that executes PTX on the CPU.
//!
//! Put on the library path under the names of the real libraries, it lets a program that uses CUDA's driver interface run
//! on a machine without a GPU. Memory is apart from the host's, every access is checked, races are reported, and the order
//! of everything that has none can be shuffled. The README tells how to use it.

pub mod blas;
mod build;
pub mod driver;
mod machine;
mod ptx;
mod settings;
#[cfg(test)]
mod tests;
