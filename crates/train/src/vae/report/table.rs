//! The table of runs: a row each, and below runs that differ only by seed their mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::Result;

use super::run::Run;
use crate::{evaluation::figure, report::folder::RUN, vae::evaluate::Row};

/// The runs, gathered by what they have in common but their seeds, in the order that they were given in.
pub struct Table<'a> {
    pub groups: Vec<Vec<&'a Run>>,
    /// All numbers of samples that a run was evaluated with.
    samples: BTreeSet<usize>,
}

/// A mean and its standard error, where there is one.
#[derive(Clone, Copy)]
struct Figure(f64, Option<f64>);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)?;
        self.1.map_or(Ok(()), |se| write!(f, " ± {se:.3}"))
    }
}

/// What is reported of a run, or of several: nats per image.
struct Figures {
    /// What bound and gap were estimated with.
    samples: Option<usize>,
    bound: Option<Figure>,
    gap: Option<Figure>,
    nll: BTreeMap<usize, Figure>,
}

impl Figures {
    fn of(run: &Run) -> Self {
        let closest = run.closest();
        let nll = |(samples, row): (&usize, &Row)| (*samples, Figure(row.nll, row.nll_se));
        Self {
            samples: closest.map(|row| row.samples),
            bound: closest.map(|row| Figure(-row.elbo, row.elbo_se)),
            gap: closest.map(|row| Figure(row.gap, row.gap_se)),
            nll: run.evaluations.iter().map(nll).collect(),
        }
    }

    /// Means over runs, of what all of them have.
    fn mean(runs: &[&Run]) -> Self {
        let each: Vec<Self> = runs.iter().map(|run| Self::of(run)).collect();
        let mean = |part: &dyn Fn(&Self) -> Option<Figure>| {
            let values = each.iter().map(|one| Some(part(one)?.0));
            let (value, se) = figure(&values.collect::<Option<Vec<f64>>>()?);
            Some(Figure(value, se))
        };
        let all: BTreeSet<Option<usize>> = each.iter().map(|one| one.samples).collect();
        let samples = all.first().copied().flatten().filter(|_| all.len() == 1);
        let nll = each.iter().flat_map(|one| one.nll.keys());
        let nll = nll.filter_map(|s| Some((*s, mean(&|one| one.nll.get(s).copied())?)));
        Self {
            samples,
            bound: samples.and_then(|_| mean(&|one| one.bound)),
            gap: samples.and_then(|_| mean(&|one| one.gap)),
            nll: nll.collect(),
        }
    }
}

/// A row of the table.
enum Line<'a> {
    Run(&'a Run),
    /// The mean over runs of several seeds.
    Seeds(Vec<&'a Run>),
}

impl<'a> Line<'a> {
    fn first(&self) -> &'a Run {
        match self {
            Self::Run(run) => run,
            Self::Seeds(runs) => runs[0],
        }
    }

    fn figures(&self) -> Figures {
        match self {
            Self::Run(run) => Figures::of(run),
            Self::Seeds(runs) => Figures::mean(runs),
        }
    }

    fn seeds(&self) -> String {
        match self {
            Self::Run(run) => run.settings.training.seed.to_string(),
            Self::Seeds(runs) => seeds(runs),
        }
    }
}

/// The seeds of runs, as they are read aloud.
pub fn seeds(runs: &[&Run]) -> String {
    let seeds: Vec<String> = runs
        .iter()
        .map(|run| run.settings.training.seed.to_string())
        .collect();
    seeds.join(", ")
}

impl<'a> Table<'a> {
    pub fn new(runs: &'a [Run]) -> Self {
        let mut groups: Vec<Vec<&Run>> = Vec::new();
        for run in runs {
            let kin =
                |group: &&mut Vec<&Run>| group[0].but_for_the_seed() == run.but_for_the_seed();
            match groups.iter_mut().find(kin) {
                Some(group) => group.push(run),
                None => groups.push(vec![run]),
            }
        }
        Self {
            groups,
            samples: runs
                .iter()
                .flat_map(|run| run.evaluations.keys().copied())
                .collect(),
        }
    }

