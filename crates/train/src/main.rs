//! Trains, evaluates and samples normalizing flows: as posteriors of autoencoders, as densities, against energies.

#![recursion_limit = "256"] // wgpu's types

mod backend;
mod cli;
mod config;
mod curves;
mod data;
mod density;
#[cfg(feature = "flex")]
mod device_check;
mod energy;
mod environment;
mod evaluation;
mod flow;
#[cfg(test)]
mod heap;
#[cfg(test)]
mod hostile;
mod learn;
mod picture;
mod plot;
mod points;
mod process;
mod random;
mod remote;
mod report;
mod run;
mod sample;
mod serve;
mod task;
mod terminal;
mod vae;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cli::{Cli, Command};
use density::DensityTask;
use learn::Ending;
use run::disk;
use vae::VaeTask;

/// What a shell expects of a program that Ctrl-C stopped.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => {
            process::keep_memory();
            remote::caught(|| run(&cli).map_err(remote::explained))
                .unwrap_or_else(|cause| bail!(cause))
        }
        Err(misuse) if misuse.use_stderr() => misuse.exit(),
        Err(help) => {
            terminal::told(help.print());
            Ok(Ending::Complete)
        }
    };
    match ended.and_then(|ending| terminal::all_was_told().map(|()| ending)) {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Stopped) => ExitCode::from(STOPPED),
        Err(error) => {
            terminal::warn(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Ending> {
    // A thread that only waits for others would be missing from the pool.
    if !matches!(cli.command, Some(Command::Serve(_))) {
        process::join_the_pool().context(
            "cannot start threads: is their number or the memory of this process limited (ulimit -u, -v)?",
        )?;
    }
    disk::outlive_limits()?;
    match &cli.command {
        None => learn::train::<VaeTask>(&cli.train),
        Some(Command::Density(args)) => learn::train::<DensityTask>(args),
        Some(Command::Energy(args)) => energy::restarts::train(args),
        Some(Command::Evaluate(args)) => evaluation::run(args).map(|()| Ending::Complete),
        Some(Command::Estimates(args)) => vae::estimates::run(args).map(|()| Ending::Complete),
        Some(Command::LogProb(args)) => density::log_prob::run(args).map(|()| Ending::Complete),
        Some(Command::Report(args)) => report::run(args).map(|()| Ending::Complete),
        Some(Command::Sample(args)) => sample::run(args).map(|()| Ending::Complete),
        Some(Command::Serve(args)) => serve::run(args).map(|()| Ending::Complete),
    }
}
