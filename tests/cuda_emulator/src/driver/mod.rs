//! The driver interface: the exports of libcuda.

mod device;
mod graph;
mod memory;
mod module;
mod state;
mod status;
mod stream;
mod work;

pub use state::{State, with_state};
pub use status::Status;
pub use work::Work;
