//! Fused operations: one pass over memory where the tensor version makes a dozen an operation.
//!
//! They compute in `f32`, on the backends whose feature of this crate is on: flex and ndarray by slices, and stacks of
//! planar layers and the maps of one number by CubeCL kernels on wgpu, cuda and the other cube backends as well. For every
//! other backend and float type the callers keep the same mathematics as tensor operations, which is also what the tests
//! compare with.

// The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]
// Without a CPU backend nobody calls what is written for them.
#![cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]

pub mod autoregressive;
pub mod gaussian;
#[cfg(feature = "cube")]
mod kernel;
pub mod map;
pub mod stack;
