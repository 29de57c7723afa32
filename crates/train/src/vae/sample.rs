//! `train sample` of VAEs: pictures of what a run's best model makes.

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use burn_flows::DiagonalGaussian;

use super::VaeTask;
use crate::{
    picture::save_grid,
    plot::{Interval, Picture, Window, density_map, image, panels},
    random::{FIXED_EPOCH, Purpose, fill_normal, stream},
    run::{RunDir, trained::Trained},
    terminal::say,
};

pub const SAMPLES_FILE: &str = "samples.png";
pub const RECONSTRUCTIONS_FILE: &str = "reconstructions.png";

const POSTERIORS_FILE: &str = "posteriors.png";

/// Images whose posteriors are drawn, and the width of a panel in pixels.
const POSTERIORS: usize = 6;
const PANEL: usize = 120;

/// Draws that say where a posterior lies, and points that are computed at once.
const DRAWS: usize = 1_000;
const AT_ONCE: usize = 2_000;

const SAMPLES: usize = 100;
const PAIRS: usize = 50;
/// Also twice the number of pairs in a row.
const COLUMNS: usize = 10;

/// Draws `samples.png` and `reconstructions.png`, and with two latent dimensions `posteriors.png`, and says where they are.
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

    if trained.settings().latent_dim.get() == 2 && like.colours() == 1 {
        posteriors(trained)?.save(run, POSTERIORS_FILE)?;
        say(format_args!(
            "image | true posterior | learned:  {path}/{POSTERIORS_FILE}"
        ));
    }

    let pairs = reconstructions(trained)?;
    save_grid(run, RECONSTRUCTIONS_FILE, &pairs, like, COLUMNS)?;
    say(format_args!(
        "test images | reconstructions:     {path}/{RECONSTRUCTIONS_FILE}"
    ));
    Ok(())
}

/// Where z has two dimensions: test images, each with its true posterior p(z | x) ∝ p(x | z) p(z), and with q(z | x), on
/// the same part of the plane.
fn posteriors(trained: &Trained<VaeTask>) -> Result<Picture> {
    let test = &trained.task.splits.test;
    let images = test.slice(0..POSTERIORS.min(test.len()));
    let x = trained.seen(&images);
    let mut pictures = Vec::new();
    for i in 0..images.len() {
        let one = images.slice(i..i + 1);
        let x = x.clone().slice_dim(0, i..i + 1);
        let posterior = trained.model.posterior(x.clone());
        let (z, _) = posterior.transport(trained.noise(&one, 0)(DRAWS));
        let window = around(&z.try_into_vec_as::<f64>()?);
        let (mut joint, mut learned) = (Vec::new(), Vec::new());
        for points in window.grid(PANEL).chunks(AT_ONCE) {
            let numbers: Vec<f32> = points.as_flattened().iter().map(|&z| z as f32).collect();
            let data = TensorData::new(numbers, [points.len(), 2]);
            let z = Tensor::<2>::from_data(data, &trained.device);
            learned.extend(posterior.log_prob(z.clone()).try_into_vec_as::<f64>()?);
            let prior = DiagonalGaussian::standard(2, &trained.device).log_prob(z.clone());
            let log_joint = trained.model.log_likelihood(z, x.clone()) + prior;
            joint.extend(log_joint.try_into_vec_as::<f64>()?);
        }
        pictures.push(image(&x.try_into_vec_as::<f32>()?, images.side(), PANEL));
        pictures.push(density_map(&joint, PANEL));
        pictures.push(density_map(&learned, PANEL));
    }
    Ok(panels(6, &pictures))
}

/// The square around draws of two coordinates that reaches four standard deviations of the wider one.
fn around(draws: &[f64]) -> Window {
    let moments = [0, 1].map(|axis| {
        let numbers = || draws.iter().skip(axis).step_by(2);
        let n = numbers().count() as f64;
        let mean = numbers().sum::<f64>() / n;
        let variance = numbers().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    });
    let reach = 4.0 * moments[0].1.max(moments[1].1);
    let [x, y] = moments.map(|(mean, _)| Interval {
        from: mean - reach,
        to: mean + reach,
    });
    Window { x, y }
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
