//! `train report` of energies: how near flows come, by family and layers, over seeds; and the paper's Figure 3 of them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device};

use super::{
    EnergyName, EnergySettings, EnergyTask, MEASURED,
    evaluate::{Row, log_density},
    potential::{Grid, WINDOW},
};
use crate::{
    cli::ReportArgs,
    plot::{Picture, density_map, panels},
    report::folder::{Folder, RUN, TABLE},
    run::{RunDir, history::History, trained::Trained},
    terminal::print,
};

/// How much farther from the target than the best of its seeds a fit is in a bad optimum, in nats.
const BAD: f64 = 0.1;

/// Width and height of a panel, in pixels.
const SIDE: usize = 120;

const FIGURE: &str = "figure.png";

/// A run and what its last evaluation of the best epoch says.
struct Fit {
    run: RunDir,
    path: PathBuf,
    settings: EnergySettings,
    row: Option<Row>,
}

/// Fits that differ by their seeds alone.
type Group<'a> = Vec<&'a Fit>;

/// Reads runs, writes their report into a folder of its own, and prints the table.
///
/// # Errors
///
/// When a run or the backend cannot be had, or the folder holds something else or cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let fits = (args.runs.iter())
        .map(|path| Fit::read(path.clone()))
        .collect::<Result<Vec<_>>>()?;
    let groups = group(&fits);
    let figure = figure(&groups)?
        .encode()
        .context("cannot encode the figure")?;
    let table = markdown(&groups);
    let folder = Folder::new(args.output.as_deref(), &args.runs)?;
    folder.write(TABLE, csv(&fits)?)?;
    folder.write("table.md", &table)?;
    folder.write(FIGURE, figure)?;
    print(table)?;
    for fit in fits.iter().filter(|fit| fit.row.is_none()) {
        print(format_args!(
            "not evaluated: train evaluate {}",
            fit.path.display()
        ))?;
    }
    let path = folder.path().display();
    print(format_args!("in {path}: {TABLE}, table.md, {FIGURE}"))
}

impl Fit {
    fn read(path: PathBuf) -> Result<Self> {
        let run = RunDir::open(&path)?;
        let settings: EnergySettings = run.settings()?;
        // What is kept without its checkpoints is finished.
        let saved = run.checkpoints();
        let history = History::load(&run.metrics_file(), MEASURED)?;
        let best = history.best_of(|epoch| saved.is_empty() || saved.contains(&epoch));
        let best = best.map(|row| row.epoch);
        let rows: Vec<Row> = run.evaluations()?;
        let of_best = rows.into_iter().rev().find(|row| row.epoch == best);
        Ok(Self {
            run,
            path,
            settings,
            row: of_best,
        })
    }

    fn kl(&self) -> Option<f64> {
        self.row.as_ref().map(|row| row.kl)
    }

    /// What fits of one group have in common, wherever they were computed.
    fn but_for_the_seed(&self) -> EnergySettings {
        let mut settings = self.settings.clone();
        settings.training.seed = 0;
        settings
    }

    fn layers(&self) -> String {
        let flow = &self.settings.flow;
        format!("{}, K = {}", flow.flow.name(), flow.layers)
    }
}

/// Groups in the order of their first fits.
fn group(fits: &[Fit]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for fit in fits {
        let same = |group: &&mut Group| group[0].but_for_the_seed() == fit.but_for_the_seed();
        match groups.iter_mut().find(same) {
            Some(group) => group.push(fit),
            None => groups.push(vec![fit]),
        }
    }
    groups
}

/// The evaluated fits, nearest first.
fn by_distance<'a>(group: &Group<'a>) -> Vec<(f64, &'a Fit)> {
    let mut fits: Vec<_> = (group.iter())
        .filter_map(|fit| Some((fit.kl()?, *fit)))
        .collect();
    fits.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    fits
}

/// A row a group.
fn markdown(groups: &[Group]) -> String {
    let mut text = "\
        | energy | flow | fits | KL, best | median | worst | in a bad optimum | effective share, best |\n\
        |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for group in groups {
        let fits = by_distance(group);
        let numbers = match fits.as_slice() {
            [] => " | | | | ".into(),
            [(best, fit), ..] => {
                let row = fit.row.as_ref().expect("it has a distance");
                let bad = fits.iter().filter(|(kl, _)| *kl > best + BAD).count();
                format!(
                    "{best:.4} ± {:.4} | {:.4} | {:.4} | {bad} of {} | {:.1} %",
                    row.kl_se,
                    median(&fits),
                    fits[fits.len() - 1].0,
                    fits.len(),
                    100.0 * row.effective_share
                )
            }
        };
        let (energy, layers) = (group[0].settings.energy, group[0].layers());
        text += &format!("| {energy} | {layers} | {} | {numbers} |\n", group.len());
    }
    text
}

fn median(fits: &[(f64, &Fit)]) -> f64 {
    let middle = fits.len() / 2;
    match fits.len() % 2 {
        1 => fits[middle].0,
        _ => (fits[middle - 1].0 + fits[middle].0) / 2.0,
    }
}

/// A row a fit.
fn csv(fits: &[Fit]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        RUN,
        "energy",
        "flow",
        "layers",
        "seed",
        "kl",
        "kl_se",
        "kl_on_grid",
        "elbo",
        "log_z",
        "effective_share",
    ])?;
    for fit in fits {
        let flow = &fit.settings.flow;
        let of = |pick: fn(&Row) -> f64| fit.row.as_ref().map(pick);
        let numbers = [
            of(|row| row.kl),
            of(|row| row.kl_se),
            of(|row| row.kl_on_grid),
            of(|row| row.elbo),
            of(|row| row.log_z),
            of(|row| row.effective_share),
        ];
        writer.serialize((
            fit.path.display().to_string(),
            fit.settings.energy,
            flow.flow.name(),
            flow.layers,
            fit.settings.training.seed,
            numbers,
        ))?;
    }
    writer
        .into_inner()
        .map_err(|error| error.into_error().into())
}

/// The paper's Figure 3: a row an energy, first its distribution, then the nearest fit of each family and number of layers.
fn figure(groups: &[Group]) -> Result<Picture> {
    let mut energies: Vec<EnergyName> = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for group in groups {
        let (energy, layers) = (group[0].settings.energy, group[0].layers());
        if !energies.contains(&energy) {
            energies.push(energy);
        }
        if !columns.contains(&layers) {
            columns.push(layers);
        }
    }
    ensure!(!energies.is_empty(), "no run is given");
    let grid = Grid::new(WINDOW, SIDE);
    let mut pictures = Vec::new();
    for &energy in &energies {
        let z = grid.tensor(0..grid.len(), DType::F64, &Device::flex());
        let target: Vec<f64> = energy.of(z).neg().try_into_data()?.iter::<f64>().collect();
        pictures.push(density_map(&target, SIDE));
        for layers in &columns {
            let group = (groups.iter())
                .find(|group| group[0].settings.energy == energy && group[0].layers() == *layers);
            let nearest = group.map(|group| match by_distance(group).first() {
                Some((_, fit)) => *fit,
                None => group[0],
            });
            pictures.push(match nearest {
                None => Picture::new(SIDE, SIDE),
                Some(fit) => {
                    let trained = Trained::<EnergyTask>::load(&fit.run, fit.settings.clone())?;
                    density_map(&log_density(&trained, &grid)?, SIDE)
                }
            });
        }
    }
    Ok(panels(1 + columns.len(), &pictures))
}
