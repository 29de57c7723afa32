//! The one place that knows the names of backends.

use std::fmt;

use burn::tensor::Device;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[cfg(feature = "flex")]
use crate::device_check::{self, Disagreement};

/// A Burn backend, by the name a user types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// CPU, Burn's maintained backend
    Flex,
    /// CPU, deprecated by Burn
    Ndarray,
    /// GPU, through WebGPU shaders on whatever graphics API is there
    Wgpu,
    /// GPU, through SPIR-V shaders
    Vulkan,
    /// GPU, on Apple machines
    Metal,
    /// GPU, by NVIDIA
    Cuda,
}

/// Why a backend cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The feature is off in this build.
    #[error(
        "this program was built without the backend {0}: build it in with \
         `cargo run -p train --features {0} -- --backend {0}` ({note}); built in are {list}",
        note = .0.note(),
        list = built_in()
    )]
    NotBuilt(Backend),
    /// No adapter, or one that refuses.
    #[error(
        "the backend {backend} finds no usable GPU here: {reason}. Install a driver (Mesa's software \
         Vulkan, Debian's mesa-vulkan-drivers, will do), or run on the CPU with --backend flex"
    )]
    NoAdapter {
        /// What was asked for.
        backend: Backend,
        /// What the driver said.
        reason: String,
    },
    /// A device that nothing can be trained on.
    #[cfg(feature = "flex")]
    #[error(
        "the backend {backend} computes wrong numbers on this machine: {disagreement}. Its driver or the compiler of its \
         kernels is at fault: run with another backend, or on the CPU with --backend flex"
    )]
    Wrong {
        /// What was asked for.
        backend: Backend,
        /// What came out.
        disagreement: Disagreement,
    },
}

impl Backend {
    /// The backends that are compiled in.
    const BUILT_IN: &[Self] = &[
        #[cfg(feature = "flex")]
        Self::Flex,
        #[cfg(feature = "ndarray")]
        Self::Ndarray,
        #[cfg(feature = "wgpu")]
        Self::Wgpu,
        #[cfg(feature = "vulkan")]
        Self::Vulkan,
        #[cfg(feature = "metal")]
        Self::Metal,
        #[cfg(feature = "cuda")]
        Self::Cuda,
    ];

    /// The device to compute on, without autodiff. To be asked for once, before anything else of Burn's. A GPU is
    /// [checked](device_check) against flex, where that is compiled in too.
    ///
    /// # Errors
    ///
    /// When the backend is not compiled in, has no adapter here or computes wrong numbers.
    pub fn device(self) -> Result<Device, BackendError> {
        self.make_default();
        let device = self.open()?;
        #[cfg(feature = "flex")]
        if !matches!(self, Self::Flex | Self::Ndarray) {
            device_check::check(&device, &Device::flex()).map_err(|disagreement| {
                BackendError::Wrong {
                    backend: self,
                    disagreement,
                }
            })?;
        }
        Ok(device)
    }

    /// What building it in takes, and whether anybody has.
    fn note(self) -> &'static str {
        match self {
            Self::Flex | Self::Ndarray => "it takes a CPU",
            Self::Wgpu => {
                "it takes a driver of Vulkan, OpenGL, Metal or Direct3D, which a software one is too"
            }
            Self::Vulkan => "it compiles and takes a driver of Vulkan; nobody has run it on a GPU",
            Self::Metal => "it takes a Mac; nobody has built it",
            Self::Cuda => {
                "its build downloads LLVM, and it takes an NVIDIA driver; nobody has built it"
            }
        }
    }

    fn open(self) -> Result<Device, BackendError> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // by Burn, in favour of flex; offered all the same
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.gpu(burn::tensor::wgpu::WgpuBackend::Auto),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => self.gpu(burn::tensor::wgpu::WgpuBackend::Vulkan),
            #[cfg(feature = "metal")]
            Self::Metal => self.gpu(burn::tensor::wgpu::WgpuBackend::Metal),
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                let found = Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
                found
                    .into_iter()
                    .next()
                    .ok_or_else(|| BackendError::NoAdapter {
                        backend: self,
                        reason: "no CUDA device".into(),
                    })
            }
            #[allow(unreachable_patterns)] // with every feature on
            _ => Err(BackendError::NotBuilt(self)),
        }
    }

    /// Burn puts an optimiser's restored state on its default device first, which is a GPU wherever one is
    /// compiled in, and panics where none is there. This environment variable is its one way to choose another.
    #[allow(unsafe_code)]
    fn make_default(self) {
        // SAFETY: no other thread runs yet that could read the environment at the same time.
        unsafe { std::env::set_var("BURN_DEVICE", self.to_string()) };
    }

    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    fn gpu(self, api: burn::tensor::wgpu::WgpuBackend) -> Result<Device, BackendError> {
        Device::wgpu_options()
            .graphics_api(api)
            .init()
            .map_err(|error| BackendError::NoAdapter {
                backend: self,
                reason: error.to_string(),
            })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no backend is hidden");
        f.write_str(value.get_name())
    }
}

/// The names of the backends that are compiled in.
fn built_in() -> String {
    let names: Vec<String> = Backend::BUILT_IN.iter().map(Backend::to_string).collect();
    names.join(", ")
}

/// What `--help` says below the backends' names.
pub fn help() -> String {
    let missing: Vec<String> = Backend::value_variants()
        .iter()
        .filter(|backend| !Backend::BUILT_IN.contains(backend))
        .map(|backend| format!("{backend} ({})", backend.note()))
        .collect();
    format!(
        "Backend to compute on. Built in: {}. By `cargo run -p train --features NAME`: {}",
        built_in(),
        missing.join(", ")
    )
}
