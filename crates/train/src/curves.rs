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

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("a<b> & \"c\"\0"),
            "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}"
        );
    }
}
