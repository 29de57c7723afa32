//! How this process uses the machine.

use std::error::Error;

use rayon::ThreadPoolBuildError;

#[cfg_attr(not(test), global_allocator)] // the tests have heap.rs
#[cfg_attr(test, allow(dead_code))]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The calling thread joins the pool that the operations divide themselves over, so that it works along where it would
/// wait, and none has to be woken for a small one. To be called once, on the thread that trains.
///
/// # Errors
///
/// When the system gives this process no threads.
pub fn join_the_pool() -> Result<(), ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .use_current_thread()
        .build_global();
    match pool {
        Err(error) if error.source().is_some() => Err(error),
        // It is there already, with which everything works too.
        _ => Ok(()),
    }
}

/// `mi_option_purge_delay` of mimalloc's C header, versions 2 and 3, which the Rust crate leaves out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Every operation allocates what it returns. Memory that goes back to the system in between has to be cleared by it
/// again, page by page: it is kept. To be called once, first of all.
#[allow(unsafe_code)] // A call into C.
pub fn keep_memory() {
    // SAFETY: mimalloc's options are numbers that may be set at any time, from any thread; -1 is "never".
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
