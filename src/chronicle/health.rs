//! What needs an operator's attention, in words: what it is, and what to do. Pure: a scene and the last ten minutes in, advice out.
//!
//! Advice is about what is, not about what was counted: it goes when its cause goes. What it names is bounded by mounts, shards and
//! certificates.

use std::time::Duration;

use serde::Serialize;

use super::difference::{count_of, went};
use super::past::Past;
use super::scene::{Filler, MountScene, Scene};

/// How much it matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It will hurt somebody, or hurts a few.
    Warning,
    /// It hurts listeners now.
    Critical,
}

impl Severity {
    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that needs attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What it is, in a word.
    pub about: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Which mount; `None`: the server.
    pub mount: Option<String>,
    /// What else it is about: a shard, a file.
    pub subject: Option<String>,
    /// What is the case, in a sentence.
    pub says: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Falls within ten minutes that are a habit.
const FLAPS: usize = 3;
/// A mount may be without a source for so many seconds before that is said.
const GRACE: f64 = 10.0;
/// A source that is up and delivers nothing for so long is said to be silent.
const SILENT: Duration = Duration::from_secs(10);
/// From this share of its places on a mount or the server is nearly full.
const NEARLY_FULL: f64 = 0.9;
/// A listener this far behind lags, where there is no limit to compare with.
const FAR_BEHIND: Duration = Duration::from_secs(10);
/// A certificate is to be renewed when it has so many days left; and it is urgent then.
const DAYS_LEFT: (f64, f64) = (21.0, 3.0);
/// Looks in a row, one a second, after which a shard is overloaded and not only busy.
const BUSY_LOOKS: u32 = 10;
/// Listeners lost within ten minutes that are too many: more than a few, and than a share of all.
const LOST: (u64, f64) = (2, 0.02);

/// Pieces of advice that are given at once; who has more of it knows that all is not well.
const ADVICE_MOST: usize = 100;

/// What needs attention now, what matters most first.
pub fn health(scene: &Scene, past: &Past) -> Vec<Advice> {
    let mut all = of_server(scene, past);
    for mount in &scene.mounts {
        all.extend(of_mount(mount, past, scene.at));
    }
    for (index, shard) in scene.shards.iter().enumerate() {
        if past.busy(index) >= BUSY_LOOKS {
            all.push(Advice {
                about: "shard_overloaded",
                severity: Severity::Warning,
                mount: None,
                subject: Some(format!("shard {index}")),
                says: format!(
                    "sending thread {index} works {:.0} % of the time, for {}",
                    shard.busy * 100.0,
                    count_of(shard.listeners, "listener")
                ),
                remedy: "raise coalesce, give the server another core (server.shards), lower max_listeners, or let a second server relay",
            });
        }
    }
    all.sort_by_key(|advice| std::cmp::Reverse(advice.severity));
    all.truncate(ADVICE_MOST);
    all
}

fn of_server(scene: &Scene, past: &Past) -> Vec<Advice> {
    let (mut all, then) = (Vec::new(), past.server());
    let mut say = |about, severity, subject: Option<&str>, says: String, remedy| {
        all.push(Advice { about, severity, mount: None, subject: subject.map(Into::into), says, remedy });
    };
    if scene.draining {
        let says = format!("the server drains: nobody is let in any more, and {} left", are(scene.places.0));
        say("draining", Severity::Note, None, says, "start it anew when they have gone");
    }
    if scene.reload_failed {
        let says = "the configuration that was read last is wrong; the one before holds".to_owned();
        say("reload_failed", Severity::Warning, None, says, "mend the file (flumen check shows every error with its line), then reload");
    }
    let (taken, most) = scene.places;
    if is_nearly_full(taken, most) {
        let says = format!("{taken} of the server's {most} places for listeners are taken");
        say(
            "limit_near",
            fullness(taken, most),
            None,
            says,
            "raise server.max_listeners, if flumen check says that memory and descriptors allow it",
        );
    }
    for (file, expires) in &scene.certificates {
        let days = (*expires as f64 - scene.at) / 86_400.0;
        if days < DAYS_LEFT.0 {
            let severity = if days < DAYS_LEFT.1 { Severity::Critical } else { Severity::Warning };
            let says = if days < 0.0 {
                format!("the certificate {file} has expired: players refuse it")
            } else {
                format!("the certificate {file} expires in {}", days_left(days))
            };
            say("certificate_expiring", severity, Some(file), says, "renew it; flumen reads the files again by itself when they change");
        }
    }
    if scene.renewals.1 > then.renewals_failed && scene.renewals.0 == then.renewed {
        let says = "a certificate's files changed and cannot be used; the certificate before stays in use".to_owned();
        say("certificate_unusable", Severity::Warning, None, says, "see the log for what is wrong with them, and mend them");
    }
    for (log, now, before) in [("event", scene.log_dropped.0, then.log_dropped.0), ("access", scene.log_dropped.1, then.log_dropped.1)] {
        let dropped = now.saturating_sub(before);
        if dropped > 0 {
            let says =
                format!("the {log} log lost {} within ten minutes: whoever takes them is too slow, or full", count_of(dropped, "line"));
            say(
                "log_dropped",
                Severity::Warning,
                Some(log),
                says,
                "look for a full or slow disk, or a reader of the pipe that has stopped",
            );
        }
    }
    let lost = scene.webhooks_lost.saturating_sub(then.webhooks_lost);
    if lost > 0 {
        let says = format!("webhooks did not take {} within ten minutes", count_of(lost, "event"));
        say("webhook_failing", Severity::Note, None, says, "look whether the program behind the webhook answers; the log names it");
    }
    all
}

fn of_mount(mount: &MountScene, past: &Past, now: f64) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |about, severity, says: String, remedy| {
        all.push(Advice { about, severity, mount: Some(mount.path.clone()), subject: None, says, remedy });
    };
    let (falls, added, listeners) = (past.falls(&mount.path), past.added(mount), mount.listeners());
    let without = mount.changed_ago.map_or_else(|| past.known(mount, now), |ago| ago.as_secs_f64());
    if mount.lacking && without >= GRACE {
        let says = match &mount.fault {
            Some(fault) => format!("there is no source: {fault}"),
            None => "there is no source".to_owned(),
        };
        let remedy = match mount.filler {
            Filler::Relay => "look whether the upstream is there and has the mount; then restart the source, or name another upstream",
            _ => "mend what the fault names (a device, a file, an element), then restart the source",
        };
        say("source_missing", Severity::Critical, says, remedy);
    }
    if falls >= FLAPS {
        let why = if mount.up { String::new() } else { format!("; the last time: {}", went(mount)) };
        let says = format!("the source comes and goes: it fell {falls} times within ten minutes{why}");
        let remedy = match mount.filler {
            Filler::Encoder => "look at the encoder and its way here: a weak network, or two encoders that push each other out",
            Filler::Pipeline => "look in the log for what the pipeline says when it fails, and mend that",
            Filler::Relay | Filler::OnDemand => "look whether the upstream is overloaded or restarts, and name a second one",
        };
        say("source_flapping", Severity::Warning, says, remedy);
    }
    if let Some(silent) = mount.silent.filter(|silent| mount.up && *silent >= SILENT) {
        let says = format!("the source is connected and has sent nothing for {} s", silent.as_secs());
        say("source_silent", Severity::Critical, says, "look at what feeds it; then restart it");
    }
    if added.refused_chunks > 0 {
        let says = format!("{} of the source were left out within ten minutes", count_of(added.refused_chunks, "chunk"));
        say("source_refused", Severity::Warning, says, "raise ring_max, for the stream delivers more at once than it allows");
    }
    if let Some(most) = mount.most.filter(|most| is_nearly_full(listeners, *most)) {
        let full = if added.full > 0 { format!("; {} turned away within ten minutes", added.full) } else { String::new() };
        let says = format!("{listeners} of {most} places for listeners are taken{full}");
        say("limit_near", fullness(listeners, most), says, "raise max_listeners of the mount");
    }
    if let Some(says) = lagging(mount) {
        let remedy = "sort its listeners by lag: one alone has a bad line; if many lag, look at the server's uplink and its shards";
        say("listener_lagging", Severity::Warning, says, remedy);
    }
    if added.lost > LOST.0 && added.lost as f64 > listeners as f64 * LOST.1 {
        let says = format!("{} could not keep up and left within ten minutes", count_of(added.lost, "listener"));
        let remedy = "offer a stream of a lower bit rate, or raise hard_limit; if it is everybody, look at the server's uplink";
        say("listeners_lost", Severity::Warning, says, remedy);
    }
    all
}

