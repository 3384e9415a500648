//! The `listen` command: ramp, settle, steady window, farewell.
//!
//! ```text
//!  weigh ─▶ ramp ─▶ settle ─▶ [ steady: everything is measured here ] ─▶ weigh ─▶ all leave ─▶ weigh
//! ```
//! Every phase has an end of its own: the ramp by its rate and the join timeout, the rest by the clock.

use std::thread;
use std::time::Duration;

use crate::asker::{Askers, Question};
use crate::cli::ListenArgs;
use crate::clock::Nanos;
use crate::history::{self, History};
use crate::output::Output;
use crate::probe::{Probe, Pulse, Weight};
use crate::report::{self, Moment, Outcome, Server};
use crate::schedule::{Dice, due};
use crate::swarm::{Plan, Swarm};

/// Joins begun between two looks at what already happened, so that first bytes are timed when they come.
const JOINS_PER_TURN: usize = 32;
/// How long a server gets to notice that all have left before it is weighed again.
const FAREWELL: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_millis(10);

/// A run and what it looks at on the way.
struct Run<'a> {
    swarm: Swarm,
    output: &'a Output,
    server: Option<Probe>,
    started: Nanos,
    interval: Duration,
    spoke_at: Nanos,
    spoke_bytes: u64,
    spoke_pulse: Option<Pulse>,
    /// Listeners × seconds within the steady window.
    listener_seconds: f64,
    course: History<Moment>,
}

pub(crate) fn run(args: &ListenArgs, questions: &[Question], plan: Plan) -> anyhow::Result<bool> {
    let output = args.swarm.output();
    let server = args.swarm.pid.map(Probe::of);
    let before = server.as_ref().map(Probe::weight).transpose()?;
    let own = Probe::of_this_process();
    let targets = plan.targets.iter().map(|target| target.typed.clone()).collect();
    let (listeners, join_timeout) = (plan.listeners, plan.join_timeout);
    let now = Nanos::now();
    let mut run = Run {
        swarm: Swarm::new(plan)?,
        output: &output,
        spoke_pulse: server.as_ref().map(Probe::pulse).transpose()?,
        server,
        started: now,
        interval: args.interval,
        spoke_at: now,
        spoke_bytes: 0,
        listener_seconds: 0.0,
        course: History::of(history::KEPT),
    };

    run.ramp(args.ramp.0, join_timeout)?;
    let ramp_seconds = Nanos::now().since(now).as_secs_f64();
    // With nobody there, and nobody to come, there is nothing to wait for.
    let (settle, duration) = if run.swarm.hopeless() { Default::default() } else { (args.settle, args.duration) };
    run.until("settle", Nanos::now().after(settle), None)?;

    run.swarm.begin_steady();
    let pulse = run.pulse();
    let own_pulse = own.pulse()?;
    let askers = Askers::begin(questions, args.ask_every);
    let churn = args.churn.map(|churn| (churn.0, Dice(args.seed)));
    run.until("steady", Nanos::now().after(duration), churn)?;
    let own_cpu_percent = own_pulse.until(&own.pulse()?).cpu_percent;
    let effort = pulse.zip(run.pulse()).map(|(earlier, later)| earlier.until(&later));
    let weight = run.weight();
    let listening = run.swarm.ledger.listening;
    let steady = run.swarm.finish();
    let asked = askers.end();

    run.swarm.leave_all();
    if run.server.is_some() {
        thread::sleep(FAREWELL);
    }
    let outcome = Outcome { starved: steady.starved, ..Outcome::of(&run.swarm.ledger) };
    let good = outcome.good(args.swarm.allow_refused) && asked.iter().all(|asked| asked.failed.is_empty());
    let server = match (effort, before, weight) {
        (Some(effort), Some(before), Some(steady)) => Some(Server {
            us_per_listener_second: (run.listener_seconds > 0.0)
                .then(|| effort.cpu_percent / 100.0 * effort.seconds * 1e6 / run.listener_seconds),
            user_bytes_per_listener: user_bytes_per_listener(&before, &steady, listening),
            after: run.weight(),
            effort,
            before,
            steady,
        }),
        _ => None,
    };
    let mut result = report::Listen {
        version: env!("CARGO_PKG_VERSION"),
        targets,
        listeners,
        ramp_seconds,
        steady_seconds: 0.0,
        outcome,
        first_body_byte: None,
        stall: None,
        stall_coarse: None,
        latency: None,
        bytes_per_s_per_listener: None,
        asked,
        server,
        own_cpu_percent: Some(own_cpu_percent),
        verdict: report::verdict(good),
    };
    result.times(&run.swarm.ledger, &steady);
    output.page(|| report::pages::listen(&result, run.course.all()))?;
    output.result(&result)?;
    Ok(good)
}

