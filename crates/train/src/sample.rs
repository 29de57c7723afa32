//! `train sample`: pictures of what a run's best model makes.

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};

use crate::{
    cli::SampleArgs,
    data::FIXED_EPOCH,
    picture::save_grid,
    progress::say,
    random::{Purpose, fill_normal, stream},
    run_dir::RunDir,
    trained::Trained,
};

pub const SAMPLES_FILE: &str = "samples.png";
pub const RECONSTRUCTIONS_FILE: &str = "reconstructions.png";

const SAMPLES: usize = 100;
const PAIRS: usize = 50;
/// Also twice the number of pairs in a row.
const COLUMNS: usize = 10;

/// Draws the pictures of a run and says where they are.
///
/// # Errors
///
/// When the run, its data or the backend cannot be had, or the pictures cannot be written.
pub fn run(args: &SampleArgs) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    let trained = Trained::load(&run, args.place.apply(run.config()?))?;
    draw(&run, &trained)
}

/// Draws `samples.png` and `reconstructions.png` and says where they are.
///
/// # Errors
///
/// When the device fails or the pictures cannot be written.
pub fn draw(run: &RunDir, trained: &Trained) -> Result<()> {
    let like = &trained.splits.test;
    let path = run.path().display();

    save_grid(run, SAMPLES_FILE, &samples(trained)?, like, COLUMNS)?;
    say(format_args!(
        "samples from the prior:            {path}/{SAMPLES_FILE}"
    ));

    let pairs = reconstructions(trained)?;
    save_grid(run, RECONSTRUCTIONS_FILE, &pairs, like, COLUMNS)?;
    say(format_args!(
        "test images | reconstructions:     {path}/{RECONSTRUCTIONS_FILE}"
    ));
    Ok(())
}

/// Mean images at draws from the prior.
fn samples(trained: &Trained) -> Result<Vec<f32>> {
    let latent_dim = trained.config.latent_dim.get();
    let mut noise = vec![0.0; SAMPLES * latent_dim];
    let mut rng = stream(trained.config.seed, Purpose::Prior, FIXED_EPOCH, 0);
    fill_normal(&mut rng, &mut noise);
    let z = Tensor::from_data(
        TensorData::new(noise, [SAMPLES, latent_dim]),
        &trained.device,
    );
    Ok(trained.vae.mean_image(z).try_into_vec_as()?)
}

/// Test images as the model sees them, each followed by the mean image at a draw from its posterior.
fn reconstructions(trained: &Trained) -> Result<Vec<f32>> {
    let test = &trained.splits.test;
    let images = test.slice(0..PAIRS.min(test.len()));
    let x = trained.seen(&images);
    let (z, _) = trained
        .vae
        .posterior(x.clone())
        .transport(trained.noise(&images, trained.config.seed)(1));
    let pairs: Vec<Tensor<3>> = [x, trained.vae.mean_image(z)]
        .map(|images| images.unsqueeze_dim(1))
        .into();
    Ok(Tensor::cat(pairs, 1).try_into_vec_as()?)
}