/// What is said of the listener that is furthest behind, if it is too far.
fn lagging(mount: &MountScene) -> Option<String> {
    let behind = mount.lag_max;
    let (limit, name) = match (mount.soft_limit, mount.hard_limit) {
        (Some(soft), Some(hard)) if hard / 2 < soft => (hard / 2, "half of hard_limit"),
        (Some(soft), _) => (soft, "soft_limit"),
        (None, Some(hard)) => (hard / 2, "half of hard_limit"),
        (None, None) => (FAR_BEHIND, ""),
    };
    (mount.listeners() > 0 && behind >= limit.max(Duration::from_secs(1))).then(|| {
        let beyond = if name.is_empty() { String::new() } else { format!(", beyond {name} ({:.1} s)", limit.as_secs_f64()) };
        format!("the slowest listener is {:.1} s behind{beyond}", behind.as_secs_f64())
    })
}

fn is_nearly_full(taken: u64, most: u64) -> bool {
    most > 0 && most < u64::MAX && taken as f64 >= most as f64 * NEARLY_FULL
}

fn fullness(taken: u64, most: u64) -> Severity {
    if taken >= most { Severity::Critical } else { Severity::Warning }
}

fn are(listeners: u64) -> String {
    if listeners == 1 { "1 listener is".to_owned() } else { format!("{listeners} listeners are") }
}