    pub fn runs(&self) -> impl Iterator<Item = &'a Run> {
        self.groups.iter().flatten().copied()
    }

    fn lines(&self) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        for group in &self.groups {
            lines.extend(group.iter().map(|run| Line::Run(run)));
            let averaged = averaged(group);
            if averaged.len() > 1 {
                lines.push(Line::Seeds(averaged));
            }
        }
        lines
    }

    /// The names of the columns, for people.
    pub fn header(&self) -> Vec<String> {
        let names = [
            "run",
            "flow",
            "K",
            "data",
            "binarisation",
            "seed",
            "epochs",
            "best epoch",
            "-ELBO",
            "KL(q‖p)",
        ];
        let names = names.into_iter().map(str::to_owned);
        let nll = self.samples.iter().map(|samples| format!("NLL({samples})"));
        names.chain(nll).collect()
    }

    /// The rows, for people.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let shown = |figure: Option<&Figure>| figure.map_or(String::new(), Figure::to_string);
        let row = |line: &Line| {
            let (run, figures) = (line.first(), line.figures());
            let settings = &run.settings;
            let (name, epochs, best) = match line {
                Line::Run(run) => (
                    run.name.clone(),
                    epochs(run),
                    (run.best.as_ref()).map_or(String::new(), |best| best.epoch.to_string()),
                ),
                Line::Seeds(runs) => (
                    format!("mean of {} seeds", runs.len()),
                    String::new(),
                    String::new(),
                ),
            };
            let mut cells = vec![
                name,
                flow(run),
                settings.flow.layers.to_string(),
                run.images(),
                run.binarization(),
                line.seeds(),
                epochs,
                best,
                shown(figures.bound.as_ref()),
                shown(figures.gap.as_ref()),
            ];
            let nll = |samples| shown(figures.nll.get(samples));
            cells.extend(self.samples.iter().map(nll));
            cells
        };
        self.lines().iter().map(row).collect()
    }

    /// How the table is to be read.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "Nats per image ± standard error over the test images, in means of seeds over the seeds. -ELBO is the bound on \
             NLL, NLL(S) the importance-sampled negative log-likelihood with S samples an image, KL(q‖p) the gap \
             -ELBO - NLL(S), which falls short of it by what NLL(S) is too high; of several S the largest gave bound and gap."
                .to_owned(),
            "Taken of each run's evaluations: for each S the last on the test images, at the best epoch by validation \
             ELBO, with the run's own binarisation and noise seed 0."
                .to_owned(),
        ];
        let left_out: usize = self.runs().map(|run| run.left_out).sum();
        if left_out > 0 {
            notes.push(format!(
                "Left out of evaluations.csv: rows of validation images, of other epochs or weights, binarisations or noise seeds, or \
                 repeated later ({left_out} in all)."
            ));
        }
        notes.extend(self.draws());
        notes
    }

    /// Runs that can't be compared although they are of the same data set and binarisation by name.
    fn draws(&self) -> Option<String> {
        let mut draws: BTreeMap<_, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
        for run in self.runs() {
            let key = (run.settings.dataset.short_name(), run.binarization());
            for row in run.evaluations.values() {
                let names = draws
                    .entry(key.clone())
                    .or_default()
                    .entry(&row.draw)
                    .or_default();
                if names.last() != Some(&run.name.as_str()) {
                    names.push(&run.name);
                }
            }
        }
        let differing: Vec<String> = draws
            .values()
            .filter(|draws| draws.len() > 1)
            .flatten()
            .map(|(draw, names)| format!("{draw} of {}", names.join(", ")))
            .collect();
        (!differing.is_empty()).then(|| {
            format!(
                "**Not all can be compared**: the zeros and ones that were evaluated differ ({}).",
                differing.join("; ")
            )
        })
    }

    /// The commands that would fill the cells that are empty, and runs in which nothing is left to evaluate.
    pub fn missing(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for run in self.runs() {
            if !run.has_weights {
                if run.evaluations.is_empty() {
                    commands.push(format!("{} has no checkpoint", run.path.display()));
                }
                continue;
            }
            let evaluate = format!("train evaluate {}", run.path.display());
            if self.samples.is_empty() {
                commands.push(evaluate);
                continue;
            }
            let missing = self
                .samples
                .iter()
                .filter(|s| !run.evaluations.contains_key(s));
            commands.extend(missing.map(|samples| format!("{evaluate} --samples {samples}")));
        }
        commands
    }

    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells = cells
                .iter()
                .map(|cell| cell.replace('|', "\\|").replace('\n', " "));
            let cells: Vec<String> = cells.collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let header = self.header();
        let mut text = line(&header) + &"|---".repeat(header.len()) + "|\n";
        text.extend(self.rows().iter().map(|row| line(row)));
        for note in self.notes() {
            text += &format!("\n{note}\n");
        }
        text
    }

    /// The table for programs: all digits, and standard errors in columns of their own. Means over seeds have no run.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = [
            RUN,
            "seeds",
            "flow",
            "layers",
            "dataset",
            "binarization",
            "draw",
            "epochs",
            "epochs_done",
            "best_epoch",
            "samples",
            "bound",
            "bound_se",
            "gap",
            "gap_se",
        ];
        let names = names.into_iter().map(str::to_owned);
        let nll = |samples| [format!("nll_{samples}"), format!("nll_{samples}_se")];
        writer.write_record(names.chain(self.samples.iter().flat_map(nll)))?;
        for line in self.lines() {
            let (run, figures) = (line.first(), line.figures());
            let settings = &run.settings;
            let (path, done, best) = match &line {
                Line::Run(run) => (
                    run.path.display().to_string(),
                    run.history.len().to_string(),
                    (run.best.as_ref()).map_or(String::new(), |best| best.epoch.to_string()),
                ),
                Line::Seeds(_) => Default::default(),
            };
            let mut cells = vec![
                path,
                line.seeds(),
                flow(run),
                settings.flow.layers.to_string(),
                run.images(),
                run.binarization(),
                run.closest().map_or(String::new(), |row| row.draw.clone()),
                settings.training.epochs.to_string(),
                done,
                best,
                figures.samples.map_or(String::new(), |s| s.to_string()),
            ];
            let nll = self.samples.iter().map(|samples| figures.nll.get(samples));
            for figure in [figures.bound.as_ref(), figures.gap.as_ref()]
                .into_iter()
                .chain(nll)
            {
                let (value, se) = figure.map_or((None, None), |figure| (Some(figure.0), figure.1));
                let digits = |number: Option<f64>| number.map_or(String::new(), |x| x.to_string());
                cells.extend([digits(value), digits(se)]);
            }
            writer.write_record(cells)?;
        }
        Ok(writer.into_inner().map_err(|error| error.into_error())?)
    }
}

/// Of runs that differ only by seed those that a mean is of: complete, evaluated on the same zeros and ones, one a seed.
fn averaged<'a>(group: &[&'a Run]) -> Vec<&'a Run> {
    let mut taken: Vec<&Run> = Vec::new();
    for run in group {
        let draw = |run: &Run| run.closest().map(|row| row.draw.clone());
        let fits = |other: &&Run| {
            other.settings.training.seed != run.settings.training.seed && draw(other) == draw(run)
        };
        if run.is_complete() && run.closest().is_some() && taken.iter().all(fits) {
            taken.push(run);
        }
    }
    taken
}

fn flow(run: &Run) -> String {
    serde_json::to_value(run.settings.flow.flow).map_or(String::new(), |name| {
        name.as_str().unwrap_or_default().to_owned()
    })
}

/// How many epochs are done, and of how many where there are more to come.
pub fn epochs(run: &Run) -> String {
    let done = run.history.len();
    match run.is_complete() {
        true => done.to_string(),
        false => format!("{done} of {}", run.settings.training.epochs),
    }
}
