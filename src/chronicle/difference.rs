//! What happened between two looks at the house. Pure: two scenes in, events out.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Event;
use super::scene::{Filler, MountScene, Scene};
use crate::fanout::departure::{Departure, Refusal};

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A mount was opened.
    MountAdded,
    /// A mount was closed.
    MountRemoved,
    /// A source delivers.
    SourceUp,
    /// A source has gone.
    SourceDown,
    /// A source was started anew.
    SourceRestart,
    /// Another source took the place of one that delivered.
    SourceTakeover,
    /// Something else is being played.
    Title,
    /// Listeners came and went.
    Listeners,
    /// Listeners were too slow, and moved on.
    Recoveries,
    /// Somebody was turned away.
    Refused,
    /// A configuration was read.
    Reload,
    /// A certificate was renewed, or could not be.
    Certificate,
    /// Nobody is let in any more.
    Drain,
    /// Something needs attention.
    Advice,
    /// Something needs attention no more.
    AdviceOver,
}

impl Kind {
    /// All kinds, with their words.
    pub const WORDS: [(&'static str, Self); 15] = [
        ("mount_added", Self::MountAdded),
        ("mount_removed", Self::MountRemoved),
        ("source_up", Self::SourceUp),
        ("source_down", Self::SourceDown),
        ("source_restart", Self::SourceRestart),
        ("source_takeover", Self::SourceTakeover),
        ("title", Self::Title),
        ("listeners", Self::Listeners),
        ("recoveries", Self::Recoveries),
        ("refused", Self::Refused),
        ("reload", Self::Reload),
        ("certificate", Self::Certificate),
        ("drain", Self::Drain),
        ("advice", Self::Advice),
        ("advice_over", Self::AdviceOver),
    ];

    /// The word.
    pub fn label(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// `3 listeners`, `1 listener`.
pub(super) fn count_of(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What happened, the server's own first.
pub(super) fn difference(before: &Scene, after: &Scene) -> Vec<Event> {
    let mut told = Vec::new();
    let mut tell = |kind, mount: Option<&str>, says: String, details: Map<String, Value>| {
        told.push(Event { at: after.at, event: kind, mount: mount.map(Into::into), says, details });
    };
    if after.draining && !before.draining {
        tell(Kind::Drain, None, "nobody is let in any more; everybody is sent what is queued, and leaves".to_owned(), Map::new());
    }
    let (renewed, failed) = (after.renewals.0.saturating_sub(before.renewals.0), after.renewals.1.saturating_sub(before.renewals.1));
    if renewed > 0 {
        tell(Kind::Certificate, None, format!("{} renewed", count_of(renewed, "certificate")), Map::new());
    }
    if failed > 0 {
        tell(Kind::Certificate, None, "a certificate cannot be renewed; the one before stays in use".to_owned(), Map::new());
    }
    for gone in before.mounts.iter().filter(|mount| after.mount(&mount.path).is_none()) {
        tell(Kind::MountRemoved, Some(&gone.path), "the mount was closed".to_owned(), Map::new());
    }
    for mount in &after.mounts {
        match before.mount(&mount.path) {
            Some(earlier) => of_mount(earlier, mount, &mut tell),
            None => {
                tell(Kind::MountAdded, Some(&mount.path), "the mount was opened".to_owned(), Map::new());
                of_mount(&MountScene::default(), mount, &mut tell);
            }
        }
    }
    told
}

fn details<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_mount(before: &MountScene, after: &MountScene, tell: &mut impl FnMut(Kind, Option<&str>, String, Map<String, Value>)) {
    let path = Some(after.path.as_str());
    let restarts = after.restarts.saturating_sub(before.restarts);
    match (before.up, after.up) {
        (false, true) => {
            let kind = after.content_type.as_deref().unwrap_or("something unknown");
            tell(Kind::SourceUp, path, format!("a source delivers {kind}"), details([("content_type", kind.into())]));
        }
        (true, false) => {
            let why = went(after);
            tell(Kind::SourceDown, path, format!("the source has gone: {why}"), details([("reason", why.into())]));
        }
        // A pipeline that begins anew has a number of its own as well; that is told below.
        (true, true) if after.writer != before.writer && restarts == 0 => {
            tell(Kind::SourceTakeover, path, "another source delivers in place of the one before".to_owned(), Map::new());
        }
        _ => {}
    }
    if restarts > 0 {
        let says =
            if restarts == 1 { "the source was started anew".to_owned() } else { format!("the source was started anew {restarts} times") };
        tell(Kind::SourceRestart, path, says, details([("times", restarts.into())]));
    }
    if after.title != before.title && !after.title.is_empty() {
        tell(Kind::Title, path, after.title.clone(), details([("title", after.title.clone().into())]));
    }
    audience(before, after, tell);
}

/// Why the source went.
pub(super) fn went(mount: &MountScene) -> &str {
    match (&mount.fault, mount.filler) {
        (Some(fault), _) => fault,
        (None, Filler::OnDemand) => "nobody listens",
        (None, _) => "it came to its end",
    }
}

fn audience(before: &MountScene, after: &MountScene, tell: &mut impl FnMut(Kind, Option<&str>, String, Map<String, Value>)) {
    let path = Some(after.path.as_str());
    let joined = after.joins.saturating_sub(before.joins);
    let left: Vec<_> = Departure::ALL
        .into_iter()
        .map(|why| (why.label(), after.departures[why.index()].saturating_sub(before.departures[why.index()])))
        .filter(|(_, count)| *count > 0)
        .collect();
    if joined > 0 || !left.is_empty() {
        let mut parts = Vec::new();
        if joined > 0 {
            parts.push(format!("{joined} joined"));
        }
        parts.extend(left.iter().map(|(why, count)| format!("{count} left ({why})")));
        let departures: Map<_, _> = left.iter().map(|(why, count)| ((*why).to_owned(), Value::from(*count))).collect();
        let fields = [("joined", joined.into()), ("left", departures.into()), ("listeners", after.listeners().into())];
        tell(Kind::Listeners, path, parts.join(", "), details(fields));
    }
    let recovered = after.recoveries.saturating_sub(before.recoveries);
    if recovered > 0 {
        let were = if recovered == 1 { "was" } else { "were" };
        let says = format!("{} {were} too slow, and moved on", count_of(recovered, "listener"));
        tell(Kind::Recoveries, path, says, details([("times", recovered.into())]));
    }
    let refused = Refusal::ALL.into_iter().map(|why| (why, after.refusals[why.index()].saturating_sub(before.refusals[why.index()])));
    for (why, count) in refused.filter(|(_, count)| *count > 0) {
        let says = format!("{count} turned away: {}", why.label());
        tell(Kind::Refused, path, says, details([("reason", why.label().into()), ("times", count.into())]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str) -> MountScene {
        MountScene { path: path.into(), up: true, content_type: Some("audio/mpeg".into()), writer: 1, ..MountScene::default() }
    }

    fn scene(mounts: Vec<MountScene>) -> Scene {
        Scene { mounts, ..Scene::default() }
    }

    fn told(before: &MountScene, after: MountScene) -> Vec<String> {
        let events = difference(&scene(vec![before.clone()]), &scene(vec![after]));
        events.into_iter().map(|event| format!("{}: {}", event.event.label(), event.says)).collect()
    }

    #[test]
    fn what_happened_to_a_mount_is_told_in_words() {
        let before = mount("/a");
        let departures = |why: Departure, count| {
            let mut departures = before.departures;
            departures[why.index()] = count;
            departures
        };
        let mut refusals = before.refusals;
        refusals[Refusal::Full.index()] = 3;
        for (after, want) in [
            (before.clone(), &[] as &[&str]),
            (MountScene { up: false, ..before.clone() }, &["source_down: the source has gone: it came to its end"]),
            (
                MountScene { up: false, fault: Some("no signal".into()), restarts: 1, writer: 2, ..before.clone() },
                &["source_down: the source has gone: no signal", "source_restart: the source was started anew"],
            ),
            (MountScene { up: false, filler: Filler::OnDemand, ..before.clone() }, &["source_down: the source has gone: nobody listens"]),
            (MountScene { restarts: 2, writer: 5, ..before.clone() }, &["source_restart: the source was started anew 2 times"]),
            (MountScene { writer: 2, ..before.clone() }, &["source_takeover: another source delivers in place of the one before"]),
            (MountScene { title: "A - T".into(), ..before.clone() }, &["title: A - T"]),
            (
                MountScene { joins: 9, departures: departures(Departure::TooSlow, 2), ..before.clone() },
                &["listeners: 9 joined, 2 left (too_slow)"],
            ),
            (MountScene { recoveries: 1, ..before.clone() }, &["recoveries: 1 listener was too slow, and moved on"]),
            (MountScene { recoveries: 4, ..before.clone() }, &["recoveries: 4 listeners were too slow, and moved on"]),
            (MountScene { refusals, ..before.clone() }, &["refused: 3 turned away: full"]),
        ] {
            assert_eq!(told(&before, after), want);
        }
    }

    #[test]
    fn mounts_come_and_go_and_counters_that_begin_anew_are_no_flood() {
        let events = difference(&scene(vec![mount("/a"), mount("/b")]), &scene(vec![mount("/b"), mount("/c")]));
        let words: Vec<_> = events.iter().map(|event| (event.event.label(), event.mount.as_deref().unwrap_or_default())).collect();
        assert_eq!(words, [("mount_removed", "/a"), ("mount_added", "/c"), ("source_up", "/c")]);
        let anew = MountScene { joins: 5, ..mount("/a") };
        assert_eq!(told(&MountScene { joins: 1000, ..mount("/a") }, anew), [""; 0], "a mount closed and opened again between two looks");
        let (before, after) = (Scene::default(), Scene { draining: true, renewals: (1, 1), ..Scene::default() });
        let words: Vec<_> = difference(&before, &after).into_iter().map(|event| event.event.label()).collect();
        assert_eq!(words, ["drain", "certificate", "certificate"]);
    }

    #[test]
    fn a_storm_is_one_event() {
        let storm = MountScene { joins: 100_000, ..mount("/a") };
        assert_eq!(told(&mount("/a"), storm).len(), 1);
    }

    #[test]
    fn every_kind_has_its_word() {
        for (i, (word, kind)) in Kind::WORDS.into_iter().enumerate() {
            assert_eq!((kind as usize, serde_json::to_value(kind).expect("a word")), (i, word.into()));
        }
    }
}