fn days_left(days: f64) -> String {
    let whole = days.floor() as u64;
    if whole == 0 { format!("{:.0} hours", days * 24.0) } else { count_of(whole, "day") }
}

#[cfg(test)]
mod tests {
    use super::super::scene::ShardScene;
    use super::*;
    use crate::fanout::departure::{Departure, Refusal};

    const NOW: f64 = 1_800_000_000.0;

    fn fine() -> MountScene {
        MountScene {
            path: "/a".into(),
            up: true,
            joins: 10,
            most: Some(100),
            silent: Some(Duration::from_millis(20)),
            ..MountScene::default()
        }
    }

    fn scene(mount: MountScene) -> Scene {
        Scene { at: NOW, mounts: vec![mount], places: (10, 1000), shards: vec![ShardScene::default()], ..Scene::default() }
    }

    /// What is said after these looks, one a second, the last of them now.
    fn after(looks: &[Scene]) -> Vec<(&'static str, Severity, String)> {
        let mut past = Past::default();
        for (i, look) in looks.iter().enumerate() {
            past.note(&Scene { at: NOW - (looks.len() - 1 - i) as f64, ..look.clone() });
        }
        let advice = health(looks.last().expect("a look"), &past);
        advice.into_iter().map(|advice| (advice.about, advice.severity, advice.says)).collect()
    }

    fn departed(why: Departure, count: u64) -> MountScene {
        let mut mount = fine();
        mount.departures[why.index()] = count;
        mount.joins += count;
        mount
    }

    #[test]
    fn each_trouble_of_a_mount_has_its_words_and_health_has_none() {
        let mut refused = MountScene { joins: 95, ..fine() };
        refused.refusals[Refusal::Full.index()] = 4;
        let secs = Duration::from_secs;
        let limits = |mount: MountScene| MountScene { soft_limit: Some(secs(10)), hard_limit: Some(secs(30)), ..mount };
        let critical = Severity::Critical;
        let warning = Severity::Warning;
        for (mount, want) in [
            (fine(), None),
            (MountScene { up: false, lacking: true, changed_ago: Some(secs(3)), ..fine() }, None),
            (
                MountScene { up: false, lacking: true, changed_ago: Some(secs(30)), fault: Some("no device".into()), ..fine() },
                Some(("source_missing", critical, "there is no source: no device")),
            ),
            (MountScene { up: false, ..fine() }, None), // it waits for an encoder
            (
                MountScene { silent: Some(secs(12)), ..fine() },
                Some(("source_silent", critical, "the source is connected and has sent nothing for 12 s")),
            ),
            (
                MountScene { restarts: 5, received_bytes: 1, ..fine() },
                Some(("source_flapping", warning, "the source comes and goes: it fell 5 times within ten minutes")),
            ),
            (MountScene { restarts: 2, received_bytes: 1, ..fine() }, None),
            (MountScene { restarts: 9, ..fine() }, None), // a pipeline that cannot start is missing, and does not flap
            (MountScene { up: false, lacking: true, ..fine() }, None),
            (
                MountScene { refused_chunks: 1, ..fine() },
                Some(("source_refused", warning, "1 chunk of the source were left out within ten minutes")),
            ),
            (MountScene { joins: 89, ..fine() }, None),
            (MountScene { joins: 90, ..fine() }, Some(("limit_near", warning, "90 of 100 places for listeners are taken"))),
            (refused, Some(("limit_near", warning, "95 of 100 places for listeners are taken; 4 turned away within ten minutes"))),
            (MountScene { joins: 100, ..fine() }, Some(("limit_near", critical, "100 of 100 places for listeners are taken"))),
            (MountScene { joins: 1000, most: None, ..fine() }, None),
            (limits(MountScene { lag_max: secs(9), ..fine() }), None),
            (
                limits(MountScene { lag_max: secs(11), ..fine() }),
                Some(("listener_lagging", warning, "the slowest listener is 11.0 s behind, beyond soft_limit (10.0 s)")),
            ),
            (
                MountScene { hard_limit: Some(secs(8)), lag_max: secs(4), ..fine() },
                Some(("listener_lagging", warning, "the slowest listener is 4.0 s behind, beyond half of hard_limit (4.0 s)")),
            ),
            (MountScene { lag_max: secs(40), ..fine() }, Some(("listener_lagging", warning, "the slowest listener is 40.0 s behind"))),
            (limits(MountScene { lag_max: secs(40), joins: 0, ..fine() }), None),
            (departed(Departure::TooSlow, 2), None),
            (
                departed(Departure::Stalled, 3),
                Some(("listeners_lost", warning, "3 listeners could not keep up and left within ten minutes")),
            ),
            (departed(Departure::HungUp, 500), None),
        ] {
            let found = after(&[scene(fine()), scene(mount.clone())]);
            match want {
                None => assert_eq!(found, [], "{mount:?}"),
                Some((about, severity, says)) => {
                    assert_eq!(found.len(), 1, "{found:?}");
                    assert_eq!((found[0].0, found[0].1), (about, severity), "{found:?}");
                    assert_eq!(found[0].2, says);
                }
            }
        }
    }

