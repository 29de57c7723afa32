//! `train report`: what runs of VAEs have come to, as tables, learning curves and a page.

mod curves;
mod page;
pub mod run;
pub mod table;

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    cli::ReportArgs,
    report::folder::{self, Folder},
    terminal::say,
};
use table::Table;

/// Reads runs, writes their report into a folder of its own, and prints the table.
///
/// # Errors
///
/// When a run cannot be read, or the folder holds something else or cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let runs = run::read_all(&args.runs)?;
    let table = Table::new(&runs);
    let files = files(&table)?;
    let paths: Vec<PathBuf> = runs.iter().map(|run| run.path.clone()).collect();
    let folder = Folder::new(args.output.as_deref(), &paths)?;
    for (name, bytes) in &files {
        folder.write(name, bytes)?;
    }
    say(table.to_markdown());
    for missing in table.missing() {
        say(format_args!("not evaluated: {missing}"));
    }
    let path = folder.path().display();
    let names = files.map(|(name, _)| name).join(", ");
    say(format_args!("in {path}: {names}"));
    Ok(())
}

/// The files of a report by their names; first the one that says whose report it is.
///
/// # Errors
///
/// When there is no memory for them.
pub fn files(table: &Table) -> Result<[(&'static str, Vec<u8>); 4]> {
    let curves = curves::draw(table);
    let page = page::page(table, &curves);
    Ok([
        (folder::TABLE, table.to_csv()?),
        ("table.md", table.to_markdown().into()),
        ("curves.svg", curves.into()),
        ("report.html", page.into()),
    ])
}
