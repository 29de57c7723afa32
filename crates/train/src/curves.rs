//! Learning curves as SVG, legible on light and dark grounds, by itself and inside a page.

use std::fmt::Write;

use crate::{run::history::EpochRow, task::Measured};

pub const STYLE: &str = include_str!("curves.css");
/// How many colours the style has; what comes after them is dashed.
pub const COLOURS: usize = 8;

pub const WIDTH: f64 = 900.0;
pub const HEIGHT: f64 = 360.0;
/// The edges of the axes, from the top left corner.
pub const LEFT: f64 = 60.0;
pub const RIGHT: f64 = 660.0;
pub const TOP: f64 = 40.0;
pub const BOTTOM: f64 = 310.0;
/// Between the lines of the key.
pub const LEADING: f64 = 20.0;

/// What was maximised in a run, in training and in validation.
pub struct Curve<'a> {
    pub name: &'a str,
    /// Those of the same group look the same.
    pub group: usize,
    pub rows: &'a [EpochRow],
}

/// The curves of one run: a picture by itself.
pub fn of_run(rows: &[EpochRow], measured: &Measured) -> String {
    let curve = Curve {
        name: "this run",
        group: 0,
        rows,
    };
    let title = format!("{}, nats per {}", measured.terms[0].name, measured.item);
    let mut svg = panel(&title, &[curve]);
    for (line, what) in ["validation", "training"].into_iter().enumerate() {
        svg += &key(line, &format!("{} {what}", class(0)), what);
    }
    picture(&[(svg, 2)])
}

/// A picture of panels, each with so many lines of its key, one below the other.
pub fn picture(panels: &[(String, usize)]) -> String {
    let (mut inside, mut height) = (String::new(), 0.0);
    for (panel, lines) in panels {
        let _ = write!(
            inside,
            "<g transform=\"translate(0 {height})\">\n{panel}</g>\n"
        );
        height += HEIGHT.max(TOP + LEADING * (lines + 1) as f64);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"curves\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Learning curves\">\n<style>\n{STYLE}</style>\n{inside}</svg>\n"
    )
}

/// Axes with curves.
pub fn panel(title: &str, curves: &[Curve]) -> String {
    let mut svg = text(LEFT, 22.0, "start", title, "title");
    let Some(axes) = Axes::around(curves) else {
        return svg + &text(LEFT, TOP + 20.0, "start", "no epoch yet", "");
    };
    svg += &axes.draw();
    for curve in curves {
        let (class, name) = (class(curve.group), escape(curve.name));
        for (what, score) in [
            ("training", (|row| row.train[0]) as fn(&EpochRow) -> f64),
            ("validation", EpochRow::valid_score),
        ] {
            let _ = writeln!(
                svg,
                "<path class=\"{class} {what}\" d=\"{}\"><title>{name}, {what}</title></path>",
                axes.path(curve.rows, score)
            );
        }
    }
    svg
}

/// What a group looks like.
pub fn class(group: usize) -> String {
    format!("h{} d{}", group % COLOURS, group / COLOURS)
}

/// A line of a panel's key, for what looks so.
pub fn key(line: usize, class: &str, name: &str) -> String {
    let y = TOP + LEADING * line as f64;
    let mut name = name.to_owned();
    if name.chars().count() > 32 {
        name = name.chars().take(31).chain(['…']).collect();
    }
    let (from, to) = (RIGHT + 14.0, RIGHT + 38.0);
    let line = format!("<path class=\"key {class}\" d=\"M{from} {y}H{to}\"/>\n");
    line + &text(to + 6.0, y + 4.0, "start", &name, "")
}

/// From epochs and nats to the picture.
struct Axes {
    epochs: f64,
    low: f64,
    high: f64,
}

impl Axes {
    /// Axes for all that comes after the first twentieth of each run: the first epochs would press the rest together.
    fn around(curves: &[Curve]) -> Option<Self> {
        let (mut epochs, mut low, mut high) = (1, f64::INFINITY, f64::NEG_INFINITY);
        for Curve { rows, .. } in curves {
            for (i, row) in rows.iter().enumerate() {
                epochs = epochs.max(row.epoch);
                for score in [row.train[0], row.valid_score()] {
                    if score.is_finite() && i >= rows.len() / 20 {
                        (low, high) = (low.min(score), high.max(score));
                    }
                }
            }
        }
        let margin = 0.04 * (high - low) + 0.01;
        let axes = Self {
            epochs: epochs as f64,
            low: low - margin,
            high: high + margin,
        };
        (axes.high - axes.low).is_finite().then_some(axes)
    }

