//! What must hold at every sample, whatever the faults. Pure.
//!
//! The server's page and the tool's books are never of the same moment. So a page is held against the books of two moments: what the tool
//! had seen an interval ago the server must have counted by now, however slow the machine, and what the tool had not even begun
//! when the page came the server cannot have.

use std::collections::BTreeMap;

use super::sample::Totals;
use super::scrape::Scrape;
use super::verdict::Reason;

/// Every word a departure may have.
const DEPARTURES: [&str; 9] =
    ["hung_up", "too_slow", "stalled", "kicked", "session_limit", "source_ended", "moved", "shutting_down", "io_error"];

/// The tool's books at a moment of this session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) totals: Totals,
    pub(crate) joining: u64,
    pub(crate) listening: u64,
    /// Removals that the server was asked for.
    pub(crate) kicks_asked: u64,
    /// Records handed to each mount that a source of ours feeds.
    pub(crate) records: BTreeMap<String, u64>,
}

/// A page and what surrounds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) page: &'a Scrape,
    /// The page before this one.
    pub(crate) previous: Option<&'a Scrape>,
    /// The page from before this session's first join.
    pub(crate) base: &'a Scrape,
    pub(crate) before: &'a Books,
    pub(crate) after: &'a Books,
    /// Nobody else listens to this server.
    pub(crate) alone: bool,
    /// Everybody has left and had time to be noticed.
    pub(crate) over: bool,
}

pub(crate) type Found = (Reason, String);

/// What is wrong; nothing, mostly.
pub(crate) fn check(seen: &Seen<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let page = seen.page;
    if page.start != seen.base.start {
        // Its counters began anew: there is nothing left to compare.
        found.push((Reason::Died, format!("another server answers: it was started at {}, not at {}", page.start, seen.base.start)));
        return found;
    }
    for (path, mount) in &page.mounts {
        let (joins, departed, listeners) = (mount.joins, mount.departed(), mount.listeners);
        if joins.checked_sub(departed) != Some(listeners) {
            found.push((Reason::Joins, format!("{path}: {joins} joins − {departed} departures are not {listeners} listeners")));
        }
        for reason in mount.departures.keys().filter(|reason| !DEPARTURES.contains(&reason.as_str())) {
            found.push((Reason::Departure, format!("{path}: departure `{reason}` is not in the closed set")));
        }
    }
    let listeners = page.sum(|mount| mount.listeners);
    if page.listener_connections.is_some_and(|total| total != listeners) {
        found.push((Reason::Total, format!("{listeners} listeners on the mounts, {:?} in all", page.listener_connections)));
    }
    if let Some(previous) = seen.previous {
        for (series, was) in &previous.counters {
            match page.counters.get(series) {
                Some(is) if is < was => found.push((Reason::Counter, format!("{series} went from {was} to {is}"))),
                None => found.push((Reason::Counter, format!("{series} is gone"))),
                Some(_) => {}
            }
        }
    }
    ledger(seen, &mut found);
    found
}

