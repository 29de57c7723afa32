//! A long training does not take more and more memory. `SOAK_EPOCHS=3847` makes it 50,000 steps, and `SOAK_BACKEND=wgpu`
//! is another backend.

use std::env;

use end_to_end::{Place, TINY};

/// After half of the epochs memory is what it is at the end.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow() {
    let epochs: usize = env::var("SOAK_EPOCHS").map_or(200, |text| text.parse().expect("a number"));
    let backend = env::var("SOAK_BACKEND").unwrap_or("flex".into());
    let at = Place::new();
    let mut running = at.start(&format!(
        "{TINY} --epochs {epochs} --backend {backend} --output run"
    ));
    let width = epochs.to_string().len();
    let mut memory = |epoch: usize| {
        running.wait_for(&format!("epoch {epoch:>width$}/"));
        running.memory()
    };
    let (early, late) = (memory(epochs / 2), memory(epochs - 1));
    running.finish().succeeds();
    let mib = |bytes| bytes >> 20;
    println!(
        "{backend}: {} MiB after {} epochs, {} MiB after {}",
        mib(early),
        epochs / 2,
        mib(late),
        epochs - 1
    );
    assert!(
        late < early + early / 20 + (4 << 20),
        "{} MiB became {} MiB",
        mib(early),
        mib(late)
    );
}
