//! Fused operations of the model, each with its backward pass, on the CPU backends.
//!
//! Every other backend and float type keeps the tensor operations; a GPU backend with fusion makes few kernels of them
//! by itself.

// The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]
// Without a CPU backend nobody calls what is written for them.
#![cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]

pub mod bernoulli;
