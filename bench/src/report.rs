//! One table of ratios, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// For orientation alone.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub what: String,
    pub figure: f64,
    pub unit: &'static str,
    pub limit: Limit,
    /// Half of the distance between the quartiles of the rounds, in percent of the median.
    pub noise_percent: Option<f64>,
    /// What the figure was made of.
    pub parts: BTreeMap<&'static str, f64>,
}

impl Row {
    pub fn new(
        name: &'static str,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        limit: Limit,
    ) -> Row {
        Row {
            name,
            what: what.into(),
            figure,
            unit,
            limit,
            noise_percent: None,
            parts: BTreeMap::new(),
        }
    }

    pub fn orientation(
        name: &'static str,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
    ) -> Row {
        Row::new(name, what, figure, unit, Limit::None)
    }

    #[must_use]
    pub fn noise(mut self, percent: f64) -> Row {
        self.noise_percent = Some(percent);
        self
    }

    /// A part of the figure; one that was not measured is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: f64) -> Row {
        if value.is_finite() {
            self.parts.insert(name, value);
        }
        self
    }

    /// Whether the figure is what it must be, if it must be anything.
    pub fn reached(&self) -> Option<bool> {
        match self.limit {
            Limit::AtMost(limit) => Some(self.figure <= limit),
            Limit::AtLeast(limit) => Some(self.figure >= limit),
            Limit::None => None,
        }
    }
}

/// All lines of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub machine: BTreeMap<&'static str, String>,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

impl Report {
    pub fn push(&mut self, row: Row) {
        // A run takes minutes: whoever watches sees what there is.
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// How many figures are not what they must be.
    pub fn missed(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| row.reached() == Some(false))
            .count()
    }

    pub fn table(&self) -> String {
        let mut table = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(table, "{name}: {value}");
        }
        let _ = writeln!(
            table,
            "{:<58} {:>12} {:>12} {:>7}  ",
            "", "figure", "limit", "± %"
        );
        for row in &self.rows {
            let _ = writeln!(table, "{}", line(row));
        }
        for note in &self.notes {
            let _ = writeln!(table, "note: {note}");
        }
        table
    }
}

fn line(row: &Row) -> String {
    let limit = match row.limit {
        Limit::AtMost(limit) => format!("≤ {}", number(limit, row.unit)),
        Limit::AtLeast(limit) => format!("≥ {}", number(limit, row.unit)),
        Limit::None => "–".to_owned(),
    };
    let verdict = match row.reached() {
        Some(true) => "reached",
        Some(false) => "MISSED",
        None => "",
    };
    let noise = row
        .noise_percent
        .map_or_else(String::new, |noise| format!("{noise:.1}"));
    let parts: Vec<String> = row
        .parts
        .iter()
        .map(|(name, value)| format!("{name} {}", number(*value, "")))
        .collect();
    let figure = number(row.figure, row.unit);
    format!(
        "{:<58} {figure:>12} {limit:>12} {noise:>7}  {verdict:<8} {}",
        row.what,
        parts.join(", ")
    )
    .trim_end()
    .to_owned()
}

fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ if value.fract() == 0.0 => 0,
        _ => 2,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}