fn user_bytes_per_listener(before: &Weight, steady: &Weight, listening: usize) -> Option<f64> {
    let grown = steady.pss_kib? as f64 - before.pss_kib? as f64;
    (listening > 0).then(|| grown * 1024.0 / listening as f64)
}

impl Run<'_> {
    /// Everybody begins to join at the rate asked for; ends when all are decided or out of time.
    fn ramp(&mut self, per_second: f64, join_timeout: Duration) -> anyhow::Result<()> {
        let all = self.swarm.len();
        let mut next = 0;
        while next < all {
            let wanted = usize::try_from(due(Nanos::now().since(self.started), per_second) + 1).unwrap_or(all).min(all);
            let until = wanted.min(next + JOINS_PER_TURN);
            (next..until).for_each(|at| self.swarm.join(at));
            next = until;
            let wait = if next < wanted { Duration::ZERO } else { Duration::from_secs_f64(1.0 / per_second).min(IDLE) };
            self.turn("ramp", wait)?;
        }
        let patience = Nanos::now().after(join_timeout + Duration::from_secs(1));
        while self.swarm.ledger.joining > 0 && Nanos::now() < patience {
            self.turn("ramp", IDLE)?;
        }
        Ok(())
    }

    fn until(&mut self, phase: &'static str, end: Nanos, mut churn: Option<(f64, Dice)>) -> anyhow::Result<()> {
        let (begun, mut churned) = (Nanos::now(), 0);
        loop {
            let now = Nanos::now();
            if now >= end {
                return Ok(());
            }
            if let Some((per_second, dice)) = &mut churn {
                let wanted = due(now.since(begun), *per_second);
                // Never more at once than a turn can bear; what is late stays due.
                let now_due = (wanted - churned).min(JOINS_PER_TURN as u64);
                (0..now_due).for_each(|_| self.swarm.churn(dice));
                churned += now_due;
            }
            let listening = self.swarm.ledger.listening as f64;
            self.turn(phase, IDLE)?;
            if phase == "steady" {
                self.listener_seconds += listening * Nanos::now().since(now).as_secs_f64();
            }
        }
    }

    /// A server that ended is a finding (its listeners are lost), no error of the run: there is just nothing to probe.
    fn pulse(&self) -> Option<Pulse> {
        self.server.as_ref()?.pulse().ok()
    }

    fn weight(&self) -> Option<Weight> {
        self.server.as_ref()?.weight().ok()
    }

    fn turn(&mut self, phase: &'static str, wait: Duration) -> anyhow::Result<()> {
        self.swarm.turn(wait)?;
        let now = Nanos::now();
        if now.since(self.spoke_at) >= self.interval {
            self.speak(phase, now)?;
        }
        Ok(())
    }

    fn speak(&mut self, phase: &'static str, now: Nanos) -> anyhow::Result<()> {
        let pulse = self.pulse();
        let longest_gap_ms = self.swarm.longest_recent_gap(now).map(|gap| gap.as_secs_f64() * 1e3);
        let ledger = &self.swarm.ledger;
        let seconds = now.since(self.spoke_at).as_secs_f64();
        let moment = Moment {
            seconds: now.since(self.started).as_secs_f64(),
            phase,
            listening: ledger.listening,
            joining: ledger.joining,
            refused: ledger.refused_in_all(),
            lost: ledger.lost,
            corrupt: ledger.corrupt,
            mbit_per_s: (ledger.body_bytes - self.spoke_bytes) as f64 * 8e-6 / seconds,
            longest_gap_ms,
            server_cpu_percent: self.spoke_pulse.as_ref().zip(pulse.as_ref()).map(|(old, new)| old.until(new).cpu_percent),
        };
        (self.spoke_at, self.spoke_bytes, self.spoke_pulse) = (now, ledger.body_bytes, pulse);
        self.output.progress(&moment)?;
        self.course.note(moment);
        Ok(())
    }
}
