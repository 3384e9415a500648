//! The look once a second, and what is told of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::difference::{Kind, difference};
use super::health::{Advice, health};
use super::past::Past;
use super::scene::Scene;
use super::stats::Stats;
use super::{Chronicle, Event, Line};
use crate::door::certificate::Keyring;
use crate::mount::Registry;
use crate::webhook;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often those who see no numbers get a sign of life.
const BEATS_EVERY: u64 = 15;
/// Lines that are told at once, before it is looked for anything else.
const LINES_AT_ONCE: usize = 64;
/// Advice that comes and goes is told elsewhere at most this often, in seconds.
const HOOKS_EVERY: f64 = 600.0;

/// What is looked at.
pub struct Watched {
    /// The mounts and the shards.
    pub registry: Arc<Registry>,
    /// The certificates.
    pub keyring: Arc<Keyring>,
    /// Lines of the event log that were lost so far.
    pub events_dropped: Box<dyn Fn() -> u64>,
    /// Lines of the event log.
    pub lines: mpsc::Receiver<Line>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// Looks once a second, for as long as it is polled.
pub async fn watch(chronicle: Arc<Chronicle>, mut watched: Watched) {
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut past, mut hooks, mut looks) = (Past::default(), Hooks::default(), 0_u64);
    let mut lines = Vec::with_capacity(LINES_AT_ONCE);
    loop {
        tokio::select! {
            _ = clock.tick() => {
                looks += 1;
                let scene = Scene {
                    certificates: watched.keyring.expiries(),
                    renewals: watched.keyring.renewals(),
                    reload_failed: chronicle.has_reload_failed(),
                    log_dropped: ((watched.events_dropped)(), watched.registry.witnesses().journal.dropped()),
                    ..Scene::of(&watched.registry)
                };
                look(&chronicle, &watched.registry, &mut past, &mut hooks, &scene);
                watched.registry.witnesses().hearsay.tell();
                if looks.is_multiple_of(BEATS_EVERY) {
                    chronicle.beat();
                }
            }
            // Lines come with what else they came with; the interval cannot be starved, for it is polled first or next.
            count = watched.lines.recv_many(&mut lines, LINES_AT_ONCE), if !watched.lines.is_closed() || !watched.lines.is_empty() => {
                debug_assert!(count <= LINES_AT_ONCE);
                lines.drain(..).for_each(|line| chronicle.tell_line(&line));
            }
        }
    }
}

/// Tells what one look has found.
fn look(chronicle: &Chronicle, registry: &Registry, past: &mut Past, hooks: &mut Hooks, scene: &Scene) {
    if let Some(before) = past.before() {
        difference(before, scene).iter().for_each(|event| chronicle.tell(event));
        chronicle.tell_stats(|| serde_json::to_value(Stats::of(before, scene)).unwrap_or_default()); // it can always be written
    }
    past.note(scene);
    let (before, now) = (chronicle.advice(), health(scene, past));
    for advice in now.iter().filter(|advice| !before.iter().any(|other| other.is_same(advice))) {
        chronicle.tell(&told(Kind::Advice, advice, scene.at));
        hooks.tell(&registry.witnesses().webhooks, advice, scene.at);
    }
    for advice in before.iter().filter(|advice| !now.iter().any(|other| other.is_same(advice))) {
        chronicle.tell(&told(Kind::AdviceOver, advice, scene.at));
    }
    chronicle.advise(now);
}

impl Advice {
    /// Whether it is about the same thing, whatever the numbers are now.
    fn is_same(&self, other: &Self) -> bool {
        (self.about, &self.mount, &self.subject) == (other.about, &other.mount, &other.subject)
    }
}

fn told(kind: Kind, advice: &Advice, at: f64) -> Event {
    let says = if kind == Kind::Advice { advice.says.clone() } else { format!("no more: {}", advice.says) };
    let event = Event { at, ..Event::now(kind, advice.mount.as_deref(), says) };
    event.with("about", advice.about).with("severity", advice.severity.label())
}

