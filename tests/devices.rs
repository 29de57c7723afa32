//! The devices of the tests.

use std::sync::OnceLock;

use burn::tensor::{Device, wgpu::WgpuBackend};

/// burn-ndarray, which Burn has deprecated in favour of flex; offered all the same.
#[allow(deprecated)]
pub fn ndarray() -> Device {
    Device::ndarray()
}

/// The GPU, or Mesa's software for one: never absent in silence.
pub fn wgpu() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let init = || {
        let options = Device::wgpu_options().graphics_api(WgpuBackend::Auto);
        options.init().unwrap_or_else(|error| {
            panic!(
                "the tests of wgpu need a Vulkan driver, of software if there is no GPU; on Debian and \
                 Ubuntu `apt-get install mesa-vulkan-drivers`: {error}"
            )
        })
    };
    DEVICE.get_or_init(init).clone()
}
