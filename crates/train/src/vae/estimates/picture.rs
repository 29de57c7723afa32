//! How far NLL(S) is above the best estimate, by S, as SVG.

use std::fmt::Write;

use super::{Estimator, Row};
use crate::curves::{
    BOTTOM, COLOURS, HEIGHT, LEADING, LEFT, RIGHT, STYLE, TOP, WIDTH, text, ticks,
};

/// The curve of each run, under its name.
pub fn draw(series: &[(String, Vec<Row>)]) -> String {
    let rows = || series.iter().flat_map(|(_, rows)| rows);
    let best = rows().last().map_or(String::new(), Row::name);
    let excesses = || rows().map(|row| row.excess);
    // The best is 0.
    let (low, high) = (
        excesses().fold(0.0, f64::min),
        excesses().fold(0.0, f64::max),
    );
    let margin = 0.04 * (high - low) + 0.01;
    let axes = Axes {
        samples: rows().map(|row| row.samples).max().unwrap_or(1).max(2) as f64,
        low: low - margin,
        high: high + margin,
    };
    let title = format!("NLL(S) above {best}, nats per image");
    let mut inside = text(LEFT, 22.0, "start", &title, "title") + &axes.draw(series);
    for (i, (name, rows)) in series.iter().enumerate() {
        let class = format!("h{} d{}", i % COLOURS, i / COLOURS);
        let mut path = String::new();
        for row in rows
            .iter()
            .filter(|row| row.estimator == Estimator::Importance)
        {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            let (x, y) = (axes.x(row.samples), axes.y(row.excess));
            let _ = write!(path, "{pen}{x:.1} {y:.1}");
        }
        let _ = writeln!(inside, "<path class=\"{class}\" d=\"{path}\"/>");
        let y = TOP + LEADING * i as f64;
        let (from, to) = (RIGHT + 14.0, RIGHT + 38.0);
        let _ = writeln!(
            inside,
            "<path class=\"key {class}\" d=\"M{from} {y}H{to}\"/>"
        );
        inside += &text(to + 6.0, y + 4.0, "start", name, "");
    }
    let height = HEIGHT.max(TOP + LEADING * (series.len() + 1) as f64);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"curves\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>\n{STYLE}</style>\n{inside}</svg>\n"
    )
}

/// From the logarithm of S and nats to the picture.
struct Axes {
    samples: f64,
    low: f64,
    high: f64,
}

impl Axes {
    fn x(&self, samples: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * (samples as f64).ln() / self.samples.ln()
    }

    fn y(&self, nats: f64) -> f64 {
        TOP + (BOTTOM - TOP) * (self.high - nats) / (self.high - self.low)
    }

    fn draw(&self, series: &[(String, Vec<Row>)]) -> String {
        let mut svg = String::new();
        for nats in ticks(self.low, self.high) {
            let y = self.y(nats);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            svg += &text(LEFT - 8.0, y + 4.0, "end", &nats.to_string(), "");
        }
        // All runs have the same numbers of samples.
        let rows = series.first().map_or(&[][..], |(_, rows)| rows);
        for row in rows
            .iter()
            .filter(|row| row.estimator == Estimator::Importance)
        {
            let x = self.x(row.samples);
            svg += &text(x, BOTTOM + 18.0, "middle", &row.samples.to_string(), "");
        }
        let middle = (LEFT + RIGHT) / 2.0;
        svg + &text(
            middle,
            BOTTOM + 38.0,
            "middle",
            "S, importance samples an image",
            "",
        )
    }
}
