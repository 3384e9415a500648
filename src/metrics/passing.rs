//! What is counted, as plain data for the process that goes on counting, and back. What mounts, shards and the door count goes with
//! them.
//!
//! - Everything that another process has counted is added: so it may say later what it has counted since.

use super::Measured;
use crate::fanout::stats::add;
use crate::handover::{Tallies, Words};

const LOG: &str = "log_dropped";
const WEBHOOKS: &str = "webhook_events";
const ASKED: &str = "auth_requests";
const TOLD: &str = "auth_notices";
const PEERS: &str = "peer_redirects";
const CERTIFICATES: &str = "certificate_reloads";
const TURNED_AWAY: &str = "turned_away";

impl Measured {
    /// Everything that is counted here.
    pub fn pack(&self) -> Tallies {
        let witnesses = self.registry.witnesses();
        let words = |counts: &[(&str, u64)]| counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect::<Words>();
        let (renewed, failed) = self.keyring.renewals();
        [
            (LOG, words(&[("event", self.events_dropped()), ("access", witnesses.journal.dropped())])),
            (WEBHOOKS, words(&witnesses.webhooks.outcomes().all())),
            (ASKED, words(&witnesses.bouncer.asked().all())),
            (TOLD, words(&witnesses.bouncer.told().all())),
            (PEERS, self.peers.all().iter().map(|peer| (peer.address.to_string(), peer.sent)).collect()),
            (CERTIFICATES, words(&[("ok", renewed), ("failed", failed)])),
            (TURNED_AWAY, words(&[("banned", self.patrol.turned_away())])),
        ]
        .map(|(what, words)| (what.to_owned(), words))
        .into()
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, packed: &Tallies) {
        let of = |what: &str, word: &str| packed.get(what).and_then(|words| words.get(word)).copied().unwrap_or(0);
        let witnesses = self.registry.witnesses();
        add(&self.events_before, of(LOG, "event"));
        witnesses.journal.absorb(of(LOG, "access"));
        witnesses.webhooks.outcomes().counters().iter().for_each(|(word, count)| add(count, of(WEBHOOKS, word)));
        witnesses.bouncer.asked().counters().iter().for_each(|(word, count)| add(count, of(ASKED, word)));
        witnesses.bouncer.told().counters().iter().for_each(|(word, count)| add(count, of(TOLD, word)));
        packed.get(PEERS).into_iter().flatten().for_each(|(address, sent)| self.peers.absorb(address, *sent));
        self.keyring.absorb(of(CERTIFICATES, "ok"), of(CERTIFICATES, "failed"));
        self.patrol.absorb(of(TURNED_AWAY, "banned"));
    }
}

/// What was counted since.
pub fn since(before: &Tallies, now: &Tallies) -> Tallies {
    let more = |what: &str, words: &Words| {
        let of = |word: &str| before.get(what).and_then(|words| words.get(word)).copied().unwrap_or(0);
        words.iter().map(|(word, count)| (word.clone(), count.saturating_sub(of(word)))).filter(|(_, more)| *more > 0).collect()
    };
    now.iter().map(|(what, words)| (what.clone(), more(what, words))).collect()
}
