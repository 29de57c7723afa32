//! `train sample` of VAEs: pictures of what a run's best model makes.

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};

use super::VaeTask;
use crate::{
    picture::save_grid,
    random::{FIXED_EPOCH, Purpose, fill_normal, stream},
    run::{RunDir, trained::Trained},
    terminal::say,
};

pub const SAMPLES_FILE: &str = "samples.png";
pub const RECONSTRUCTIONS_FILE: &str = "reconstructions.png";

const SAMPLES: usize = 100;
const PAIRS: usize = 50;
/// Also twice the number of pairs in a row.
const COLUMNS: usize = 10;

/// Draws `samples.png` and `reconstructions.png` and says where they are.
///
/// # Errors
///
/// When the device fails or the pictures cannot be written.
pub fn draw(run: &RunDir, trained: &Trained<VaeTask>) -> Result<()> {
    let like = &trained.task.splits.test;
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
fn samples(trained: &Trained<VaeTask>) -> Result<Vec<f32>> {
    let latent_dim = trained.settings().latent_dim.get();
    let mut noise = vec![0.0; SAMPLES * latent_dim];
    let mut rng = stream(
        trained.settings().training.seed,
        Purpose::Prior,
        FIXED_EPOCH,
        0,
    );
    fill_normal(&mut rng, &mut noise);
    let z = Tensor::from_data(
        TensorData::new(noise, [SAMPLES, latent_dim]),
        &trained.device,
    );
    Ok(trained.model.mean_image(z).try_into_vec_as()?)
}

/// Test images as the model sees them, each followed by the mean image at a draw from its posterior.
fn reconstructions(trained: &Trained<VaeTask>) -> Result<Vec<f32>> {
    let test = &trained.task.splits.test;
    let images = test.slice(0..PAIRS.min(test.len()));
    let x = trained.seen(&images);
    let (z, _) = trained
        .model
        .posterior(x.clone())
        .transport(trained.noise(&images, trained.settings().training.seed)(1));
    let pairs: Vec<Tensor<3>> = [x, trained.model.mean_image(z)]
        .map(|images| images.unsqueeze_dim(1))
        .into();
    Ok(Tensor::cat(pairs, 1).try_into_vec_as()?)
}
