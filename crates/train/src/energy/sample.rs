//! Samples of an approximation, and its picture.

use anyhow::Result;

use super::{
    EnergySettings, EnergyTask,
    evaluate::{AT_ONCE, log_density, noise},
    potential::{Grid, WINDOW},
};
use crate::{
    cli::SampleArgs,
    evaluation::refuse,
    plot::{Interval, Window, density_map, histogram_map, panels},
    random::Purpose,
    run::{RunDir, trained::Trained},
    sample::{finite, write_csv},
    task::{Task, TaskName},
    terminal::say,
};

/// # Errors
///
/// When the run or the backend cannot be had, or what is made cannot be written.
pub fn run(args: &SampleArgs, run: RunDir) -> Result<()> {
    refuse(
        TaskName::Energy,
        &[
            ("--context", args.context.is_some()),
            ("--data-dir", args.place.data_dir.is_some()),
        ],
    )?;
    let here = |mut settings: EnergySettings| {
        args.place.apply_backend(&mut settings);
        settings
    };
    let (run, trained) = Trained::<EnergyTask>::of_best_fit(run, None, here)?;
    trained.check_weights()?;
    let Some(count) = args.count else {
        args.check_is_without_a_count()?;
        return draw(&run, &trained);
    };
    let header = ["z1", "z2"].map(String::from);
    let starts = (0..count.get()).step_by(AT_ONCE);
    let rows = starts.flat_map(|start| {
        let end = count.get().min(start + AT_ONCE);
        match samples(&trained, start..end, args.seed()) {
            Ok(points) => points.into_iter().map(|z| Ok(z.to_vec())).collect(),
            Err(error) => vec![Err(error)],
        }
    });
    write_csv(args.output.as_deref(), &header, rows)
}

/// Points of q, each of a place of its own in the stream of `seed`.
fn samples(
    trained: &Trained<EnergyTask>,
    points: std::ops::Range<usize>,
    seed: u64,
) -> Result<Vec<[f64; 2]>> {
    let noise = noise(trained, points, Purpose::Prior, seed);
    let (z, _) = trained.model.distribution().transport(noise);
    let z: Vec<f64> = z.try_into_data()?.iter::<f64>().collect();
    Ok(z.as_chunks().0.to_vec())
}

pub const PICTURE: &str = "energy.png";

/// Width and height of a panel, in pixels.
const SIDE: usize = 240;

/// Samples that the picture shows.
const SHOWN: usize = 100_000;

/// Draws target, density and samples side by side and says where they are.
///
/// # Errors
///
/// When the device fails or the picture cannot be written.
pub fn draw(run: &RunDir, trained: &Trained<EnergyTask>) -> Result<()> {
    let grid = Grid::new(WINDOW, SIDE);
    let target = trained.task.settings().energy.log_density_on(&grid);
    let density = log_density(trained, &grid)?;
    let points = finite(samples(
        trained,
        0..SHOWN,
        trained.task.settings().training.seed,
    )?);
    let side = Interval {
        from: -WINDOW,
        to: WINDOW,
    };
    let pictures = [
        density_map(&target, SIDE),
        density_map(&density, SIDE),
        histogram_map(&points, &Window { x: side, y: side }, SIDE),
    ];
    panels(3, &pictures).save(run, PICTURE)?;
    say(format_args!(
        "target | density | samples:        {}/{PICTURE}",
        run.path().display()
    ));
    Ok(())
}
