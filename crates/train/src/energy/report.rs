//! `train report` of energies: how near flows come, by family and layers, over seeds; and the paper's Figure 3 of them.

use std::{collections::HashSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::{
    EnergyName, EnergySettings, EnergyTask, MEASURED, bad,
    evaluate::{Row, log_density},
    potential::{Grid, WINDOW},
};
use crate::{
    cli::ReportArgs,
    config,
    plot::{Picture, density_map, panels},
    report::folder::{Folder, RUN, TABLE},
    run::{RunDir, trained::Trained},
    task::{Settings, Task},
    terminal::say,
};

/// Width and height of a panel, in pixels.
const SIDE: usize = 120;

const FIGURE: &str = "figure.png";

/// A run and what its evaluation of the best epoch with the most samples says.
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
    let mut seen = HashSet::new();
    let (mut fits, mut missing) = (Vec::new(), Vec::new());
    for path in &args.runs {
        let run = RunDir::open(path)?;
        let is_one = run.settings::<EnergySettings>()?.seeds().is_none();
        for run in run.fits::<EnergySettings>()? {
            let fit = run.and_then(|run| {
                // One that is named twice is there once.
                let is_new = seen.insert(fs::canonicalize(run.path())?);
                is_new.then(|| Fit::read(run)).transpose()
            });
            match fit {
                Ok(fit) => fits.extend(fit),
                Err(error) if is_one => return Err(error),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
    }
    missing.extend(fits.iter().filter_map(Fit::missing));
    ensure!(
        !fits.is_empty(),
        "there is nothing to report: {}",
        missing.join("; ")
    );
    let paths: Vec<PathBuf> = fits.iter().map(|fit| fit.path.clone()).collect();
    let groups = group(&fits);
    let (figure, not_drawn) = figure(&groups)?;
    let figure = figure.encode().context("cannot encode the figure")?;
    let table = markdown(&groups);
    let folder = Folder::new(args.output.as_deref(), &paths)?;
    folder.write(TABLE, csv(&fits)?)?;
    folder.write("table.md", &table)?;
    folder.write(FIGURE, figure)?;
    say(table);
    for missing in missing {
        say(format_args!("not evaluated: {missing}"));
    }
    for reason in not_drawn {
        say(format_args!("not drawn: {reason}"));
    }
    let path = folder.path().display();
    say(format_args!("in {path}: {TABLE}, table.md, {FIGURE}"));
    Ok(())
}

impl Fit {
    fn read(run: RunDir) -> Result<Self> {
        let path = run.path().to_owned();
        let (settings, _): (EnergySettings, _) = run.tables(MEASURED)?;
        let best = run.best_row(MEASURED)?;
        run.tell_of_a_better_one(MEASURED)?;
        let rows: Vec<Row> = run.evaluations()?;
        // Of the last ones with the most samples.
        let of_best = rows.into_iter().filter(|row| {
            let best = best.as_ref();
            best.is_some_and(|best| best.is_that_of(row.epoch, row.valid_elbo))
        });
        let of_best = of_best.max_by_key(|row| row.samples);
        Ok(Self {
            run,
            path,
            settings,
            row: of_best,
        })
    }

    /// How to have it evaluated, where it is not, or why that cannot be.
    fn missing(&self) -> Option<String> {
        let usable = || self.run.row_of_weights(MEASURED).and(self.trained());
        let evaluate = || match usable() {
            Ok(_) => format!("train evaluate {}", self.path.display()),
            Err(error) => format!("{error:#}"),
        };
        self.row.is_none().then(evaluate)
    }

    fn trained(&self) -> Result<Trained<EnergyTask>> {
        let settings = self.settings.clone();
        let device = settings.training.open_device()?;
        Trained::of_epoch(&self.run, None, EnergyTask::open(settings)?, device)
    }

    fn kl(&self) -> Option<f64> {
        self.row.as_ref().map(|row| row.kl)
    }

    /// What fits of one group have in common, wherever they were computed.
    fn but_for_the_seed(&self) -> Map<String, Value> {
        let mut settings = config::to_map(&self.settings);
        for name in ["seed", "restarts", "backend", "devices", "versions"] {
            settings.remove(name);
        }
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
            // Of those that are not evaluated it says nothing.
            [(best, fit), ..] if fits.len() < group.len() => {
                let row = fit.row.as_ref().expect("it has a distance");
                format!(
                    "{best:.4} ± {:.4} of {} evaluated | | | | {:.1} %",
                    row.kl_se,
                    fits.len(),
                    100.0 * row.effective_share
                )
            }
            [(best, fit), ..] => {
                let row = fit.row.as_ref().expect("it has a distance");
                let bad = bad(fits.iter().map(|(kl, _)| *kl), *best);
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
        let others = others(group, groups);
        text += &format!(
            "| {energy} | {layers}{others} | {} | {numbers} |\n",
            group.len()
        );
    }
    text
}

/// What else tells a group from the others, where anything does.
fn others(group: &Group, groups: &[Group]) -> String {
    let settings = group[0].but_for_the_seed();
    let differing = settings.iter().filter(|(name, value)| {
        let shown = ["energy", "flow", "layers"].contains(&name.as_str());
        !shown
            && (groups.iter()).any(|other| other[0].but_for_the_seed().get(*name) != Some(*value))
    });
    differing
        .map(|(name, value)| format!(", {name} = {value}"))
        .collect()
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
            fit.row.as_ref().and_then(|row| row.kl_on_grid),
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

/// The paper's Figure 3: a row an energy, first its distribution, then the nearest fit of each family and number of layers
/// whose weights can be had; and why those of nearer ones in the table cannot.
fn figure(groups: &[Group]) -> Result<(Picture, Vec<String>)> {
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
    let grid = Grid::new(WINDOW, SIDE);
    let (mut pictures, mut not_drawn) = (Vec::new(), Vec::new());
    for &energy in &energies {
        pictures.push(density_map(&energy.log_density_on(&grid), SIDE));
        for layers in &columns {
            let fits: Group = (groups.iter().flatten().copied())
                .filter(|fit| fit.settings.energy == energy && fit.layers() == *layers)
                .collect();
            let evaluated = by_distance(&fits).into_iter().map(|(_, fit)| fit);
            let others = fits.iter().copied().filter(|fit| fit.row.is_none());
            let mut trained = evaluated
                .chain(others)
                .filter_map(|fit| match fit.trained() {
                    Ok(trained) => Some(trained),
                    Err(error) => {
                        // Of those that are not evaluated the reason is told already.
                        not_drawn.extend(fit.row.is_some().then(|| format!("{error:#}")));
                        None
                    }
                });
            pictures.push(match trained.next() {
                None => Picture::new(SIDE, SIDE),
                Some(trained) => density_map(&log_density(&trained, &grid)?, SIDE),
            });
        }
    }
    Ok((panels(1 + columns.len(), &pictures), not_drawn))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn fit(folder: &Path, seed: u64, kl: Option<f64>) -> Fit {
        let mut settings = EnergySettings::default();
        settings.training.seed = seed;
        let path = folder.join(seed.to_string());
        let row = kl.map(|kl| Row {
            epoch: Some(1),
            valid_elbo: None,
            energy: settings.energy,
            samples: 100,
            noise_seed: 0,
            elbo: 1.0,
            elbo_se: 0.25,
            log_z: 1.0 + kl,
            kl,
            kl_se: 0.125,
            kl_on_grid: Some(2.0 * kl),
            mass_on_grid: 1.0,
            log_z_by_importance: Some(1.5),
            log_z_by_importance_se: Some(0.5),
            effective_share: 0.75,
            backend: settings.training.backend,
            seconds: 1.0,
        });
        Fit {
            run: RunDir::create(Some(&path), &settings).unwrap(),
            path,
            settings,
            row,
        }
    }

    #[test]
    fn a_group_is_told_by_its_best_its_median_and_its_bad_optima() {
        let folder = tempfile::tempdir().unwrap();
        let kls = [Some(0.5), Some(0.01), None, Some(0.02)];
        let mut fits: Vec<Fit> = (0..)
            .zip(kls)
            .map(|(seed, kl)| fit(folder.path(), seed, kl))
            .collect();
        let table = markdown(&group(&fits));
        let row = "| u1 | planar, K = 32 | 4 | 0.0100 ± 0.1250 of 3 evaluated | | | | 75.0 % |";
        assert!(table.contains(row), "{table}");
        let evaluated = [0, 1, 3].map(|i| &fits[i]).to_vec();
        let table = markdown(&[evaluated]);
        let row =
            "| u1 | planar, K = 32 | 3 | 0.0100 ± 0.1250 | 0.0200 | 0.5000 | 1 of 3 | 75.0 % |";
        assert!(table.contains(row), "{table}");
        let of_two = markdown(&[[0, 3].map(|i| &fits[i]).to_vec()]);
        assert!(
            of_two.contains("| 2 | 0.0200 ± 0.1250 | 0.2600 | 0.5000 |"),
            "{of_two}"
        );
        let csv = String::from_utf8(csv(&fits).unwrap()).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(
            lines[1].ends_with(",u1,planar,32,0,0.5,0.125,1.0,1.0,1.5,0.75"),
            "{csv}"
        );
        assert!(lines[3].ends_with(",u1,planar,32,2,,,,,,"), "{csv}");

        // Where it was computed does not matter, how does.
        fits[0].settings.training.backend = crate::backend::Backend::Ndarray;
        assert_eq!(group(&fits).len(), 1);
        fits[1].settings.training.lr = 0.25;
        let table = markdown(&group(&fits));
        assert!(
            table.contains("| planar, K = 32, lr = 0.25 | 1 |"),
            "{table}"
        );
        assert!(
            table.contains("| planar, K = 32, lr = 0.005 | 3 |"),
            "{table}"
        );
    }
}
