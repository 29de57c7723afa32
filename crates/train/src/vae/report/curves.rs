//! The learning curves of runs, those of each data set, binarisation and bound on axes of their own.

use super::{
    run::Run,
    table::{Table, seeds},
};
use crate::curves::{Curve, class, key, panel, picture};

/// Runs that differ only by seed.
type Group<'a> = [&'a Run];

pub fn draw(table: &Table) -> String {
    let mut panels: Vec<(String, Vec<&Group>)> = Vec::new();
    for group in &table.groups {
        let settings = &group[0].settings;
        let mut title = match settings.samples() {
            1 => "ELBO".to_owned(),
            samples => format!("ELBO of {samples} samples"),
        };
        title += &format!(", {}", group[0].images());
        if let Some(how) = settings.binarization {
            title += &format!(", {how} binarisation");
        }
        match panels.iter_mut().find(|(other, _)| *other == title) {
            Some((_, groups)) => groups.push(group),
            None => panels.push((title, vec![group])),
        }
    }
    let panels = panels.iter().map(|(title, groups)| {
        let keys = groups.iter().enumerate().map(|(i, group)| {
            let mut name = group[0].name.clone();
            if group.len() > 1 {
                name += &format!(", seeds {}", seeds(group));
            }
            key(i, &class(i), &name)
        });
        let svg = panel(title, &curves(groups)) + &keys.collect::<String>();
        (svg, groups.len())
    });
    picture(&panels.collect::<Vec<_>>())
}

fn curves<'a>(groups: &[&'a Group<'a>]) -> Vec<Curve<'a>> {
    let runs = groups.iter().enumerate();
    let runs = runs.flat_map(|(group, runs)| runs.iter().map(move |run| (group, *run)));
    runs.map(|(group, run)| Curve {
        name: &run.name,
        group,
        rows: run.history.rows(),
    })
    .collect()
}
