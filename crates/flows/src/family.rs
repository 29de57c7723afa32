//! One family of flows a file; `families.rs` lists them.

pub mod act_norm;
pub mod autoregressive;
pub mod coupling;
pub mod householder;
pub mod lu_linear;
pub mod permutation;
pub mod planar;
pub mod radial;
pub mod rotation;
pub mod sylvester;
