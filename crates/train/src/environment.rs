//! Variables of the environment that Burn reads.

use std::sync::Once;

/// Sets Burn's default device, the first time that it is called: before any device is opened, whose driver may start threads
/// that read the environment in C.
#[allow(unsafe_code)]
pub fn set_default_device(name: &str) {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        // SAFETY: Rust locks the environment where it reads it; of other threads there are those of rayon's pool alone, which
        // read nothing of it.
        unsafe { std::env::set_var("BURN_DEVICE", name) };
    });
}
