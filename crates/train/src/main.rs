//! Trains, evaluates and samples variational autoencoders with flow posteriors.

#![recursion_limit = "256"] // wgpu's types

mod backend;
mod cli;
mod config;
mod data;
#[cfg(feature = "flex")]
mod device_check;
mod flow;
#[cfg(test)]
mod heap;
#[cfg(test)]
mod hostile;
mod learn;
mod picture;
mod process;
mod random;
mod run;
mod task;
mod terminal;
mod vae;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, SampleArgs};
use learn::Ending;
use run::{RunDir, trained::Trained};
use task::Task;
use vae::VaeTask;

/// What a shell expects of a program that Ctrl-C stopped.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::start();
    let result = match &cli.command {
        None => learn::train::<VaeTask>(&cli.train),
        Some(Command::Evaluate(args)) => vae::evaluate::run(args).map(|()| Ending::Complete),
        Some(Command::Report(args)) => vae::report::run(args).map(|()| Ending::Complete),
        Some(Command::Sample(args)) => sample(args).map(|()| Ending::Complete),
    };
    match result {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Stopped) => ExitCode::from(STOPPED),
        Err(error) => {
            terminal::warn(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// `train sample`: pictures of what a run's best model makes.
fn sample(args: &SampleArgs) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    let trained = Trained::load(&run, args.place.apply(run.settings()?))?;
    VaeTask::draw(&run, &trained)
}