    fn x(&self, epoch: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * epoch / self.epochs
    }

    fn y(&self, score: f64) -> f64 {
        TOP + (BOTTOM - TOP) * (self.high - score) / (self.high - self.low)
    }

    /// The part of a curve that is on the axes.
    fn path(&self, rows: &[EpochRow], score: fn(&EpochRow) -> f64) -> String {
        let (mut path, mut pen) = (String::new(), 'M');
        for row in rows {
            let value = score(row);
            if value < self.low || !value.is_finite() {
                pen = 'M';
                continue;
            }
            let (x, y) = (self.x(row.epoch as f64), self.y(value));
            let _ = write!(path, "{pen}{x:.1} {y:.1}");
            pen = 'L';
        }
        path
    }

    fn draw(&self) -> String {
        let mut svg = String::new();
        for score in ticks(self.low, self.high) {
            let y = self.y(score);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            svg += &text(LEFT - 8.0, y + 4.0, "end", &score.to_string(), "");
        }
        for epoch in ticks(0.0, self.epochs) {
            let x = self.x(epoch);
            svg += &text(x, BOTTOM + 18.0, "middle", &epoch.to_string(), "");
        }
        svg + &text((LEFT + RIGHT) / 2.0, BOTTOM + 38.0, "middle", "epoch", "")
    }
}

/// Round numbers between two others, about six.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0];
    let step = times
        .map(|n| n * power)
        .into_iter()
        .find(|step| *step >= rough);
    let Some(step) = step else { return Vec::new() };
    // Of decimals none but those that the step has.
    let decimals = (-step.log10().floor()).max(0.0) as i32;
    let round = |x: f64| (x * 10_f64.powi(decimals)).round() / 10_f64.powi(decimals);
    let first = (low / step).ceil();
    (0..12)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|tick| *tick <= high)
        .map(round)
        .collect()
}

pub fn text(x: f64, y: f64, anchor: &str, words: &str, class: &str) -> String {
    let words = escape(words);
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"
    )
}

