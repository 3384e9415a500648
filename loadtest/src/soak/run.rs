//! One session of a soak: begin, soak, end.
//!
//! ```text
//!  sources, server ─▶ base page ─▶ ramp ─▶ [ churn, samples, checks … ] ─▶ all leave ─▶ sources end ─▶ server ends
//! ```

mod ending;
mod parts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use super::feeder::Feeder;
use super::house::House;
use super::invariants::{Books, Seen, check};
use super::sample::{Sample, ServerFigures, Totals};
use super::scrape::Scrape;
use super::store::{State, Store};
use super::verdict::Reason;
use super::visitor::{Visitor, Visits};
use super::watcher::{Look, Watcher, look};
use crate::ask::Door;
use crate::check::Book;
use crate::cli::SoakStart;
use crate::clock::Nanos;
use crate::history::History;
use crate::output::Output;
use crate::probe::Pulse;
use crate::roster::Roster;
use crate::schedule::{Dice, due};
use crate::swarm::Swarm;
use crate::target::Target;

const IDLE: Duration = Duration::from_millis(10);
const JOINS_PER_TURN: usize = 8;
const SAMPLES_KEPT: usize = 2048;
/// Longer without a byte while the source has been delivering for as long is starvation.
const STARVED_AFTER: Duration = Duration::from_secs(20);
/// Faults of one interval that are told in words.
const FAULTS_TOLD: usize = 3;
/// So many unanswered scrapes in a row and there is no server any more.
const UNANSWERED_MAX: u32 = 5;

pub(super) struct Run<'a> {
    output: &'a Output,
    store: Store,
    state: State,
    /// Totals and seconds of the sessions before this one.
    earlier: (Totals, f64),
    paths: Vec<String>,
    door: Door,
    feeders: Vec<Feeder>,
    house: Option<House>,
    swarm: Swarm,
    visitor: Option<Visitor>,
    watcher: Watcher,
    history: History<Sample>,
    base: Scrape,
    previous: Scrape,
    /// Before the first source of ours.
    unfed: Scrape,
    /// The books at the sample before: what the tool had seen by then is not news to anybody.
    known: Books,
    /// Pages in a row that did not come.
    unanswered: u32,
    started: Nanos,
    /// The books when a look was asked for that has not come yet.
    asked: Option<Books>,
    sampled: (Nanos, Totals, Option<Pulse>),
    died: bool,
    stopped: bool,
}

