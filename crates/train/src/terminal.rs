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

/// Remembers what could not be written. A reader that went away wants no more.
pub fn told(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = UNTOLD.set(error);
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

/// A progress bar on standard error; hidden where that is no terminal.
pub fn bar(length: u64, unit: &str) -> ProgressBar {
    let style = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}
