use burn::tensor::Tensor;

use crate::{DiagonalGaussian, UniformTorus, map::Domain};

/// What a flow's points come from: each of these becomes one where a flow takes a base.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // A distribution has one.
pub enum Base {
    /// Of flows of any numbers.
    Gaussian(DiagonalGaussian),
    /// Of flows of angles.
    Torus(UniformTorus),
}

impl From<DiagonalGaussian> for Base {
    fn from(base: DiagonalGaussian) -> Self {
        Self::Gaussian(base)
    }
}

impl From<UniformTorus> for Base {
    fn from(base: UniformTorus) -> Self {
        Self::Torus(base)
    }
}

impl Base {
    /// What its points' coordinates are.
    pub(crate) fn domain(&self) -> Domain {
        match self {
            Self::Gaussian(_) => Domain::Line,
            Self::Torus(_) => Domain::Circle,
        }
    }

    /// The number of distributions and their dimension.
    pub(crate) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Gaussian(base) => base.dims(),
            Self::Torus(base) => base.dims(),
        }
    }

    /// What `rows` points are made of, `[rows, dim]`, from the device's own generator.
    pub(crate) fn noise(&self, rows: usize) -> Tensor<2> {
        match self {
            Self::Gaussian(base) => base.noise(rows),
            Self::Torus(base) => base.noise(rows),
        }
    }

    /// The points of noise, and their log-densities.
    pub(crate) fn rsample_and_log_prob(&self, noise: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        match self {
            Self::Gaussian(base) => base.rsample_and_log_prob(noise),
            Self::Torus(base) => (noise.clone(), base.log_prob(noise)),
        }
    }

    pub(crate) fn log_prob(&self, value: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Gaussian(base) => base.log_prob(value),
            Self::Torus(base) => base.log_prob(value),
        }
    }
}
