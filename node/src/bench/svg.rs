//! A run as a picture: throughput by the second, latency by the second, latency by percentile. Plain SVG, no script.
//! Owns the geometry. Invariant: every number drawn stands in the report too.

use std::fmt::Write;

use super::report::Report;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 120.0;
const PANEL: f64 = 190.0;
const GAP: f64 = 60.0;
const HEAD: f64 = 70.0;
const COLOURS: [&str; 3] = ["#1f77b4", "#ff7f0e", "#d62728"];
const STYLE: &str = "text{font:13px sans-serif;fill:#333}.title{font-size:18px}.line{fill:none;stroke-width:2}\
    .grid{stroke:#ddd}.frame{fill:none;stroke:#999}";

/// A named line through points.
struct Curve {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// How values become places on an axis.
#[derive(Clone, Copy)]
enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten.
    Log,
}

struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

/// The picture, or nothing but its title for a run without intervals.
pub fn draw(report: &Report) -> String {
    let over_time = |name, of: fn(&super::meter::Interval) -> f64| Curve {
        name,
        points: report.intervals.iter().map(|interval| (interval.at_s, of(interval))).collect(),
    };
    let mut panels = vec![("MB/s, by second", Scale::Linear, vec![over_time("MB/s", |interval| interval.mb_per_s)])];
    if report.latency.is_some() {
        let latencies = vec![
            over_time("p50", |interval| interval.p50_ms),
            over_time("p99", |interval| interval.p99_ms),
            over_time("max", |interval| interval.max_ms),
        ];
        panels.push(("latency in ms, by second", Scale::Log, latencies));
        // Each further nine is as wide as the one before.
        let nines = |share: f64| -(1.0 - share.min(0.99999)).log10();
        let points = report.percentiles.iter().map(|(share, ms)| (nines(*share), *ms)).collect();
        panels.push(("latency in ms, by share of requests", Scale::Log, vec![Curve { name: "latency", points }]));
    }
    let height = HEAD + panels.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    label(&mut svg, (LEFT, 28.0), "title", &title(report));
    for (number, (name, scale, curves)) in panels.iter().enumerate() {
        let top = HEAD + number as f64 * (PANEL + GAP);
        label(&mut svg, (LEFT, top - 8.0), "", name);
        panel(&mut svg, top, *scale, curves, number == 2);
    }
    svg.push_str("</svg>\n");
    svg
}

fn title(report: &Report) -> String {
    let rates = format!("{} MB/s, {} records/s", report.mb_per_s, report.records_per_s);
    let latency = report.latency.map(|latency| format!(", p50 {} ms, p99 {} ms", latency.p50_ms, latency.p99_ms));
    format!("flotilla bench {}: {rates}{}", report.bench, latency.unwrap_or_default())
}

fn panel(svg: &mut String, top: f64, scale: Scale, curves: &[Curve], by_share: bool) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x = Axis { scale: Scale::Linear, low: 0.0, high: points().map(|(x, _)| *x).fold(1e-3, f64::max) };
    let y = Axis::around(scale, points().map(|(_, y)| *y));
    let place =
        |(at, value): (f64, f64)| (LEFT + x.place(at) * (WIDTH - LEFT - RIGHT), top + PANEL - y.place(value) * PANEL);
    for value in y.marks() {
        let (_, height) = place((0.0, value));
        line(svg, "grid", (LEFT, height), (WIDTH - RIGHT, height));
        label(svg, (8.0, height + 4.0), "", &short(value));
    }
    let marks: Vec<(f64, String)> = if by_share {
        ["0%", "90%", "99%", "99.9%", "99.99%", "100%"]
            .iter()
            .enumerate()
            .map(|(x, name)| (x as f64, (*name).to_owned()))
            .collect()
    } else {
        x.marks().into_iter().map(|second| (second, format!("{} s", short(second)))).collect()
    };
    for (at, name) in marks {
        let (across, _) = place((at, y.low));
        line(svg, "grid", (across, top), (across, top + PANEL));
        label(svg, (across - 8.0, top + PANEL + 16.0), "", &name);
    }
    let _ = writeln!(
        svg,
        "<rect class=\"frame\" x=\"{LEFT}\" y=\"{top}\" width=\"{}\" height=\"{PANEL}\"/>",
        WIDTH - LEFT - RIGHT
    );
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let path: Vec<String> =
            curve.points.iter().map(|point| place(*point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>", path.join(" "));
    }
    for (number, (curve, colour)) in curves.iter().zip(COLOURS).enumerate() {
        let height = top + 14.0 + number as f64 * 18.0;
        let left = WIDTH - RIGHT + 10.0;
        let _ = writeln!(svg, "<path d=\"M{left} {}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>", height - 4.0);
        label(svg, (left + 24.0, height), "", curve.name);
    }
}

impl Axis {
    fn around(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let high = values.clone().fold(0.0, f64::max).max(1e-3);
        match scale {
            Scale::Linear => Self { scale, low: 0.0, high: high * 1.1 },
            Scale::Log => {
                let low = values.filter(|value| *value > 0.0).fold(high, f64::min).max(1e-3);
                Self { scale, low: 10f64.powf(low.log10().floor()), high: 10f64.powf((high * 1.001).log10().ceil()) }
            }
        }
    }

    /// 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        }
    }

    fn marks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice(self.high / 5.0);
                (0..=(self.high / step) as u32).map(|number| f64::from(number) * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                (0..=decades).map(|decade| self.low * 10f64.powi(decade)).collect()
            }
        }
    }
}

/// The next larger of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|nice| *nice >= step).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn label(svg: &mut String, (x, y): (f64, f64), class: &str, text: &str) {
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::meter::Interval;
    use crate::bench::report::Latency;

    #[test]
    fn every_second_and_percentile_is_a_point() {
        let interval = |at_s| Interval {
            at_s,
            mb_per_s: 10.0 * at_s,
            p50_ms: 1.0,
            p99_ms: 5.0,
            max_ms: 60.0,
            ..Default::default()
        };
        let report = Report {
            bench: "produce",
            latency: Some(Latency::default()),
            intervals: vec![interval(1.0), interval(2.0), interval(3.0)],
            percentiles: vec![(0.0, 0.5), (0.99, 5.0), (1.0, 60.0)],
            ..Default::default()
        };
        let svg = draw(&report);
        let curves: Vec<usize> = svg
            .lines()
            .filter(|line| line.starts_with("<polyline"))
            .map(|line| line.split("points=").nth(1).unwrap_or_default().split(' ').count())
            .collect();
        assert_eq!(curves, [3, 3, 3, 3, 3]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_run_without_latency_has_its_throughput_alone() {
        let report = Report { bench: "consume", ..Default::default() };
        let svg = draw(&report);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
    }
}
