//! What a soak holds against a server: findings by reason, each reason one word of a closed set. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// So many findings of each reason are kept in words; the rest is only counted.
const WORDS_KEPT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// A healthy listener was closed by the server, and not because the soak removed it.
    Lost,
    /// A verified listener's stream had a gap, a repeat, a torn record or an illegal beginning.
    Corrupt,
    /// A join was turned away or took too long.
    Refused,
    /// A healthy listener got nothing though its source was delivering.
    Starved,
    /// Nothing could be verified: the soak proved nothing about content.
    Unverified,
    /// Joins minus departures are not the listeners.
    Joins,
    /// The sum of the mounts is not the total.
    Total,
    /// A departure has a reason that is not in the closed set.
    Departure,
    /// A counter went back.
    Counter,
    /// The server's figures cannot be true by the tool's own books.
    Ledger,
    Memory,
    Fds,
    Threads,
    /// A page or an API call was not answered, or not as it should have been.
    Answer,
    /// A removed listener was not closed.
    Kick,
    /// A source was let go of though nothing was wrong with it, or not taken back.
    Source,
    /// The server stopped, or another one answers in its place.
    Died,
    /// It did not end in order when it was told to.
    Exit,
}

impl Reason {
    pub(crate) const ALL: [Self; 18] = [
        Self::Lost,
        Self::Corrupt,
        Self::Refused,
        Self::Starved,
        Self::Unverified,
        Self::Joins,
        Self::Total,
        Self::Departure,
        Self::Counter,
        Self::Ledger,
        Self::Memory,
        Self::Fds,
        Self::Threads,
        Self::Answer,
        Self::Kick,
        Self::Source,
        Self::Died,
        Self::Exit,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Corrupt => "corrupt",
            Self::Refused => "refused",
            Self::Starved => "starved",
            Self::Unverified => "unverified",
            Self::Joins => "joins",
            Self::Total => "total",
            Self::Departure => "departure",
            Self::Counter => "counter",
            Self::Ledger => "ledger",
            Self::Memory => "memory",
            Self::Fds => "fds",
            Self::Threads => "threads",
            Self::Answer => "answer",
            Self::Kick => "kick",
            Self::Source => "source",
            Self::Died => "died",
            Self::Exit => "exit",
        }
    }

    /// What a reader who sees the word wants to know.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "healthy listeners stay until they or the soak want otherwise",
            Self::Corrupt => "what is received is whole, in order and complete",
            Self::Refused => "who wants to join may",
            Self::Starved => "who listens to a live source hears it",
            Self::Unverified => "something was verified",
            Self::Joins => "joins − departures = listeners",
            Self::Total => "the sum of the mounts is the total",
            Self::Departure => "every departure has its reason",
            Self::Counter => "counters never go back",
            Self::Ledger => "the server's figures agree with the tool's books",
            Self::Memory => "memory does not creep",
            Self::Fds => "descriptors do not creep",
            Self::Threads => "threads do not creep",
            Self::Answer => "pages and API calls are answered as they should be",
            Self::Kick => "a removed listener is closed",
            Self::Source => "good sources are kept, and taken back",
            Self::Died => "the server lives",
            Self::Exit => "the server ends in order",
        }
    }
}

/// All that was found so far. Kept over a stop and a resumption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    counts: BTreeMap<Reason, u64>,
    words: BTreeMap<Reason, Vec<String>>,
}

impl Findings {
    /// At `seconds` of the soak, this.
    pub(crate) fn add(&mut self, seconds: f64, reason: Reason, what: impl AsRef<str>) {
        self.add_many(seconds, reason, 1, what);
    }

    /// The same thing so many times, told once.
    pub(crate) fn add_many(&mut self, seconds: f64, reason: Reason, n: u64, what: impl AsRef<str>) {
        if n == 0 {
            return;
        }
        *self.counts.entry(reason).or_default() += n;
        let words = self.words.entry(reason).or_default();
        if words.len() < WORDS_KEPT {
            words.push(format!("{seconds:.1} s: {}", what.as_ref()));
        }
    }

    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.counts.get(&reason).copied().unwrap_or(0)
    }

    pub(crate) fn in_all(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn words(&self, reason: Reason) -> &[String] {
        self.words.get(&reason).map_or(&[], Vec::as_slice)
    }

    /// The words of the verdict, in the order of the catalogue; none: good.
    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        Reason::ALL.into_iter().filter(|reason| self.count(*reason) > 0).map(Reason::label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_word_of_its_own_and_is_written_as_that_word() {
        let labels: std::collections::BTreeSet<&str> = Reason::ALL.into_iter().map(Reason::label).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).expect("a word"), format!("\"{}\"", reason.label()));
            assert!(!reason.meaning().is_empty());
        }
    }

    #[test]
    fn nothing_found_is_good_and_anything_found_is_a_reason() {
        let mut findings = Findings::default();
        findings.add_many(0.0, Reason::Lost, 0, "nobody");
        assert_eq!(findings.reasons(), Vec::<&str>::new());
        findings.add(1.0, Reason::Memory, "creeps");
        findings.add_many(2.0, Reason::Lost, 3, "three");
        assert_eq!((findings.reasons(), findings.in_all()), (vec!["lost", "memory"], 4));
    }

    #[test]
    fn words_are_bounded_and_everything_survives_a_stop() {
        let mut findings = Findings::default();
        (0..1_000).for_each(|at| findings.add(f64::from(at), Reason::Answer, "late"));
        assert_eq!((findings.count(Reason::Answer), findings.words(Reason::Answer).len()), (1_000, WORDS_KEPT));
        let text = serde_json::to_string(&findings).expect("written");
        assert_eq!(serde_json::from_str::<Findings>(&text).expect("read"), findings);
    }
}
