//! What `serve` takes.

use clap::Args;

use crate::backend::{self, Backend};

#[derive(Args, Debug)]
pub struct ServeArgs {
    #[arg(long, value_name = "NAME", help = backend::help(), hide_possible_values = true)]
    pub backend: Option<Backend>,

    /// The backend's devices to offer, by number from 0 [default: one, which the backend takes by itself]
    #[arg(long, value_name = "N,…", value_delimiter = ',', num_args = 1)]
    pub devices: Option<Vec<usize>>,

    /// Where to listen; 0.0.0.0:3000 is in every network of this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    pub listen: String,

    /// Serve whoever gets here, without a token [default: those who have that of BURN_FLOWS_TOKEN, or a new one, which is
    /// printed]
    #[arg(long)]
    pub open: bool,
}