impl<'a> Run<'a> {
    pub(super) fn begin(start: SoakStart, output: &'a Output) -> anyhow::Result<Self> {
        let SoakStart { store, state } = start;
        let settings = &state.settings;
        let targets = settings.targets.iter().map(|typed| Target::resolve(typed)).collect::<anyhow::Result<Vec<_>>>()?;
        let (door, paths) = parts::door_and_paths(&targets)?;
        let own = settings.own_server.as_ref();
        let book = || if own.is_some() { Book::default() } else { Book::with_past() };
        let books: Vec<Arc<Book>> = settings.feeds.iter().map(|_| Arc::new(book())).collect();
        // A server that was there before may have had sources before.
        let unfed = if own.is_some() { Ok(Scrape::default()) } else { look(&door, None).page };
        let unfed = unfed.map_err(|why| anyhow!("the server's /metrics: {why}"))?;
        // Sources first, so that a server that calls them finds them.
        let feeders = parts::feeders(settings, state.session, &books)?;
        let house = own.map(|own| House::start(settings, &own.program, &store, &door)).transpose()?;
        let pid = house.as_ref().map(House::pid).or(settings.pid);
        let watcher = Watcher::start(door.clone(), pid)?;
        let roster = Arc::new(Roster::default());
        let swarm = Swarm::new(parts::plan(settings, targets, books, roster.clone()))?;
        let base = parts::await_sources(&door, &paths[..feeders.len()])?;
        let visits = Visits {
            door: door.clone(),
            mounts: paths.clone(),
            per_second: settings.visits_per_s,
            kicks_every: settings.kicks_every_s,
            reload_every: settings.reload_every_s,
            pid,
            roster,
            seed: settings.seed ^ u64::from(state.session),
        };
        let visitor = Some(Visitor::start(visits)?);
        let mut history = History::of(SAMPLES_KEPT);
        store.replay(|sample| history.note(sample))?;
        let now = Nanos::now();
        let earlier = (state.totals.clone(), state.seconds);
        let sampled = (now, Totals::default(), None);
        Ok(Self {
            output,
            store,
            state,
            earlier,
            paths,
            door,
            feeders,
            house,
            swarm,
            visitor,
            watcher,
            history,
            previous: base.clone(),
            base,
            unfed,
            known: Books::default(),
            unanswered: 0,
            started: now,
            asked: None,
            sampled,
            died: false,
            stopped: false,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.store.file(name)
    }

    pub(super) fn history(&self) -> impl Iterator<Item = &Sample> {
        self.history.all()
    }

    fn seconds(&self) -> f64 {
        self.earlier.1 + Nanos::now().since(self.started).as_secs_f64()
    }

    fn find(&mut self, reason: Reason, what: impl AsRef<str>) {
        let seconds = self.seconds();
        self.state.findings.add(seconds, reason, what);
    }

    /// Everybody joins, and then all goes on until the time is over, the server is gone, or somebody says stop.
    pub(super) fn soak(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let left = self.state.settings.duration().saturating_sub(Duration::from_secs_f64(self.earlier.1));
        let (end, interval) = (self.started.after(left), Duration::from_secs_f64(self.state.settings.interval_s));
        let mut dice = Dice(self.state.settings.seed.wrapping_add(u64::from(self.state.session)));
        let (mut joined, mut churning): (usize, Option<(Nanos, u64)>) = (0, None);
        self.swarm.begin_steady();
        while !self.died && Nanos::now() < end {
            if stop.load(Ordering::Relaxed) {
                self.stopped = true;
                return Ok(());
            }
            if joined < self.swarm.len() {
                let until = (joined + JOINS_PER_TURN).min(self.swarm.len());
                (joined..until).for_each(|at| self.swarm.join(at));
                joined = until;
            } else {
                let (since, done) = churning.get_or_insert((Nanos::now(), 0));
                let wanted = due(Nanos::now().since(*since), self.state.settings.churn_per_s);
                // What is late after a stop of the whole machine is not made up for.
                (0..(wanted - *done).min(JOINS_PER_TURN as u64)).for_each(|_| self.swarm.churn(&mut dice));
                *done = wanted;
            }
            self.swarm.turn(IDLE)?;
            self.watch(interval)?;
        }
        Ok(())
    }

    /// Asks for a look when it is time, and makes a sample of it when it is there.
    fn watch(&mut self, interval: Duration) -> anyhow::Result<()> {
        let now = Nanos::now();
        if self.asked.is_none() && now.since(self.sampled.0) >= interval && self.watcher.ask() {
            self.asked = Some(self.books());
        }
        if self.asked.is_some()
            && let Some(look) = self.watcher.take()
            && let Some(before) = self.asked.take()
        {
            self.sample(look)?;
            self.known = before;
        }
        Ok(())
    }

    /// The tool's own books of this session.
    fn books(&self) -> Books {
        let mut totals = Totals::of(&self.swarm.ledger);
        let mut records = BTreeMap::new();
        for (feeder, path) in self.feeders.iter().zip(&self.paths) {
            let made = feeder.standing.records.load(Ordering::Relaxed);
            records.insert(path.clone(), made);
            totals.records += made;
            totals.runs += feeder.standing.runs.load(Ordering::Relaxed);
            for (kind, n) in feeder.standing.faults() {
                *totals.faults.entry(kind.to_owned()).or_default() += n;
            }
        }
        let mut kicks_asked = 0;
        if let Some(visitor) = &self.visitor {
            let tally = &visitor.tally;
            kicks_asked = tally.kicks_asked.load(Ordering::Relaxed);
            totals.answers = tally.answers.load(Ordering::Relaxed);
            totals.kicks = tally.kicks.load(Ordering::Relaxed);
            totals.reloads = tally.reloads.load(Ordering::Relaxed);
        }
        let (joining, listening) = (self.swarm.ledger.joining as u64, self.swarm.ledger.listening as u64);
        Books { totals, joining, listening, kicks_asked, records }
    }

    fn sample(&mut self, look: Look) -> anyhow::Result<()> {
        let now = Nanos::now();
        let after = self.books();
        if let Some(how) = self.house.as_mut().and_then(House::gone) {
            self.died = true;
            self.find(Reason::Died, format!("the server ended by itself: {how}"));
        }
        self.hear_complaints();
        self.own_findings(&after.totals, now);
        let server = match look.page {
            Ok(page) => {
                let known = std::mem::take(&mut self.known);
                self.hold(&page, &known, &after, false);
                self.died |= page.start != self.base.start;
                let figures = ServerFigures::of(&page);
                self.previous = page;
                self.unanswered = 0;
                Some(figures)
            }
            Err(why) => {
                self.find(Reason::Answer, format!("/metrics: {why}"));
                self.unanswered += 1;
                if self.unanswered == UNANSWERED_MAX && !self.died {
                    self.died = true;
                    self.find(Reason::Died, format!("{UNANSWERED_MAX} times in a row its metrics could not be had"));
                }
                None
            }
        };
        let seconds = now.since(self.sampled.0).as_secs_f64();
        let bytes = after.totals.body_bytes - self.sampled.1.body_bytes;
        let pulses = self.sampled.2.as_ref().zip(look.pulse.as_ref());
        let sample = Sample {
            seconds: self.seconds(),
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            session: self.state.session,
            listening: self.swarm.ledger.listening,
            joining: self.swarm.ledger.joining,
            mbit_per_s: bytes as f64 * 8e-6 / seconds.max(1e-3),
            longest_gap_ms: self.swarm.longest_recent_gap(now).map(|gap| gap.as_secs_f64() * 1e3),
            cpu_percent: pulses.map(|(old, new)| old.until(new).cpu_percent),
            weight: look.weight,
            server,
            totals: after.totals.clone().plus(&self.earlier.0),
            findings: self.state.findings.in_all(),
        };
        self.sampled = (now, after.totals, look.pulse);
        self.store.note(&sample).context("cannot write a sample")?;
        self.save(sample.seconds, &sample.totals)?;
        self.output.progress(&sample)?;
        self.history.note(sample);
        Ok(())
    }

    fn save(&mut self, seconds: f64, totals: &Totals) -> anyhow::Result<()> {
        (self.state.seconds, self.state.totals) = (seconds, totals.clone());
        self.store.save(&self.state).context("cannot write the state")
    }

    /// Holds a page against what must be true.
    fn hold(&mut self, page: &Scrape, before: &Books, after: &Books, over: bool) {
        let alone = self.state.settings.alone;
        let seen = Seen { page, previous: Some(&self.previous), base: &self.base, before, after, alone, over };
        for (reason, what) in check(&seen) {
            self.find(reason, what);
        }
    }

    /// What happened to the listeners since the last sample.
    fn own_findings(&mut self, now: &Totals, moment: Nanos) {
        let (seconds, then) = (self.seconds(), self.sampled.1.clone());
        let findings = &mut self.state.findings;
        findings.add_many(seconds, Reason::Lost, now.lost - then.lost, "closed by the server without a reason");
        let why: Vec<String> = self.swarm.ledger.refused.iter().map(|(why, n)| format!("{n} × {why}")).collect();
        findings.add_many(seconds, Reason::Refused, now.refused - then.refused, format!("so far {}", why.join(", ")));
        let new = now.corrupt - then.corrupt;
        let words = &self.swarm.ledger.faults_in_words;
        let from = usize::try_from(then.corrupt).unwrap_or(usize::MAX).min(words.len());
        let told = &words[from..words.len().min(from + FAULTS_TOLD)];
        let told = if told.is_empty() { "more of them".to_owned() } else { told.join("; ") };
        findings.add_many(seconds, Reason::Corrupt, new, told);
        for (at, feeder) in self.feeders.iter().enumerate() {
            let delivering = feeder.standing.delivering_for(moment).is_some_and(|length| length > STARVED_AFTER);
            let silence = self.swarm.longest_silence(at, moment).filter(|silence| delivering && *silence > STARVED_AFTER);
            if let Some(silence) = silence {
                findings.add(seconds, Reason::Starved, format!("{}: {silence:.0?} without a byte", self.paths[at]));
            }
        }
    }

    /// What the threads have found.
    fn hear_complaints(&mut self) {
        let mut heard: Vec<(Reason, String)> = self.visitor.iter().flat_map(|visitor| visitor.tally.take_found()).collect();
        heard.extend(self.feeders.iter().flat_map(|feeder| feeder.standing.take_complaints()).map(|what| (Reason::Source, what)));
        for (reason, what) in heard {
            self.find(reason, what);
        }
    }
}
