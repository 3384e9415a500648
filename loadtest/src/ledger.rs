//! What happened to the listeners, counted. Invariant: joined = listening + left + lost + removed + kicked.

use std::collections::BTreeMap;

use crate::check::{Fault, FaultKind};
use crate::stats::Histogram;

/// So many faults are kept in words; the rest is only counted.
const FAULTS_KEPT: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Connections begun and not yet decided.
    pub(crate) joining: usize,
    pub(crate) listening: usize,
    pub(crate) joined: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    /// Joins that this tool gave up, within their time, because the run ended.
    pub(crate) abandoned: u64,
    /// Left because this tool wanted it.
    pub(crate) left: u64,
    /// Healthy listeners that the server closed.
    pub(crate) lost: u64,
    /// Slow and stalled listeners that the server closed, as it may.
    pub(crate) removed: u64,
    /// Closed by the server because this tool asked it to.
    pub(crate) kicked: u64,
    /// Verified listeners with a fault in their stream.
    pub(crate) corrupt: u64,
    /// Verified listeners whose format is not known here.
    pub(crate) unverifiable: u64,
    /// Frames, pages, records … found whole and in order.
    pub(crate) units: u64,
    pub(crate) faults: BTreeMap<FaultKind, u64>,
    pub(crate) faults_in_words: Vec<String>,
    pub(crate) body_bytes: u64,
    pub(crate) first_byte: Histogram,
    pub(crate) latency: Histogram,
}

impl Ledger {
    pub(crate) fn refuse(&mut self, why: &str) {
        self.joining -= 1;
        *self.refused.entry(why.to_owned()).or_default() += 1;
    }

    pub(crate) fn refused_in_all(&self) -> u64 {
        self.refused.values().sum()
    }

    pub(crate) fn fault(&mut self, listener: usize, fault: &Fault) {
        self.corrupt += 1;
        *self.faults.entry(fault.kind).or_default() += 1;
        if self.faults_in_words.len() < FAULTS_KEPT {
            self.faults_in_words.push(format!("listener {listener}: {fault}"));
        }
    }
}
