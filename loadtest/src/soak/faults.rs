//! What happens to a source and when: a schedule from a seed. Pure; the same seed gives the same faults.

use std::time::Duration;

use crate::schedule::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Ends in order and comes back.
    Die,
    /// Is torn off (a reset connection) and comes back.
    TornOff,
    /// Ends and comes back several times within a second or so.
    Flap { times: u32 },
    /// Stays connected and says nothing for a while.
    Stall(Duration),
    /// Goes on with another streamheader, on the same connection.
    NewHeader,
}

impl Fault {
    #[cfg(test)]
    const KINDS: usize = 5;

    /// How the report calls it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Die => "died",
            Self::TornOff => "torn_off",
            Self::Flap { .. } => "flapped",
            Self::Stall(_) => "stalled",
            Self::NewHeader => "new_header",
        }
    }
}

/// The faults of one source, without end.
#[derive(Debug)]
pub(crate) struct Faults {
    dice: Dice,
    /// On average between two of them.
    every: Duration,
}

impl Faults {
    /// Each source of a run has faults of its own.
    pub(crate) fn new(seed: u64, source: usize, every: Duration) -> Self {
        let mut dice = Dice(seed ^ (source as u64).wrapping_mul(0xA076_1D64_78BD_642F));
        // Neighbouring seeds differ by little; a throw spreads them.
        dice.below(2);
        Self { dice, every }
    }

    /// How long to wait, and what then.
    pub(crate) fn draw(&mut self) -> (Duration, Fault) {
        let permille = 500 + self.dice.below(1_001) as u32;
        let wait = self.every * permille / 1_000;
        let fault = match self.dice.below(6) {
            0 => Fault::Die,
            1 => Fault::TornOff,
            2 => Fault::Flap { times: 2 + self.dice.below(4) as u32 },
            // Never much longer than what lies between two faults, and never so long that it hides what follows.
            3 => Fault::Stall((self.every * (100 + self.dice.below(400) as u32) / 1_000).min(Duration::from_secs(20))),
            _ => Fault::NewHeader,
        };
        (wait, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn drawn(seed: u64, source: usize, n: usize) -> Vec<(Duration, Fault)> {
        let mut faults = Faults::new(seed, source, EVERY);
        (0..n).map(|_| faults.draw()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_source_others() {
        assert_eq!(drawn(1, 0, 50), drawn(1, 0, 50));
        assert_ne!(drawn(1, 0, 50), drawn(1, 1, 50));
        assert_ne!(drawn(1, 0, 50), drawn(2, 0, 50));
    }

    #[test]
    fn every_kind_comes_up_at_the_pace_that_was_asked_for() {
        let all = drawn(3, 2, 2_000);
        let labels: std::collections::BTreeSet<&str> = all.iter().map(|(_, fault)| fault.label()).collect();
        assert_eq!(labels.len(), Fault::KINDS);
        let mean = all.iter().map(|(wait, _)| wait.as_secs_f64()).sum::<f64>() / all.len() as f64;
        assert!((mean - 30.0).abs() < 1.0, "{mean}");
        assert!(all.iter().all(|(wait, _)| (EVERY / 2..=EVERY * 3 / 2).contains(wait)));
    }

    #[test]
    fn no_stall_is_longer_than_half_the_pace_or_twenty_seconds() {
        for every in [Duration::from_secs(2), Duration::from_secs(3_600)] {
            let mut faults = Faults::new(1, 1, every);
            for _ in 0..500 {
                if let (_, Fault::Stall(length)) = faults.draw() {
                    assert!(length <= (every / 2).min(Duration::from_secs(20)));
                }
            }
        }
    }
}
