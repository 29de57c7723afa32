//! Variables of the environment that Burn reads.

/// Sets a variable of this process, where it hasn't that value. To be called before threads are started that
/// could read it in C.
#[allow(unsafe_code)]
pub fn set(name: &str, value: &str) {
    if std::env::var_os(name).is_none_or(|is| is != value) {
        // SAFETY: Rust locks the environment where it reads it, and nothing else does at the same time.
        unsafe { std::env::set_var(name, value) };
    }
}