/// What other programs were told of, and when. Bounded by mounts and certificates: what is old enough to be told again is forgotten.
#[derive(Debug, Default)]
struct Hooks(HashMap<(webhook::Kind, Option<String>, Option<String>), f64>);

impl Hooks {
    fn tell(&mut self, webhooks: &webhook::Webhooks, advice: &Advice, at: f64) {
        let kind = match advice.about {
            "limit_near" => webhook::Kind::LimitNear,
            "certificate_expiring" => webhook::Kind::CertificateExpiring,
            "source_flapping" => webhook::Kind::SourceFlapping,
            _ => return,
        };
        if !webhooks.want(kind) {
            return;
        }
        self.0.retain(|_, told| at - *told < HOOKS_EVERY && *told <= at);
        let key = (kind, advice.mount.clone(), advice.subject.clone());
        if self.0.insert(key, at).is_none() {
            webhooks.tell(&webhook::Event::of_advice(kind, advice.mount.as_deref().unwrap_or_default(), &advice.says));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chronicle::scene::MountScene;
    use crate::chronicle::{Level, Wants};
    use crate::engine::crew::{Clock, Crew};

    #[test]
    fn advice_is_told_when_it_comes_and_when_it_goes_and_not_each_second() {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 10));
        let (chronicle, mut past, mut hooks) = (Chronicle::default(), Past::default(), Hooks::default());
        let scene = |at: f64, joins| {
            let mount = MountScene { path: "/a".into(), up: true, joins, most: Some(10), ..MountScene::default() };
            Scene { at, mounts: vec![mount], ..Scene::default() }
        };
        let words = |chronicle: &Chronicle| {
            let inner = chronicle.inner();
            let text: String = inner.history.iter().map(|(_, frame)| String::from_utf8_lossy(frame).into_owned()).collect();
            ["event: advice\n", "event: advice_over\n", "event: listeners\n"].map(|what| text.matches(what).count())
        };
        let looks = [(0.0, 5), (1.0, 9), (2.0, 10), (3.0, 10)];
        looks.into_iter().for_each(|(at, joins)| look(&chronicle, &registry, &mut past, &mut hooks, &scene(at, joins)));
        assert_eq!(words(&chronicle), [1, 0, 2], "its numbers change, and it is the same");
        assert_eq!(chronicle.advice().len(), 1);
        look(&chronicle, &registry, &mut past, &mut hooks, &Scene { at: 4.0, ..Scene::default() });
        assert_eq!(words(&chronicle), [1, 1, 2]);
        assert_eq!(chronicle.advice(), []);
        crew.stop();
    }

    #[actix::test]
    async fn lines_numbers_and_events_reach_who_watches() {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 10));
        let chronicle = Arc::new(Chronicle::default());
        let (lines, out) = crate::chronicle::Lines::new();
        let watched = Watched { registry: Arc::clone(&registry), keyring: Arc::default(), events_dropped: Box::new(|| 0), lines: out };
        let mut watching = chronicle.watch(Wants { lines: Some(Level::Warn), stats: true, after: None }).expect("a place");
        drop(actix_rt::spawn(watch(Arc::clone(&chronicle), watched)));
        lines.take(Line::now(Level::Warn, "test", "a line".to_owned()));
        let mut text = String::new();
        let (told, draining) = (tokio::time::Instant::now(), "event: drain");
        while !(text.contains("event: stats") && text.contains("a line") && text.contains(draining)) {
            assert!(told.elapsed() < Duration::from_secs(20), "{text}");
            if text.contains("event: stats") {
                registry.drain();
            }
            let next = std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut watching), cx));
            if let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_secs(5), next).await {
                text.push_str(&String::from_utf8_lossy(&frame));
            }
        }
        crew.stop();
    }
}
