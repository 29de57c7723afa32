//! Samples of a density, and its picture.

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};

use super::{DensityTask, tensors};
use crate::{
    cli::SampleArgs,
    plot::{Window, corner, density_map, histogram_map, panels},
    points::{self, Points, Standardization},
    random::{FIXED_EPOCH, Purpose, normal_rows},
    run::{RunDir, trained::Trained},
    sample::{finite, write_csv},
    task::Task,
    terminal::{say, warn},
};

/// # Errors
///
/// When the run, its points or the backend cannot be had, or what is made cannot be written.
pub fn run(args: &SampleArgs, run: &RunDir) -> Result<()> {
    let settings = args.place.apply_to_points(run.settings()?);
    let trained = Trained::<DensityTask>::load(run, settings)?;
    trained.check_weights()?;
    let Some(count) = args.count else {
        args.check_is_without_a_count()?;
        return draw(run, &trained);
    };
    let standardization = &trained.task.points.standardization;
    let contexts = match (&args.context, standardization.context.as_slice()) {
        (None, []) => None,
        (Some(_), []) => bail!("--context: this density was given nothing; leave it out"),
        (None, given) => bail!(
            "this density was given {}: name a CSV file with these columns by --context",
            given
                .iter()
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        (Some(file), given) => {
            let of_context = Standardization {
                columns: given.to_vec(),
                context: Vec::new(),
            };
            let rows = points::read_for(file, &of_context)?;
            if let Some(warning) = rows.warning() {
                warn(format_args!("warning: {}: {warning}", file.display()));
            }
            Some(rows)
        }
    };
    // What was given comes first, so that a row says of what it is.
    let columns = (standardization.context.iter()).chain(&standardization.columns);
    let mut header: Vec<String> = columns.map(|column| column.name.clone()).collect();
    // Numbers of columns that had no names are none: a reader would take them for a row.
    if header.iter().all(|name| name.parse::<f64>().is_ok()) {
        header.clear();
    }
    let given = contexts.as_ref().map_or(1, |rows| rows.points.len());
    let all = (given.checked_mul(count.get()))
        .filter(|&all| all < usize::MAX / 64)
        .with_context(|| format!("--count {count}: that many are never done"))?;
    let starts = (0..all).step_by(trained.at_once());
    let rows = starts.flat_map(|start| {
        let some = start..all.min(start + trained.at_once());
        // Sample i is of context i / count.
        let of = |i: usize| i / count.get();
        let context = contexts.as_ref().map(|rows| {
            let (context, _) = tensors(&rows.points.some(some.clone().map(of)), &trained.device);
            context
        });
        match trained.samples(some.clone(), context, args.seed()) {
            Ok(samples) => (some.zip(samples))
                .map(|(i, point)| {
                    let given = contexts.as_ref().map_or(&[][..], |rows| rows.row(of(i)));
                    Ok([given, &standardization.to_user(&point)].concat())
                })
                .collect(),
            Err(error) => vec![Err(error)],
        }
    });
    write_csv(args.output.as_deref(), &header, rows)
}

impl Trained<DensityTask> {
    /// Points as the model sees them, each of a place of its own in the stream of `seed`, given a context each where there
    /// is one.
    fn samples(
        &self,
        some: std::ops::Range<usize>,
        context: Option<Tensor<2>>,
        seed: u64,
    ) -> Result<Vec<Vec<f32>>> {
        let (rows, dim) = (some.len(), self.task.points.train.dim());
        let noise = normal_rows(seed, Purpose::Prior, FIXED_EPOCH, some, 1, dim);
        let noise = Tensor::from_data(TensorData::new(noise, [rows, dim]), &self.device);
        let distribution = self.model.distribution(context, &self.device);
        let (points, _) = distribution.transport(noise);
        let points: Vec<f32> = points.try_into_vec_as()?;
        Ok(points.chunks_exact(dim).map(<[f32]>::to_vec).collect())
    }
}

const PICTURE: &str = "density.png";

/// Width and height of a panel of the plane, and of one of many columns, in pixels.
const SIDE: usize = 300;
const CORNER_SIDE: usize = 120;

/// The most test points, and the most samples, that a picture shows.
const SHOWN: usize = 20_000;

/// Draws the density and says where it is: of two columns the test points, the density and samples, side by side; of more,
/// or given a context, all pairs of columns of the test points and of samples. Beside it goes what the points were
/// standardised by, without which the weights are of no use.
///
/// # Errors
///
/// When the device fails or the picture cannot be written.
pub fn draw(run: &RunDir, trained: &Trained<DensityTask>) -> Result<()> {
    let test = &trained.task.points.test;
    let test = test.slice(0..test.len().min(SHOWN));
    let standardization = &trained.task.points.standardization;
    let data: Vec<Vec<f64>> = (0..test.len())
        .map(|i| standardization.to_user(test.row(i)))
        .collect();
    let samples = finite(samples_like(trained, &test)?);
    let path = run.path().display();
    let mut json = serde_json::to_string_pretty(standardization)?;
    json.push('\n');
    run.write("standardization.json", json.as_bytes())?;
    if test.dim() == 2 && test.context_dim() == 0 {
        let pairs = |rows: &[Vec<f64>]| rows.iter().map(|row| [row[0], row[1]]).collect::<Vec<_>>();
        let (data, samples) = (pairs(&data), pairs(&samples));
        let window = Window::of(&data);
        let density = log_density(trained, &window)?;
        let pictures = [
            histogram_map(&data, &window, SIDE),
            density_map(&density, SIDE),
            histogram_map(&samples, &window, SIDE),
        ];
        panels(3, &pictures).save(run, PICTURE)?;
        say(format_args!(
            "test points | density | samples:   {path}/{PICTURE}"
        ));
    } else {
        let picture = corner(&data.concat(), &samples.concat(), test.dim(), CORNER_SIDE);
        picture.save(run, PICTURE)?;
        say(format_args!(
            "test points below, samples above:  {path}/{PICTURE} (the first six columns at most)"
        ));
    }
    Ok(())
}

/// As many samples as there are points, each given the context of one, in the user's units.
fn samples_like(trained: &Trained<DensityTask>, points: &Points) -> Result<Vec<Vec<f64>>> {
    let standardization = &trained.task.points.standardization;
    let mut all = Vec::new();
    for start in (0..points.len()).step_by(trained.at_once()) {
        let some = start..points.len().min(start + trained.at_once());
        let (_, context) = tensors(&points.some(some.clone()), &trained.device);
        let seed = trained.task.settings().training.seed;
        let samples = trained.samples(some, context, seed)?;
        all.extend(samples.iter().map(|point| standardization.to_user(point)));
    }
    Ok(all)
}

/// ln p on the pixels of a window in the user's units, up to a constant.
fn log_density(trained: &Trained<DensityTask>, window: &Window) -> Result<Vec<f64>> {
    let columns = &trained.task.points.standardization.columns;
    let grid = window.grid(SIDE);
    let mut all = Vec::new();
    for points in grid.chunks(trained.at_once()) {
        let numbers: Vec<f32> = (points.iter())
            .flat_map(|point| point.iter().zip(columns))
            .map(|(&number, column)| column.to_model(number) as f32)
            .collect();
        let data = TensorData::new(numbers, [points.len(), 2]);
        let points = Tensor::from_data(data, &trained.device);
        let log_prob = trained.model.log_prob(points, None);
        all.extend(log_prob.try_into_data()?.iter::<f64>());
    }
    Ok(all)
}
