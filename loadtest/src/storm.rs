//! The `storm` command: all come at once, stay a while, leave at once; again and again. Everybody must be served every time.

use std::thread;
use std::time::Duration;

use crate::cli::StormArgs;
use crate::clock::Nanos;
use crate::probe::Probe;
use crate::report::{self, Outcome, StormRound};
use crate::swarm::{Plan, Swarm};

const JOINS_PER_TURN: usize = 32;
const IDLE: Duration = Duration::from_millis(10);

pub(crate) fn run(args: &StormArgs, plan: Plan) -> anyhow::Result<bool> {
    let output = args.swarm.output();
    let server = args.swarm.pid.map(Probe::of);
    let before = server.as_ref().map(Probe::weight).transpose()?;
    let targets = plan.targets.iter().map(|target| target.typed.clone()).collect();
    let (listeners, join_timeout) = (plan.listeners, plan.join_timeout);
    let mut swarm = Swarm::new(plan)?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round = one_round(&mut swarm, number, join_timeout)?;
        output.progress(&round)?;
        rounds.push(round);
        let end = Nanos::now().after(args.hold);
        while Nanos::now() < end {
            swarm.turn(IDLE)?;
        }
        swarm.leave_all();
        thread::sleep(args.pause);
    }
    let outcome = Outcome::of(&swarm.ledger);
    let good = outcome.good(args.swarm.allow_refused);
    let result = report::Storm {
        version: env!("CARGO_PKG_VERSION"),
        targets,
        listeners,
        rounds,
        outcome,
        before,
        after: server.as_ref().and_then(|probe| probe.weight().ok()),
        verdict: report::verdict(good),
    };
    output.page(|| report::pages::storm(&result))?;
    output.result(&result)?;
    Ok(good)
}

/// Connects everybody as fast as one thread can, looking at answers in between so that they are timed when they come.
fn one_round(swarm: &mut Swarm, round: u32, join_timeout: Duration) -> anyhow::Result<StormRound> {
    let (joined, refused) = (swarm.ledger.joined, swarm.ledger.refused_in_all());
    swarm.ledger.first_byte = Default::default();
    let begun = Nanos::now();
    for at in 0..swarm.len() {
        swarm.join(at);
        if at % JOINS_PER_TURN == 0 {
            swarm.turn(Duration::ZERO)?;
        }
    }
    let patience = Nanos::now().after(join_timeout + Duration::from_secs(1));
    while swarm.ledger.joining > 0 && Nanos::now() < patience {
        swarm.turn(IDLE)?;
    }
    Ok(StormRound {
        round,
        joined: swarm.ledger.joined - joined,
        refused: swarm.ledger.refused_in_all() - refused,
        all_served_s: Nanos::now().since(begun).as_secs_f64(),
        first_body_byte: swarm.ledger.first_byte.quantiles(),
    })
}
