//! The command line.

mod finished;
mod groups;
mod serve;
mod tasks;

use clap::{Parser, Subcommand};

pub use finished::{EstimatesArgs, EvaluateArgs, LogProbArgs, ReportArgs, SampleArgs, Subjects};
pub use groups::Flags;
pub use serve::ServeArgs;
pub use tasks::{DensityArgs, EnergyArgs, TrainArgs};

/// Train normalizing flows: as the posterior of a variational autoencoder, as a density, or against an energy.
///
/// Without arguments an autoencoder learns the handwritten digits that it carries with it, and leaves a run
/// folder with the configuration, metrics, checkpoints and pictures.
#[derive(Parser, Debug)]
#[command(name = "train", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  train                                    the embedded digits, some seconds on two cores
  train --backend wgpu                     the same on a GPU
  train --dataset mnist --layers 80        MNIST with 80 planar layers
  train --resume runs/digits-1             go on after an interruption
  train evaluate runs/digits-1             the test set's ELBO and NLL, and the gap between them
  train evaluate runs/a runs/b             the same of both, and their paired differences
  train estimates runs/digits-1 --ais 500  how good that NLL is
  train sample runs/digits-1               pictures
  train report runs/a runs/b               their table, learning curves and a page
  train energy --energy u2                 planar layers against one of the paper's energies
  train energy --energy u2 --restarts 5    the best of five seeds
  train density --points two-moons         a spline flow fitted to points; or to those of a CSV file
  train sample runs/two-moons-1 --count 9  as many points of it
  train log-prob runs/two-moons-1 new.csv  the log-density of others
  train serve --backend wgpu               let other machines train on this one")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainArgs,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Fit a flow to points: their density, or that of some columns given others
    #[command(mut_arg("flow", |arg| arg.help("Family of the flow [default: spline]")))]
    #[command(mut_arg("layers", |arg| arg.help("Layers of the flow [default: 6]")))]
    #[command(mut_arg("epochs", |arg| arg.help("Epochs in all, also after a resume [default: 100]")))]
    #[command(mut_arg("batch_size", |arg| arg.help("Points in a batch [default: 250]")))]
    Density(DensityArgs),
    /// Fit a flow to a distribution that is known up to a constant, by its energy
    #[command(mut_arg("layers", |arg| arg.help(
        "Layers of the flow; 0 is a Gaussian [default: 32; 8 where each has a network of its own]"
    )))]
    #[command(mut_arg("lr", |arg| arg.help(
        "Highest learning rate [default: 0.005 for adam, 0.01 for adamax, 0.0005 for rmsprop]"
    )))]
    #[command(mut_arg("lr_warm_up", |arg| arg.help(
        "Updates at first over which the rate rises to --lr [default: 500]"
    )))]
    #[command(mut_arg("epochs", |arg| arg.help(
        "Epochs of 100 updates in all, also after a resume [default: 200]"
    )))]
    #[command(mut_arg("batch_size", |arg| arg.help("Points in a batch [default: 250]")))]
    Energy(EnergyArgs),
    /// Print how good a run's best model is: the ELBO, its parts and the importance-sampled NLL on the test set, the
    /// log-likelihood of test points, or the distance from the energy's distribution; of several runs of images, also how
    /// they differ
    Evaluate(EvaluateArgs),
    /// Print how good the importance-sampled NLL of autoencoders is: by the number of samples, and beside annealed importance
    /// sampling; and draw it
    #[command(mut_arg("runs", |arg| arg.help("Folder of the run; several are drawn beside each other")))]
    Estimates(EstimatesArgs),
    /// Print the log-density in nats of the points of a CSV file, in its own units
    LogProb(LogProbArgs),
    /// Write the table of runs; of autoencoders also their learning curves and a page with both and their pictures, of energies
    /// the figure of their densities
    Report(ReportArgs),
    /// Draw pictures of what a run's best model makes, or, with --count, write samples as CSV
    Sample(SampleArgs),
    /// Offer this machine's devices to others, which train on them with --devices remote:HOST:PORT
    Serve(ServeArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
