//! The results of `listen` and `storm` as pages with plots. Pure.

use super::{Listen, Moment, Storm, quantile_text, rows_of};
use crate::page::{Bar, Block, Group, Page, Series};
use crate::stats::Quantiles;

/// A result and its course as a page.
pub(crate) fn listen<'a>(result: &Listen, course: impl Iterator<Item = &'a Moment>) -> Page {
    let course: Vec<&Moment> = course.collect();
    let line = |name: &str, value: fn(&Moment) -> Option<f64>| Series {
        name: name.to_owned(),
        points: course.iter().filter_map(|moment| Some((moment.seconds, value(moment)?))).collect(),
    };
    let plot = |title: &str, y: &'static str, series| Block::Lines { title: title.to_owned(), x: "seconds", y, series };
    let title = format!("loadtest listen: {} listeners, {}", result.listeners, result.verdict);
    let mut blocks = vec![
        Block::Text(format!("{}, made by loadtest {}.", result.targets.join(", "), result.version)),
        Block::Table { head: Vec::new(), rows: rows_of(result) },
        Block::Heading("Over time".to_owned()),
    ];
    if course.iter().any(|moment| moment.server_cpu_percent.is_some()) {
        let cpu = vec![line("server", |moment| moment.server_cpu_percent)];
        blocks.push(plot("Server CPU", "percent of one core", cpu));
    }
    blocks.extend([
        plot("Bytes", "Mbit/s", vec![line("received by all listeners", |moment| Some(moment.mbit_per_s))]),
        plot(
            "Longest wait for bytes of an interval, measured listeners",
            "milliseconds",
            vec![line("stall", |moment| moment.longest_gap_ms)],
        ),
        plot(
            "Listeners",
            "listeners",
            vec![
                line("listening", |moment| Some(moment.listening as f64)),
                line("joining", |moment| Some(moment.joining as f64)),
                line("refused so far", |moment| Some(moment.refused as f64)),
                line("lost so far", |moment| Some(moment.lost as f64)),
                line("corrupt so far", |moment| Some(moment.corrupt as f64)),
            ],
        ),
    ]);
    Page { title, blocks }
}

/// A storm, round by round.
pub(crate) fn storm(result: &Storm) -> Page {
    let over_rounds = |name: &str, value: fn(&Quantiles) -> f64| Series {
        name: name.to_owned(),
        points: result.rounds.iter().filter_map(|round| Some((f64::from(round.round), value(round.first_body_byte.as_ref()?)))).collect(),
    };
    let quantiles = [
        over_rounds("p50", |q| q.p50_ms),
        over_rounds("p90", |q| q.p90_ms),
        over_rounds("p99", |q| q.p99_ms),
        over_rounds("max", |q| q.max_ms),
    ];
    let bars = quantiles.iter().filter_map(|series| bar(&series.name, series.points.iter().map(|point| point.1).collect())).collect();
    let rounds = result
        .rounds
        .iter()
        .map(|round| {
            let times = round.first_body_byte.as_ref().map(quantile_text).unwrap_or_default();
            vec![
                round.round.to_string(),
                round.joined.to_string(),
                round.refused.to_string(),
                format!("{:.2} s", round.all_served_s),
                times,
            ]
        })
        .collect();
    Page {
        title: format!("loadtest storm: {} listeners, {}", result.listeners, result.verdict),
        blocks: vec![
            Block::Text(format!("{}, made by loadtest {}.", result.targets.join(", "), result.version)),
            // The rounds have no name and come below, with more room.
            Block::Table { head: Vec::new(), rows: rows_of(result).into_iter().filter(|row| !row[0].is_empty()).collect() },
            Block::Heading("Rounds".to_owned()),
            Block::Table {
                head: ["round", "joined", "refused", "all decided in", "first body byte"].map(str::to_owned).to_vec(),
                rows: rounds,
            },
            Block::Bars {
                title: "First body byte: median of the rounds, and their spread".to_owned(),
                y: "milliseconds",
                groups: vec![Group { name: format!("{} rounds", result.rounds.len()), bars }],
            },
            Block::Lines { title: "First body byte, round by round".to_owned(), x: "round", y: "milliseconds", series: quantiles.to_vec() },
        ],
    }
}

fn bar(name: &str, mut values: Vec<f64>) -> Option<Bar> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    Some(Bar { name: name.to_owned(), median: values[values.len() / 2], min, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, StormRound};

    #[test]
    fn a_run_without_a_course_and_a_storm_without_rounds_still_make_a_page() {
        let listen_result = Listen {
            version: "1",
            targets: vec!["http://127.0.0.1/<a>".to_owned()],
            listeners: 1,
            ramp_seconds: 0.0,
            steady_seconds: 0.0,
            outcome: Outcome::default(),
            first_body_byte: None,
            stall: None,
            stall_coarse: None,
            latency: None,
            bytes_per_s_per_listener: None,
            asked: Vec::new(),
            server: None,
            own_cpu_percent: None,
            verdict: "failed",
        };
        let html = listen(&listen_result, std::iter::empty()).html().expect("drawn");
        assert!(html.contains("&lt;a&gt;") && html.contains("failed"));
        let mut storm_result = Storm {
            version: "1",
            targets: Vec::new(),
            listeners: 1,
            rounds: Vec::new(),
            outcome: Outcome::default(),
            before: None,
            after: None,
            verdict: "good",
        };
        assert!(storm(&storm_result).html().expect("drawn").contains("Nothing was measured"));
        let times = Quantiles { count: 1, p50_ms: 1.0, p90_ms: 2.0, p99_ms: 3.0, max_ms: 4.0 };
        storm_result.rounds.push(StormRound { round: 1, joined: 1, refused: 0, all_served_s: 0.1, first_body_byte: Some(times) });
        assert!(storm(&storm_result).html().expect("drawn").contains("<svg"));
    }
}
