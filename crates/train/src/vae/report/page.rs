//! The report as one page of HTML: nothing is loaded from elsewhere, and nothing in it runs.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{config, curves::escape};

use super::{
    run::Run,
    table::{Table, epochs},
};

const STYLE: &str = include_str!("page.css");

/// The page of a table and its curves.
pub fn page(table: &Table, curves: &str) -> String {
    let names: Vec<&str> = table.runs().map(|run| run.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let notes: String = table.notes().iter().map(|note| paragraph(note)).collect();
    let missing: String = table
        .missing()
        .iter()
        .map(|missing| item(missing))
        .collect();
    let missing = match missing.is_empty() {
        true => missing,
        false => format!("<p>Not evaluated yet:</p>\n<ul>\n{missing}</ul>\n"),
    };
    let runs: String = table.runs().map(section).collect();
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>Runs</h1>
<div class=\"wide\">{table}</div>
{notes}{missing}<h2>Learning curves</h2>
<p>Nats per image, validation images strong, training images faint.</p>
<div class=\"wide\">{curves}</div>
{runs}</body>
</html>
",
        table = html_table(table),
    )
}

/// Of the notes' Markdown there is strong text alone.
fn paragraph(note: &str) -> String {
    let parts = escape(note);
    let parts = parts.split("**").enumerate();
    let text: String = parts
        .map(|(i, part)| match i % 2 {
            0 => part.to_owned(),
            _ => format!("<strong>{part}</strong>"),
        })
        .collect();
    format!("<p>{text}</p>\n")
}

fn item(command: &str) -> String {
    format!("<li><code>{}</code></li>\n", escape(command))
}

fn html_table(table: &Table) -> String {
    let row = |tag: &str, cells: &[String]| {
        let cells = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows().iter().map(|cells| row("td", cells)).collect();
    format!(
        "<table>\n<thead>\n{}</thead>\n<tbody>\n{rows}</tbody>\n</table>",
        row("th", &table.header())
    )
}

/// All there is of one run.
fn section(run: &Run) -> String {
    let mut html = format!("<h2>{}</h2>\n", escape(&run.name));
    let _ = write!(html, "<p>{} epochs", epochs(run));
    if let Some(best) = &run.best {
        let _ = write!(
            html,
            ", the best by validation is epoch {}: ELBO {:.2}",
            best.epoch,
            best.valid_score()
        );
    }
    if let Some(summary) = &run.summary {
        let _ = write!(
            html,
            "; {} weights; {:.1} s of training on {}",
            summary.weights, summary.seconds, summary.backend
        );
    }
    html += ".</p>\n<div class=\"pictures\">\n";
    for (picture, caption) in [
        (&run.samples, "Mean images at draws from the prior"),
        (
            &run.reconstructions,
            "Test images, each beside its reconstruction",
        ),
    ] {
        if let Some(png) = picture {
            let _ = writeln!(
                html,
                "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{}\"><figcaption>{caption}</figcaption></figure>",
                STANDARD.encode(png)
            );
        }
    }
    html += "</div>\n<details><summary>Configuration</summary>\n<table>\n";
    for (name, value) in settings(run) {
        let (name, value) = (escape(&name), escape(&value));
        let _ = writeln!(html, "<tr><td>{name}</td><td>{value}</td></tr>");
    }
    html + "</table>\n</details>\n"
}

/// The configuration, but where the data were.
fn settings(run: &Run) -> Vec<(String, String)> {
    let mut settings = Value::Object(config::to_map(&run.settings));
    settings["dataset"] = run.settings.dataset.short_name().into();
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let settings = settings.as_object().into_iter().flatten();
    settings
        .filter(|(name, _)| *name != "data_dir")
        .map(|(name, value)| (name.clone(), shown(value)))
        .collect()
}
