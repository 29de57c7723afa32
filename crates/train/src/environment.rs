//! Variables of the environment that Burn reads.

use std::{collections::BTreeSet, sync::Mutex};

/// Sets a variable of this process, the first time that it is called for it: before any device is opened, whose driver may start
/// threads that read the environment in C.
#[allow(unsafe_code)]
pub fn set_once(name: &'static str, value: &str) {
    static SET: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SET.lock().expect("no panic while locked").insert(name) {
        // SAFETY: Rust locks the environment where it reads it; of other threads there are those of rayon's pool alone, which
        // read nothing of it.
        unsafe { std::env::set_var(name, value) };
    }
}
