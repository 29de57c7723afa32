//! Trains, evaluates and samples variational autoencoders with flow posteriors.

#![recursion_limit = "256"] // wgpu's types

mod backend;
mod checkpoint;
mod cli;
mod config;
mod data;
#[cfg(feature = "flex")]
mod device_check;
mod disk;
mod evaluate;
mod flow;
#[cfg(test)]
mod heap;
mod history;
#[cfg(test)]
mod hostile;
mod learner;
mod optimizer;
mod pack;
mod picture;
#[allow(dead_code)] // until `train density` draws with it
mod plot;
#[allow(dead_code)] // until `train density` reads them
mod points;
mod process;
mod progress;
mod random;
mod rate;
mod report;
mod run_dir;
mod sample;
mod stop;
mod trained;
mod training;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use training::Ending;

/// What a shell expects of a program that Ctrl-C stopped.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::start();
    let result = match &cli.command {
        None => training::run(&cli.train),
        Some(Command::Evaluate(args)) => evaluate::run(args).map(|()| Ending::Complete),
        Some(Command::Report(args)) => report::run(args).map(|()| Ending::Complete),
        Some(Command::Sample(args)) => sample::run(args).map(|()| Ending::Complete),
    };
    match result {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Stopped) => ExitCode::from(STOPPED),
        Err(error) => {
            progress::warn(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
