//! What the program says.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::OnceLock,
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

/// Whether standard output was a terminal, which is gone: of other devices none fails so.
fn is_of_a_closed_terminal(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::{
            fs::{FileType, fstat},
            io::Errno,
        };
        let is_device = fstat(io::stdout())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_char_device());
        is_device && error.raw_os_error() == Some(Errno::IO.raw_os_error())
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

/// To be called before the dashboard is shown. Its thread ends in a panic when the terminal is gone, and says so on standard
/// error while it unwinds: where that is gone too it panics while it panics, which ends the process, unless from the first on
/// nobody listens there.
#[cfg(unix)]
pub fn outlive_the_dashboard() {
    use std::{fs::File, io::IsTerminal, panic, sync::Once};

    static ONCE: Once = Once::new();
    // One that is gone is none any more.
    let is_terminal = || io::stderr().is_terminal();
    if !is_terminal() {
        return;
    }
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            usual(panic);
            if !is_terminal()
                && let Ok(nobody) = File::options().write(true).open("/dev/null")
            {
                // Where this fails, it is as it was.
                let _ = rustix::stdio::dup2_stderr(&nobody);
            }
        }));
    });
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn bar(length: u64, unit: &str) -> ProgressBar {
    let style = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}
