//! A deep belief net on harmonium's public interface.
//!
//! A [`Net`] owns the weights and biases of its layers. One RBM after another borrows a layer's buffers and trains them in
//! place ([`pretrain`]); the top one has the labels beside its inputs. Then a layer of softmax units is added, and
//! backpropagation changes the same buffers ([`fine_tune`]). Between these steps the stack is a generative model, from which [`sample`]
//! draws digits.
//!
//! | module | what it does |
//! |---|---|
//! | [`digits`] | rows with their labels |
//! | [`net`] | the layers, and their files |
//! | [`pretrain`] | contrastive divergence, layer by layer on the means of the layer below |
//! | [`sample`] | Gibbs chains in the top RBM, one pass down |
//! | [`backprop`] | the gradient of the cross-entropy, with dropout |
//! | [`fine_tune`] | minibatch gradient descent, with the epoch chosen on validation rows |
//!
//! Results are the same bits on any number of threads.

pub mod backprop;
pub mod digits;
pub mod fine_tune;
mod matrix;
pub mod net;
pub mod pretrain;
pub mod sample;

pub use digits::Digits;
pub use fine_tune::FineTuning;
pub use net::{Layer, Net};
pub use pretrain::Pretraining;
