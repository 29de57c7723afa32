//! What the program says.

use std::{
    fmt,
    io::{ErrorKind, Write},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// A line on standard output about a work that goes on whoever reads it.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error, if anybody is there: a terminal may have closed.
pub fn warn(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard output that is what a command is for. A reader that went away wants no more.
///
/// # Errors
///
/// When it cannot be written.
pub fn print(line: impl fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn bar(length: u64, unit: &str) -> ProgressBar {
    let style = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}
