//! What a soak was asked to do, checked, and as it is kept in its folder. Pure.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::Shape;
use crate::units::ByteRate;

/// How a source of ours reaches its mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Feed {
    /// The mount's `tcpclientsrc` comes here.
    Listen(SocketAddr),
    /// The mount's `tcpserversrc` waits here.
    Connect(SocketAddr),
}

impl std::str::FromStr for Feed {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let wrong = || format!("`{typed}` is not listen:ADDRESS:PORT or connect:ADDRESS:PORT");
        let (how, address) = typed.split_once(':').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        match how {
            "listen" => Ok(Self::Listen(address)),
            "connect" => Ok(Self::Connect(address)),
            _ => Err(wrong()),
        }
    }
}

/// A flumen that the soak starts and stops itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnServer {
    pub(crate) program: PathBuf,
    /// Its own, and one for the source of each mount.
    pub(crate) ports: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) targets: Vec<String>,
    /// The first feeds the first target, and so on; targets beyond have sources of their own.
    pub(crate) feeds: Vec<Feed>,
    pub(crate) own_server: Option<OwnServer>,
    pub(crate) pid: Option<u32>,
    pub(crate) alone: bool,
    pub(crate) listeners: usize,
    pub(crate) verify: usize,
    pub(crate) stalled_share: f64,
    pub(crate) slow_share: f64,
    pub(crate) slow_rate: f64,
    pub(crate) churn_per_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) interval_s: f64,
    pub(crate) faults_every_s: f64,
    pub(crate) kicks_every_s: f64,
    pub(crate) reload_every_s: f64,
    pub(crate) visits_per_s: f64,
    pub(crate) source_rate: f64,
    pub(crate) record_size: u32,
    pub(crate) seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            feeds: Vec::new(),
            own_server: None,
            pid: None,
            alone: false,
            listeners: 100,
            verify: 100,
            stalled_share: 0.05,
            slow_share: 0.05,
            slow_rate: 4096.0,
            churn_per_s: 2.0,
            duration_s: 3_600.0,
            warm_up_s: 360.0,
            interval_s: 5.0,
            faults_every_s: 30.0,
            kicks_every_s: 20.0,
            reload_every_s: 60.0,
            visits_per_s: 4.0,
            source_rate: 16_000.0,
            record_size: 417,
            seed: 1,
        }
    }
}

/// The mounts of a flumen of its own: one whose source is never touched, and one of each way in.
pub(crate) const OWN_MOUNTS: [&str; 3] = ["/steady", "/called", "/calling"];

impl Settings {
    /// The targets and feeds of a flumen of its own.
    pub(crate) fn at_home(&mut self, server: OwnServer) {
        let at = |which: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports.get(which).copied().unwrap_or(0)));
        self.targets = OWN_MOUNTS.iter().map(|path| format!("http://{}{path}", at(0))).collect();
        self.feeds = vec![Feed::Listen(at(1)), Feed::Connect(at(2)), Feed::Listen(at(3))];
        (self.alone, self.own_server) = (true, Some(server));
    }

    /// The configuration of that flumen: short limits, so that slow and stalled listeners come to their ends within minutes.
    pub(crate) fn own_configuration(&self) -> String {
        let port = self.own_server.as_ref().and_then(|server| server.ports.first().copied()).unwrap_or(0);
        let (most, connections) = (self.listeners + 100, self.listeners + 300);
        let mut text = format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nmax_listeners = {most}\nmax_connections = {connections}\n\n[mount_defaults]\n\
             content_type = \"application/x-flumen-test\"\nsync = \"burst-keyframe\"\nburst = [\"2s\"]\nsoft_limit = \"6s\"\n\
             hard_limit = \"12s\"\nidle_timeout = \"20s\"\n"
        );
        for (path, feed) in OWN_MOUNTS.iter().zip(&self.feeds) {
            let (element, address) = match feed {
                Feed::Listen(address) => ("tcpclientsrc", address),
                Feed::Connect(address) => ("tcpserversrc", address),
            };
            let pipeline = format!("{element} host={} port={} ! gdpdepay", address.ip(), address.port());
            // The slow are moved on, and on the last mount removed.
            let recover = if *path == OWN_MOUNTS[OWN_MOUNTS.len() - 1] { "none" } else { "keyframe" };
            text.push_str(&format!("\n[[mount]]\npath = \"{path}\"\nrecover = \"{recover}\"\npipeline = \"{pipeline}\"\n"));
        }
        text
    }

    /// Whether the source of the `at`-th target comes to harm. The first never does: whoever listens there loses nothing, ever.
    pub(crate) fn harmed(&self, at: usize) -> bool {
        at > 0 || self.feeds.len() == 1
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape { gdp: true, rate: ByteRate(self.source_rate), record_size: self.record_size, keyframe_every: 10 }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_says_who_waits_for_whom() {
        let address = "127.0.0.1:7000".parse().expect("an address");
        assert_eq!("listen:127.0.0.1:7000".parse(), Ok(Feed::Listen(address)));
        assert_eq!("connect:127.0.0.1:7000".parse(), Ok(Feed::Connect(address)));
        for wrong in ["", "listen", "listen:", "listen:localhost:1", "call:127.0.0.1:1"] {
            assert!(wrong.parse::<Feed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_of_its_own_has_a_target_and_a_feed_for_every_mount() {
        let mut settings = Settings::default();
        settings.at_home(OwnServer { program: "flumen".into(), ports: vec![2300, 2311, 2322, 2333] });
        assert_eq!(settings.targets.len(), settings.feeds.len());
        assert_eq!(settings.targets[0], "http://127.0.0.1:2300/steady");
        let text = settings.own_configuration();
        assert!(text.contains("tcpserversrc host=127.0.0.1 port=2322 ! gdpdepay"), "{text}");
        assert_eq!(text.matches("[[mount]]").count(), 3);
        assert!(!settings.harmed(0) && settings.harmed(1) && settings.harmed(2));
    }
}
