//! What the program says.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::OnceLock,
};
#[cfg(unix)]
use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Mutex,
};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Why a line could not be written to standard output, the first time.
static UNTOLD: OnceLock<io::Error> = OnceLock::new();

/// A line on standard output. The work goes on where it cannot be written, and [`all_was_told`] says so in the end.
pub fn say(line: impl fmt::Display) {
    told(writeln!(io::stdout(), "{line}"));
}

/// Remembers what could not be written. A reader that went away wants no more, and neither does a terminal that was closed.
pub fn told(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !is_of_a_closed_terminal(&error)
    {
        let _ = UNTOLD.set(error);
    }
}

/// Whether standard output was a terminal, which is gone.
fn is_of_a_closed_terminal(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use std::io::IsTerminal;

        use rustix::{
            fs::{FileType, fstat},
            io::Errno,
        };
        let is_device = fstat(io::stdout())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_char_device());
        is_device
            && !io::stdout().is_terminal()
            && error.raw_os_error() == Some(Errno::IO.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// # Errors
///
/// When something that was said could not be written to standard output. One that was closed is `/dev/null` since before
/// `main`: Rust opens that in its place.
pub fn all_was_told() -> Result<()> {
    match UNTOLD.get() {
        Some(error) => bail!("cannot write to standard output: {error}"),
        None => Ok(()),
    }
}

/// A line on standard error, if anybody is there: a terminal may have closed.
pub fn warn(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Standard error, while the dashboard's thread unwinds.
#[cfg(unix)]
static ASIDE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// To be called before the dashboard is shown. Its thread ends in a panic when the terminal is gone, and complains on standard
/// error while it unwinds: where that takes no more, as it is the same terminal, or a pipe or a disk that is full, it panics while it
/// panics, which ends the process. So from the first on nobody hears it, until [`the_dashboard_is_over`].
#[cfg(unix)]
pub fn outlive_the_dashboard() {
    use std::{fs::File, io::IsTerminal, panic, sync::Once, thread};

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let is_of_dashboard = thread::current().name() == Some("train-renderer");
            // One that is gone is none any more.
            match is_of_dashboard && !io::stdout().is_terminal() {
                true => warn("the terminal is gone; without it there is no dashboard"),
                false => usual(panic),
            }
            if is_of_dashboard
                && let Ok(nobody) = File::options().write(true).open("/dev/null")
                && let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned()
                && let Ok(mut aside) = ASIDE.lock()
                && rustix::stdio::dup2_stderr(&nobody).is_ok()
            {
                aside.get_or_insert(stderr);
            }
        }));
    });
}

/// To be called when the dashboard's thread has ended, however it did.
#[cfg(unix)]
pub fn the_dashboard_is_over() {
    if let Ok(mut aside) = ASIDE.lock()
        && let Some(stderr) = aside.take()
    {
        // Where this fails, nobody hears what comes.
        let _ = rustix::stdio::dup2_stderr(&stderr);
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn bar(length: u64, unit: &str) -> ProgressBar {
    let style = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}
