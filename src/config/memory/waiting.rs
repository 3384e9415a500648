//! Memory of what waits for somebody slow, and of what is remembered of who came: rows of the table.

use std::fmt;
use std::sync::Arc;

use super::Costs;
use crate::access::rule::{Rule, UrlAuth};
use crate::bouncer;
use crate::config::{Access, Config};
use crate::door::tls;
use crate::ingest::relay;
use crate::journal;
use crate::units::ByteCount;
use crate::webhook;

/// As much as waits at the very most, and is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    access_log: u64,
    event_log: u64,
    hooks: u64,
    backends: u64,
    questions_bytes: u64,
    tls_bytes: u64,
    /// Servers that are asked which mounts they have.
    asked: u64,
}

impl Waiting {
    pub(super) fn of(config: &Config, costs: Costs) -> Self {
        let mut backends: Vec<&Arc<UrlAuth>> = Vec::new();
        for mount in config.settings_of_mounts() {
            let listeners = mount.listen_auth.as_deref().into_iter().flat_map(Rule::leaves);
            let listeners = listeners.filter_map(|leaf| if let Rule::Url(backend) = leaf { Some(backend) } else { None });
            let encoders = mount.push.iter().filter_map(|push| push.stream_auth.as_ref());
            // Mounts with the same backend put their questions into the same queue.
            for backend in listeners.chain(encoders) {
                if !backends.contains(&backend) {
                    backends.push(backend);
                }
            }
        }
        let asked = |backend: &&Arc<UrlAuth>| bouncer::questions_bytes(config.door.max_header_size.0, backend.headers.len());
        let questions_bytes = backends.iter().map(asked).fold(0, u64::saturating_add);
        let backends = backends.len() as u64;
        Self {
            access_log: if config.log.access == Access::None { 0 } else { journal::QUEUED_BYTES },
            event_log: costs.event_log_bytes,
            hooks: config.webhooks.len() as u64,
            backends,
            questions_bytes,
            tls_bytes: config.door.tls.len() as u64 * tls::REMEMBERED_BYTES,
            asked: (config.peers.peers.len() + config.mirrors.len()) as u64,
        }
    }

    fn hooks_bytes(&self) -> u64 {
        self.hooks.saturating_mul(webhook::QUEUE_BYTES)
    }

    fn answers_bytes(&self) -> u64 {
        self.asked.saturating_mul(relay::ANSWER_BYTES)
    }

    pub(super) fn sum(&self) -> u64 {
        let waits = self.access_log.saturating_add(self.event_log).saturating_add(self.hooks_bytes()).saturating_add(self.questions_bytes);
        waits.saturating_add(bouncer::PASSWORDS_BYTES).saturating_add(self.tls_bytes).saturating_add(self.answers_bytes())
    }
}

impl fmt::Display for Waiting {
    /// Each row begins with the end of the line before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\n# log lines that wait               {} (for a disk or a reader that is slow: {} of the access log, {} of the event log)\
             \n# events for webhooks               {} ({} × {})\
             \n# questions to backends             {} ({} of them may be asked who listens or publishes)\
             \n# passwords, TLS sessions           {} (that are remembered: {} and {})\
             \n# lists of other servers' mounts    {} ({} × {}: mirrored servers, and those of redirect_peers)",
            ByteCount(self.access_log + self.event_log),
            ByteCount(self.access_log),
            ByteCount(self.event_log),
            ByteCount(self.hooks_bytes()),
            self.hooks,
            ByteCount(webhook::QUEUE_BYTES),
            ByteCount(self.questions_bytes),
            self.backends,
            ByteCount(bouncer::PASSWORDS_BYTES + self.tls_bytes),
            ByteCount(bouncer::PASSWORDS_BYTES),
            ByteCount(self.tls_bytes),
            ByteCount(self.answers_bytes()),
            self.asked,
            ByteCount(relay::ANSWER_BYTES),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{COSTS, good};

    #[test]
    fn what_waits_is_counted_by_what_is_configured() {
        let backend = |url: &str| format!("listen_auth = {{ url = \"http://{url}/\" }}\n");
        let mounts = format!(
            "[[mount]]\npath = \"/a\"\n{}[[mount]]\npath = \"/b\"\n{}[[mount]]\npath = \"/c\"\n{}",
            backend("panel"),
            backend("panel"),
            backend("another")
        );
        let of = |text: &str| Waiting::of(&good(text), COSTS);
        let plain = of("[[mount]]\npath = \"/a\"\n");
        assert_eq!((plain.hooks, plain.backends, plain.tls_bytes), (0, 0, 0));
        assert_eq!(plain.sum(), journal::QUEUED_BYTES + COSTS.event_log_bytes + bouncer::PASSWORDS_BYTES);
        let quiet = of("[log]\naccess = \"none\"\n[[mount]]\npath = \"/a\"\n");
        assert_eq!(plain.sum() - quiet.sum(), journal::QUEUED_BYTES);
        let asking = of(&mounts);
        assert_eq!(asking.backends, 2, "two mounts share one");
        assert_eq!(asking.sum() - plain.sum(), 2 * bouncer::questions_bytes(8192, 0));
        let hook = "[[webhook]]\nurl = \"http://a/\"\n[[webhook]]\nurl = \"http://b/\"\n[[mount]]\npath = \"/a\"\n";
        assert_eq!(of(hook).sum() - plain.sum(), 2 * webhook::QUEUE_BYTES);
        let others = "[server]\nredirect_peers = [\"http://a\", \"http://b\"]\n[[mirror]]\nfrom = \"http://c\"\n[[mount]]\npath = \"/a\"\n";
        assert_eq!(of(others).sum() - plain.sum(), 3 * relay::ANSWER_BYTES);
    }
}
