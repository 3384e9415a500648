//! A server's metrics as numbers: the Prometheus text format, as much of it as the invariants need. Pure.

use std::collections::BTreeMap;

/// Series beyond these are not looked at: a page without end must not become memory without end.
const SERIES_MAX: usize = 20_000;

/// One mount's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MountFigures {
    pub(crate) listeners: u64,
    pub(crate) joins: u64,
    pub(crate) departures: BTreeMap<String, u64>,
    pub(crate) sent_bytes: u64,
    pub(crate) received_chunks: u64,
    pub(crate) restarts: u64,
    pub(crate) dropped_chunks: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) source_up: bool,
}

impl MountFigures {
    pub(crate) fn departed(&self) -> u64 {
        self.departures.values().sum()
    }
}

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scrape {
    /// When the server's process was started: another value is another server, or the same in another process, with memory of its own.
    pub(crate) start: f64,
    pub(crate) mounts: BTreeMap<String, MountFigures>,
    pub(crate) listener_connections: Option<u64>,
    pub(crate) refusals: u64,
    /// Every series that may only grow, by name and labels.
    pub(crate) counters: BTreeMap<String, f64>,
}

impl Scrape {
    /// `None` when this is no page of metrics.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut scrape = Self::default();
        let mut kind = ("", "");
        for line in text.lines().take(SERIES_MAX) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                kind = rest.split_once(' ').unwrap_or_default();
            } else if let Some(series) = Series::parse(line) {
                let grows = kind.1 == "counter" || (kind.1 == "histogram" && !series.name.ends_with("_sum"));
                if grows && series.name.starts_with(kind.0) {
                    scrape.counters.insert(line[..line.len() - series.written.len()].trim_end().to_owned(), series.value);
                }
                scrape.note(&series);
            }
        }
        (!scrape.mounts.is_empty()).then_some(scrape)
    }

    fn note(&mut self, series: &Series<'_>) {
        let count = series.value as u64;
        match series.name {
            "process_start_time_seconds" => self.start = series.value,
            "flumen_refusals_total" => self.refusals += count,
            "flumen_connections" if series.label("kind").as_deref() == Some("listener") => self.listener_connections = Some(count),
            _ => {}
        }
        let (true, Some(path)) = (series.name.starts_with("flumen_"), series.label("mount").filter(|path| !path.is_empty())) else {
            return;
        };
        let mount = self.mounts.entry(path).or_default();
        match series.name {
            "flumen_listeners" => mount.listeners = count,
            "flumen_listener_joins_total" => mount.joins = count,
            "flumen_listener_departures_total" => *mount.departures.entry(series.label("reason").unwrap_or_default()).or_default() += count,
            "flumen_sent_bytes_total" => mount.sent_bytes = count,
            "flumen_received_chunks_total" => mount.received_chunks = count,
            "flumen_source_restarts_total" => mount.restarts = count,
            "flumen_dropped_chunks_total" => mount.dropped_chunks = count,
            "flumen_ring_bytes" => mount.ring_bytes = count,
            "flumen_source_up" => mount.source_up = count == 1,
            _ => {}
        }
    }

    pub(crate) fn sum(&self, of: impl Fn(&MountFigures) -> u64) -> u64 {
        self.mounts.values().map(of).sum()
    }

    /// Departures of all mounts by their reason.
    pub(crate) fn departures(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (reason, n) in self.mounts.values().flat_map(|mount| &mount.departures) {
            *all.entry(reason.clone()).or_default() += n;
        }
        all
    }
}

struct Series<'a> {
    name: &'a str,
    labels: &'a str,
    written: &'a str,
    value: f64,
}

impl<'a> Series<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim_end();
        let (front, written) = line.rsplit_once(' ')?;
        let value = written.parse().ok()?;
        let (name, labels) = match front.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end().strip_suffix('}')?),
            None => (front, ""),
        };
        (!name.starts_with('#')).then_some(Self { name, labels, written, value })
    }

    /// A label's value, its escapes undone.
    fn label(&self, wanted: &str) -> Option<String> {
        let mut rest = self.labels;
        loop {
            let (name, behind) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = behind.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            if name.trim_start_matches([',', ' ']) == wanted {
                return Some(value);
            }
            rest = &behind[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP flumen_listeners Listeners now.
# TYPE flumen_listeners gauge
flumen_listeners{mount="/a"} 3
flumen_listeners{mount="/b \"q\""} 1
# TYPE flumen_listener_joins_total counter
flumen_listener_joins_total{mount="/a"} 10
# TYPE flumen_listener_departures_total counter
flumen_listener_departures_total{mount="/a",reason="hung_up"} 6
flumen_listener_departures_total{mount="/a",reason="kicked"} 1
# TYPE flumen_refusals_total counter
flumen_refusals_total{mount="",reason="full"} 2
# TYPE flumen_connections gauge
flumen_connections{kind="listener"} 4
flumen_connections{kind="guest"} 1
# TYPE flumen_first_byte_seconds histogram
flumen_first_byte_seconds_bucket{mount="/a",le="+Inf"} 9
flumen_first_byte_seconds_sum{mount="/a"} 0.5
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1700000000.25
"#;

    #[test]
    fn a_page_of_metrics_is_read() {
        let scrape = Scrape::parse(PAGE).expect("metrics");
        let a = &scrape.mounts["/a"];
        assert_eq!((a.listeners, a.joins, a.departed()), (3, 10, 7));
        assert_eq!(scrape.mounts["/b \"q\""].listeners, 1);
        assert_eq!((scrape.start, scrape.refusals, scrape.listener_connections), (1_700_000_000.25, 2, Some(4)));
        assert_eq!(scrape.departures(), BTreeMap::from([("hung_up".to_owned(), 6), ("kicked".to_owned(), 1)]));
    }

    #[test]
    fn what_may_only_grow_is_told_from_what_may_fall() {
        let scrape = Scrape::parse(PAGE).expect("metrics");
        assert_eq!(scrape.counters[r#"flumen_listener_joins_total{mount="/a"}"#], 10.0);
        assert_eq!(scrape.counters[r#"flumen_first_byte_seconds_bucket{mount="/a",le="+Inf"}"#], 9.0);
        assert!(scrape.counters.keys().all(|name| !name.contains("_sum") && !name.starts_with("flumen_listeners{")));
    }

    #[test]
    fn nonsense_is_no_page_of_metrics() {
        for text in ["", "<html>", "flumen_listeners{mount=\"/a} 1", "flumen_listeners{mount=} x\n{} 1\n} 2"] {
            assert_eq!(Scrape::parse(text), None, "{text}");
        }
    }
}