/// The server's figures of this session against the tool's books.
fn ledger(seen: &Seen<'_>, found: &mut Vec<Found>) {
    let since = |of: fn(&Scrape) -> u64| of(seen.page).saturating_sub(of(seen.base));
    let (before, after) = (&seen.before.totals, &seen.after.totals);
    let mut at_least = |what: &str, server: u64, tool: u64| {
        if server < tool {
            found.push((Reason::Ledger, format!("{what}: the server counts {server}, the tool has seen {tool}")));
        }
    };
    let joins = since(|page| page.sum(|mount| mount.joins));
    let departed = since(|page| page.sum(|mount| mount.departed()));
    at_least("joins", joins, before.joined);
    at_least("bytes", since(|page| page.sum(|mount| mount.sent_bytes)), before.body_bytes);
    at_least("departures of its own doing", departed, before.lost + before.removed + before.kicked);
    let mut at_most = |what: &str, server: u64, tool: u64| {
        if server > tool {
            found.push((Reason::Ledger, format!("{what}: the server counts {server}, the tool can answer for {tool}")));
        }
    };
    for (path, made) in &seen.after.records {
        let received = |page: &Scrape| page.mounts.get(path).map_or(0, |mount| mount.received_chunks);
        at_most(&format!("{path}: chunks received"), received(seen.page).saturating_sub(received(seen.base)), *made);
    }
    if !seen.alone {
        return;
    }
    // A join that the tool gave up may have been one to the server.
    at_most("joins", joins, after.joined + seen.after.joining + after.abandoned + after.refused);
    let kicked = |page: &Scrape| page.sum(|mount| mount.departures.get("kicked").copied().unwrap_or(0));
    at_most("removals", since(kicked), seen.after.kicks_asked);
    let listeners = seen.page.sum(|mount| mount.listeners).saturating_sub(seen.base.sum(|mount| mount.listeners));
    if seen.over {
        at_most("listeners after all have left", listeners, 0);
    } else {
        // Who left within the sample, or just before it, may not have been noticed yet.
        let leaving = after.left + after.abandoned + after.refused - before.left - before.abandoned - before.refused;
        let most = seen.before.listening.max(seen.after.listening) + seen.before.joining.max(seen.after.joining) + leaving;
        at_most("listeners", listeners, most + most / 10 + 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::scrape::MountFigures;

    fn page(joins: u64, hung_up: u64) -> Scrape {
        let mount = MountFigures {
            listeners: joins - hung_up,
            joins,
            departures: BTreeMap::from([("hung_up".to_owned(), hung_up)]),
            sent_bytes: 1_000 * joins,
            received_chunks: 50,
            ..MountFigures::default()
        };
        let counters = BTreeMap::from([("joins".to_owned(), joins as f64)]);
        Scrape {
            start: 1.0,
            listener_connections: Some(mount.listeners),
            mounts: BTreeMap::from([("/a".to_owned(), mount)]),
            counters,
            ..Scrape::default()
        }
    }

    fn books(joined: u64, left: u64) -> Books {
        let totals = Totals { joined, left, body_bytes: 500 * joined, ..Totals::default() };
        Books { totals, listening: joined - left, records: BTreeMap::from([("/a".to_owned(), 60)]), ..Books::default() }
    }

    fn reasons(page: &Scrape, previous: Option<&Scrape>, books: &Books, over: bool) -> Vec<Reason> {
        let base = Scrape { start: 1.0, ..Scrape::default() };
        let seen = Seen { page, previous, base: &base, before: books, after: books, alone: true, over };
        check(&seen).into_iter().map(|(reason, _)| reason).collect()
    }

    #[test]
    fn a_server_that_counts_right_is_not_blamed() {
        assert_eq!(reasons(&page(20, 5), Some(&page(18, 5)), &books(20, 5), false), []);
        assert_eq!(reasons(&page(20, 20), Some(&page(20, 5)), &books(20, 20), true), []);
        // Somebody has joined whom the tool has not seen served yet; somebody left whom the server has not missed yet.
        let books = Books { joining: 2, ..books(18, 6) };
        assert_eq!(reasons(&page(20, 5), None, &books, false), []);
    }

    type Spoil = fn(&mut Scrape);

    #[test]
    fn every_kind_of_wrong_figure_has_its_reason() {
        fn mount(page: &mut Scrape) -> &mut MountFigures {
            page.mounts.get_mut("/a").expect("there")
        }
        let table: [(&str, Spoil, Reason); 8] = [
            ("a listener too many", |page| mount(page).joins += 1, Reason::Joins),
            ("a total of its own", |page| page.listener_connections = Some(99), Reason::Total),
            ("a new word", |page| mount(page).departures.extend([("whim".to_owned(), 0)]), Reason::Departure),
            ("back", |page| page.counters.extend([("joins".to_owned(), 1.0)]), Reason::Counter),
            ("gone", |page| page.counters.clear(), Reason::Counter),
            ("too few bytes", |page| mount(page).sent_bytes = 3, Reason::Ledger),
            ("too many chunks", |page| mount(page).received_chunks = 61, Reason::Ledger),
            ("another server", |page| page.start = 2.0, Reason::Died),
        ];
        for (name, spoil, want) in table {
            let mut spoilt = page(20, 5);
            spoil(&mut spoilt);
            let found = reasons(&spoilt, Some(&page(18, 5)), &books(20, 5), false);
            assert!(found.contains(&want), "{name}: {found:?}");
        }
    }

    #[test]
    fn listeners_that_nobody_answers_for_are_noticed() {
        assert_eq!(reasons(&page(60, 5), None, &books(20, 5), false), [Reason::Ledger, Reason::Ledger], "joins and listeners");
        assert_eq!(reasons(&page(20, 19), None, &books(20, 20), true), [Reason::Ledger], "one is left behind");
    }

    #[test]
    fn what_others_do_on_a_shared_server_is_none_of_our_business() {
        let (page, books, base) = (page(500, 5), books(20, 5), Scrape { start: 1.0, ..Scrape::default() });
        let seen = Seen { page: &page, previous: None, base: &base, before: &books, after: &books, alone: false, over: false };
        assert_eq!(check(&seen), []);
    }
}