/// Text as HTML and XML have it, also between quotation marks.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // No XML has these.
            '\0'..='\x1f' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 250.0), [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]);
        assert_eq!(ticks(-0.31, -0.07), [-0.3, -0.25, -0.2, -0.15, -0.1]);
        for (low, high) in [
            (0.0, 1.0),
            (-1e300, 1e300),
            (1e9, 1e9 + 1e-6),
            (-5e-324, 0.0),
        ] {
            assert!(ticks(low, high).len() <= 12);
        }
    }

    /// Epochs from 1 on, of which training had the first numbers and validation the second.
    fn rows(scores: impl IntoIterator<Item = [f64; 2]>) -> Vec<EpochRow> {
        let scores = scores.into_iter().enumerate();
        let rows = scores.map(|(i, [train, valid])| EpochRow {
            epoch: i + 1,
            train: vec![train],
            valid: vec![valid],
            ..EpochRow::default()
        });
        rows.collect()
    }

    /// Of four epochs from -40 to -10 nats a margin is 0.04 of the 30 and 0.01: 32.42 nats are 270 pixels, from 40 downwards, and
    /// four epochs are 600 from 60 on.
    #[test]
    fn a_point_is_at_its_epoch_and_its_nats() {
        let rows = rows([
            [-40.0, -30.0],
            [-20.0, -20.0],
            [-20.0, -25.0],
            [-10.0, -15.0],
        ]);
        let curve = Curve {
            name: "a & b",
            group: 9,
            rows: &rows,
        };
        let svg = panel("nats", &[curve]);
        let [y40, y30, y25, y20, y15, y10] = [40.0, 30.0, 25.0, 20.0, 15.0, 10.0]
            .map(|nats| format!("{:.1}", 40.0 + (nats - 10.0 + 1.21) / 32.42 * 270.0));
        for (what, [a, b, c, d]) in [
            ("training", [&y40, &y20, &y20, &y10]),
            ("validation", [&y30, &y20, &y25, &y15]),
        ] {
            let path = format!(
                "<path class=\"h1 d1 {what}\" d=\"M210.0 {a}L360.0 {b}L510.0 {c}L660.0 {d}\"><title>a &amp; b, {what}</title></path>"
            );
            assert!(svg.contains(&path), "{path} is not in {svg}");
        }
        // A line every ten nats beside its number, and every epoch's number below the axes.
        for nats in [40, 30, 20, 10] {
            let y = 40.0 + (f64::from(nats) - 10.0 + 1.21) / 32.42 * 270.0;
            let line = format!("<path class=\"grid\" d=\"M60 {y:.1}H660\"/>");
            let number = format!(
                "x=\"52.0\" y=\"{:.1}\" text-anchor=\"end\">-{nats}<",
                y + 4.0
            );
            assert!(svg.contains(&line) && svg.contains(&number), "{svg}");
        }
        for (x, epoch) in [(60, "0"), (210, "1"), (360, "2"), (510, "3"), (660, "4")] {
            let number = format!("x=\"{x}.0\" y=\"328.0\" text-anchor=\"middle\">{epoch}<");
            assert!(svg.contains(&number), "{number} is not in {svg}");
        }
        assert!(svg.contains("x=\"360.0\" y=\"348.0\" text-anchor=\"middle\">epoch<"));
        assert!(svg.starts_with("<text class=\"title\" x=\"60.0\" y=\"22.0\""));
    }

    /// The first two of forty epochs leave the axes to the others, but for what lies on them; what is no number, or below, is a
    /// gap.
    #[test]
    fn what_is_off_the_axes_is_not_drawn() {
        let at = |epoch: usize| match epoch {
            1 => -1e6,
            3 => -25.0,
            20 => f64::NAN,
            40 => -10.0,
            _ => -20.0,
        };
        let rows = rows((1..=40).map(|epoch| [at(epoch), -15.0]));
        let axes = Axes::around(&[Curve {
            name: "",
            group: 0,
            rows: &rows,
        }]);
        let axes = axes.unwrap();
        let near = |got: f64, expected: f64| (got - expected).abs() < 1e-9;
        assert!(near(axes.low, -25.61) && near(axes.high, -9.39) && near(axes.epochs, 40.0));
        let path = axes.path(&rows, |row| row.train[0]);
        // Each part is that from a point to the next gap.
        let parts: Vec<usize> = (path.split('M').skip(1))
            .map(|part| part.split('L').count())
            .collect();
        assert_eq!(parts, [18, 20], "{path}");
        assert!(path.starts_with("M90.0 "), "{path}");
        // On the edge it is drawn.
        let edge = Axes {
            epochs: 40.0,
            low: -20.0,
            high: -10.0,
        };
        let path = edge.path(&rows[1..2], |row| row.train[0]);
        assert_eq!(path, "M90.0 310.0");

        let nothing = panel("", &[]);
        assert!(
            nothing.contains("x=\"60.0\" y=\"60.0\" text-anchor=\"start\">no epoch yet"),
            "{nothing}"
        );
    }

    #[test]
    fn panels_and_their_keys_lie_below_each_other() {
        let svg = picture(&[
            ("first".into(), 2),
            ("second".into(), 20),
            ("third".into(), 1),
        ]);
        // The second's key is longer than its axes are high.
        assert!(svg.contains("viewBox=\"0 0 900 1180\""), "{svg}");
        for (top, which) in [(0, "first"), (360, "second"), (820, "third")] {
            let group = format!("<g transform=\"translate(0 {top})\">\n{which}</g>");
            assert!(svg.contains(&group), "{group} is not in {svg}");
        }
        let name = |count| "n".repeat(count);
        let line = key(3, "h0 d0", &name(32));
        let said = format!(
            "x=\"704.0\" y=\"104.0\" text-anchor=\"start\">{}<",
            name(32)
        );
        assert!(
            line.starts_with("<path class=\"key h0 d0\" d=\"M674 100H698\"/>")
                && line.contains(&said),
            "{line}"
        );
        assert!(key(0, "", &name(33)).contains(&format!(">{}…<", name(31))));

        let own = of_run(&rows([[-2.0, -3.0], [-1.0, -2.0]]), crate::vae::MEASURED);
        assert!(own.contains("viewBox=\"0 0 900 360\""), "{own}");
        for (y, what) in [(40, "validation"), (60, "training")] {
            let line = format!("<path class=\"key h0 d0 {what}\" d=\"M674 {y}H698\"/>");
            assert!(own.contains(&line), "{line} is not in {own}");
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("a<b> & \"c\"\0"),
            "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}"
        );
    }
}