    #[test]
    fn each_trouble_of_the_server_has_its_words() {
        let with = |change: fn(&mut Scene)| {
            let mut scene = scene(fine());
            change(&mut scene);
            scene
        };
        for (now, want) in [
            (with(|scene| scene.draining = true), "note draining"),
            (with(|scene| scene.reload_failed = true), "warning reload_failed"),
            (with(|scene| scene.places = (900, 1000)), "warning limit_near"),
            (with(|scene| scene.places = (1000, 1000)), "critical limit_near"),
            (with(|scene| scene.places = (1000, u64::MAX)), ""),
            (with(|scene| scene.certificates = vec![("c.pem".into(), NOW as u64 + 86_400 * 30)]), ""),
            (with(|scene| scene.certificates = vec![("c.pem".into(), NOW as u64 + 86_400 * 10)]), "warning certificate_expiring"),
            (with(|scene| scene.certificates = vec![("c.pem".into(), NOW as u64 + 3600)]), "critical certificate_expiring"),
            (with(|scene| scene.certificates = vec![("c.pem".into(), NOW as u64 - 5)]), "critical certificate_expiring"),
            (with(|scene| scene.renewals = (0, 1)), "warning certificate_unusable"),
            (with(|scene| scene.renewals = (1, 1)), ""),
            (with(|scene| scene.log_dropped = (0, 9)), "warning log_dropped"),
            (with(|scene| scene.webhooks_lost = 1), "note webhook_failing"),
        ] {
            let found: Vec<_> =
                after(&[scene(fine()), now]).into_iter().map(|(about, severity, _)| format!("{} {about}", severity.label())).collect();
            assert_eq!(found.join(","), want);
        }
        for (expires, says) in
            [(NOW + 86_400.0 * 10.5, "expires in 10 days"), (NOW + 7200.0, "expires in 2 hours"), (NOW - 1.0, "has expired")]
        {
            let scene = Scene { certificates: vec![("c.pem".into(), expires as u64)], ..scene(fine()) };
            assert!(after(std::slice::from_ref(&scene))[0].2.contains(says), "{says}");
        }
    }

    #[test]
    fn a_shard_is_overloaded_when_it_stays_so_and_what_matters_comes_first() {
        let busy = |busy: f64| Scene { shards: vec![ShardScene { busy, listeners: 7, ..ShardScene::default() }], ..scene(fine()) };
        let mut looks = vec![busy(0.95); 9];
        assert_eq!(after(&looks), []);
        looks.push(busy(0.95));
        assert_eq!(after(&looks)[0].2, "sending thread 0 works 95 % of the time, for 7 listeners");
        looks.push(busy(0.5));
        assert_eq!(after(&looks), []);
        let mut both = busy(0.95);
        both.mounts[0] = MountScene { silent: Some(Duration::from_secs(60)), ..fine() };
        let found: Vec<_> = after(&vec![both; 12]).into_iter().map(|(about, ..)| about).collect();
        assert_eq!(found, ["source_silent", "shard_overloaded"]);
    }
}
