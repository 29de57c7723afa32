//! How this process uses the machine.

use std::{error::Error, io, sync::Mutex, thread};

#[cfg_attr(not(test), global_allocator)] // the tests have heap.rs
#[cfg_attr(test, allow(dead_code))]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// At least as many as a training on one device starts beside the pool: they step, save, show, and listen to signals. Burn panics
/// where it cannot have one.
pub const OTHERS: usize = 16;

/// The calling thread joins the pool that the operations divide themselves over, so that it works along where it would
/// wait, and none has to be woken for a small one. To be called once, on the thread that trains.
///
/// # Errors
///
/// When the system gives this process too few threads for that and for a training.
pub fn join_the_pool() -> io::Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .use_current_thread()
        .build_global();
    match pool {
        // What it comes from it says itself.
        Err(error) if error.source().is_some() => return Err(io::Error::other(error.to_string())),
        // It is there already, with which everything works too.
        _ => {}
    }
    check_threads(OTHERS)
}

/// # Errors
///
/// When the system does not give this process so many threads more.
pub fn check_threads(count: usize) -> io::Result<()> {
    let held = Mutex::new(());
    thread::scope(|threads| {
        // None ends before all have begun.
        let _hold = held.lock();
        let wait = || drop(held.lock());
        (0..count).try_for_each(|_| {
            let started = thread::Builder::new().spawn_scoped(threads, wait);
            started.map(drop)
        })
    })
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
