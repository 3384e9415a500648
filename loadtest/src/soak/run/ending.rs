//! The end of a session: all leave, the sources end, the books must close, the server is told to stop.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Run;
use crate::clock::Nanos;
use crate::soak::feeder::Feeder;
use crate::soak::house::House;
use crate::soak::result::{Result, slopes};
use crate::soak::sample::ServerFigures;
use crate::soak::scrape::Scrape;
use crate::soak::verdict::Reason;
use crate::soak::watcher::look;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a server may take to notice that everybody has left, and to take in what its sources sent last.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// Ends in order, looks a last time, and says how it went. The folder can be gone on from.
    pub(in crate::soak) fn end(&mut self) -> anyhow::Result<Result> {
        if let Some(visitor) = &mut self.visitor {
            visitor.stop();
        }
        let seconds = self.seconds();
        let joining = self.swarm.ledger.joining;
        self.swarm.leave_all();
        // Who was still joining has not been refused, nor has anybody been lost by our leaving.
        debug_assert_eq!(self.swarm.ledger.joining, 0, "{joining} were joining");
        if !self.died {
            self.last_look();
        }
        let books = self.books();
        self.hear_complaints();
        self.own_findings(&books.totals, Nanos::now());
        if let Some(why) = self.house.take().and_then(House::stop).filter(|_| !self.died) {
            self.find(why.0, why.1);
        }
        let totals = books.totals.plus(&self.earlier.0);
        if totals.units == 0 {
            self.find(Reason::Unverified, "not one unit of a stream was verified");
        }
        let slopes = slopes(self.history.all(), self.state.settings.warm_up_s);
        let mut findings = self.state.findings.clone();
        for (reason, what) in slopes.creeping() {
            findings.add(seconds, reason, what);
        }
        self.save(seconds, &totals)?;
        Ok(Result {
            version: env!("CARGO_PKG_VERSION"),
            folder: self.store.folder().display().to_string(),
            verdict: crate::report::verdict(findings.in_all() == 0),
            reasons: findings.reasons(),
            stopped: self.stopped,
            seconds,
            sessions: self.state.session,
            settings: self.state.settings.clone(),
            totals,
            slopes,
            server: ServerFigures::of(&self.previous),
            first_body_byte: self.swarm.ledger.first_byte.quantiles(),
            latency: self.swarm.ledger.latency.quantiles(),
            findings,
        })
    }

    /// When everybody has left and the sources have ended, the books must close.
    fn last_look(&mut self) {
        let before = self.books();
        let patience = Nanos::now().after(NOTICED_WITHIN);
        let others = self.base.sum(|mount| mount.listeners);
        let mut page = look(&self.door, None).page;
        while let Ok(seen) = &page
            && seen.sum(|mount| mount.listeners) > others
            && Nanos::now() < patience
        {
            thread::sleep(LOOK_EVERY);
            page = look(&self.door, None).page;
        }
        match page {
            Ok(page) => {
                let after = self.books();
                self.hold(&page, &before, &after, true);
                self.previous = page;
            }
            Err(why) => self.find(Reason::Answer, format!("/metrics: {why}")),
        }
        self.feeders.iter_mut().for_each(Feeder::stop);
        let patience = Nanos::now().after(NOTICED_WITHIN);
        let mut wrong = self.sources_unlike_their_mounts();
        while !wrong.is_empty() && Nanos::now() < patience {
            thread::sleep(LOOK_EVERY);
            wrong = self.sources_unlike_their_mounts();
        }
        for what in wrong {
            self.find(Reason::Ledger, what);
        }
    }

    /// Where every run ended in order, the mount has received exactly what its source made.
    fn sources_unlike_their_mounts(&self) -> Vec<String> {
        let Ok(page) = look(&self.door, None).page else { return Vec::new() };
        let received = |page: &Scrape, path: &str| page.mounts.get(path).map_or(0, |mount| mount.received_chunks);
        let mut wrong = Vec::new();
        for (feeder, path) in self.feeders.iter().zip(&self.paths) {
            let made = feeder.standing.records.load(Ordering::Relaxed);
            let taken = received(&page, path).saturating_sub(received(&self.unfed, path));
            if feeder.standing.torn.load(Ordering::Relaxed) == 0 && taken != made {
                wrong.push(format!("{path}: the source made {made} records, the mount received {taken}"));
            }
        }
        wrong
    }
}
