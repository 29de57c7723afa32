//! The one place that knows the names of backends.

use std::{fmt, str::FromStr};

use burn::tensor::{Device, DeviceType};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[cfg(feature = "flex")]
use crate::device_check::{self, Disagreement};
#[cfg(feature = "remote")]
use crate::remote::{self, NoDevice};
use crate::{environment, remote::Address};

/// A Burn backend, by the name a user types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// CPU, Burn's maintained backend
    #[default]
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
    /// Devices of other machines, which `train serve` offers there
    Remote,
}

/// One of a backend's devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DeviceName {
    /// Of this machine, from 0.
    Number(usize),
    /// Of another.
    Remote(Address),
}

/// Why a backend cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The feature is off in this build.
    #[error(
        "this program was built without the backend {0}: build it in with \
         `cargo run -p train --features {0} -- {flag}` ({note}); built in are {list}",
        flag = .0.flag(),
        note = .0.note(),
        list = built_in()
    )]
    NotBuilt(Backend),
    /// No device has this number.
    #[error("--devices {number}: the backend {backend} has {} here", numbered(*count))]
    NoDevice {
        /// Which backend.
        backend: Backend,
        /// What was asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// One of another backend, or none where it takes an address.
    #[error("--backend {0}: --devices names its devices as {names}", names = .0.names())]
    Unnamed(Backend),
    /// A server that can't be trained on.
    #[cfg(feature = "remote")]
    #[error(transparent)]
    Remote(#[from] NoDevice),
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
        #[cfg(feature = "remote")]
        Self::Remote,
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
        self.check(&device)?;
        Ok(device)
    }

    /// Those of its devices that have these names, in this order; one that stands there twice takes two parts of the work.
    /// A server has checked its own.
    ///
    /// # Errors
    ///
    /// As [`device`](Self::device) of each, and when there is none of a name.
    pub fn devices(self, names: &[DeviceName]) -> Result<Vec<Device>, BackendError> {
        self.make_default();
        if self == Self::Remote {
            let addresses = names.iter().map(DeviceName::address);
            let addresses: Option<Vec<&Address>> = addresses.collect();
            return self.connect(&addresses.ok_or(BackendError::Unnamed(self))?);
        }
        let numbers = names.iter().map(DeviceName::number);
        let numbers: Option<Vec<usize>> = numbers.collect();
        let numbers = numbers.ok_or(BackendError::Unnamed(self))?;
        // What cannot be had says so itself.
        self.open()?;
        let there = self.enumerate();
        let mut devices: Vec<Device> = Vec::new();
        for (i, &number) in numbers.iter().enumerate() {
            let device = there.get(number).ok_or(BackendError::NoDevice {
                backend: self,
                number,
                count: there.len(),
            })?;
            if !numbers[..i].contains(&number) {
                self.check(device)?;
            }
            devices.push(device.clone());
        }
        Ok(devices)
    }

    fn enumerate(self) -> Vec<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => vec![Device::flex()],
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // as below
            Self::Ndarray => vec![Device::ndarray()],
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::enumerate(DeviceType::Wgpu).into_vec(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::enumerate(DeviceType::Vulkan).into_vec(),
            #[cfg(feature = "metal")]
            Self::Metal => Device::enumerate(DeviceType::Metal).into_vec(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::enumerate(DeviceType::Cuda).into_vec(),
            _ => Vec::new(),
        }
    }

    #[cfg(feature = "remote")]
    fn connect(self, addresses: &[&Address]) -> Result<Vec<Device>, BackendError> {
        let devices = addresses.iter().map(|address| remote::connect(address));
        Ok(devices.collect::<Result<_, _>>()?)
    }

    #[cfg(not(feature = "remote"))]
    fn connect(self, _: &[&Address]) -> Result<Vec<Device>, BackendError> {
        Err(BackendError::NotBuilt(self))
    }

    /// Refuses a GPU that computes other numbers than flex.
    fn check(self, device: &Device) -> Result<(), BackendError> {
        #[cfg(feature = "flex")]
        if !matches!(self, Self::Flex | Self::Ndarray) {
            device_check::check(device, &Device::flex()).map_err(|disagreement| {
                BackendError::Wrong {
                    backend: self,
                    disagreement,
                }
            })?;
        }
        #[cfg(not(feature = "flex"))]
        let _ = device;
        Ok(())
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
            Self::Remote => "it takes `train serve` on another machine",
        }
    }

    /// How it is asked for.
    fn flag(self) -> String {
        match self {
            Self::Remote => "--devices remote:HOST:PORT".into(),
            _ => format!("--backend {self}"),
        }
    }

    /// What its devices are called.
    fn names(self) -> &'static str {
        match self {
            Self::Remote => "remote:HOST:PORT or remote:HOST:PORT/N",
            _ => "numbers from 0",
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
                self.enumerate()
                    .into_iter()
                    .next()
                    .ok_or_else(|| BackendError::NoAdapter {
                        backend: self,
                        reason: "no CUDA device".into(),
                    })
            }
            #[cfg(feature = "remote")]
            Self::Remote => Err(BackendError::Unnamed(self)),
            #[allow(unreachable_patterns)] // with every feature on
            _ => Err(BackendError::NotBuilt(self)),
        }
    }

    /// Burn puts an optimiser's restored state on its default device first, which is a GPU wherever one is
    /// compiled in, and panics where none is there. This environment variable is its one way to choose another; for
    /// devices of other machines it is this one's first.
    fn make_default(self) {
        let here = match self {
            Self::Remote => *Self::BUILT_IN.first().unwrap_or(&self),
            _ => self,
        };
        environment::set_once("BURN_DEVICE", &here.to_string());
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

impl DeviceName {
    fn number(&self) -> Option<usize> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Remote(_) => None,
        }
    }

    /// Where it is, of another machine's.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Number(_) => None,
            Self::Remote(address) => Some(address),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Remote(address) => address.fmt(f),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => Ok(Self::Remote(text.parse()?)),
        }
    }
}

/// So many devices, in words.
fn numbered(count: usize) -> String {
    match count {
        0 => "no devices".into(),
        1 => "one device, number 0,".into(),
        _ => format!("devices 0 to {}", count - 1),
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
