//! How each server is run: its program, its arguments, its configuration, and how the stream gets into it. Pure but for finding programs.
//!
//! Everybody is set as its own documentation recommends for the work, with the same burst, and with limits that are out of the way:
//!
//! | server | fed by | set to |
//! |---|---|---|
//! | flumen | `tcpclientsrc ! gdpdepay`, one chunk per record | `coalesce` = the row's window, or its default |
//! | floor | the same records by TCP | the row's window, or 100 ms |
//! | icecast2 | pushed (`PUT`) | has no window: sends by blocks of 1,400 bytes |
//! | multifdsink, multisocketsink | `tcpclientsrc ! gdpdepay`, one buffer per record | see `host` |
//! | cubemap | pulled over HTTP, `src_encoding=raw` | one thread below two gigabits, else one per core, as its sample configuration says |
//!
//! Where newcomers begin differs: flumen and GStreamer's sinks give at least the burst from a keyframe on, icecast2 the burst cut by bytes;
//! cubemap (whose `force_prebuffer` waits for bytes to come instead of sending what it has) and the floor begin with what comes next.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::work::{Row, Window};
use crate::cli::{PeerName, loopback};

/// The mount, everywhere.
pub(super) const PATH: &str = "/live";
pub(super) const PASSWORD: &str = "only-on-loopback";
/// The floor has no default of its own.
const FLOOR_WINDOW: Duration = Duration::from_millis(100);
/// What cubemap's sample configuration calls "a gigabit or two", in bytes per second.
const CUBEMAP_ONE_THREAD: f64 = 2e9 / 8.0;

/// How a server gets the stream from `loadtest source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// It connects, and gets records in GDP packets.
    Gdp,
    /// It connects, and gets records.
    Plain,
    /// It asks over HTTP.
    Http,
    /// It is connected to, as by an Icecast source client.
    Push,
}

/// How many joins per second a server bears without refusing some, where that is few. Rows that are not about joining keep to it, so that
/// they measure the listeners and not the rush that was before: icecast2 refuses from about 300 on, and takes long to get over it.
pub(super) fn joins_per_second_most(peer: PeerName) -> f64 {
    if peer == PeerName::Icecast2 { 150.0 } else { f64::INFINITY }
}

/// How to start a server.
#[derive(Debug, PartialEq)]
pub(super) struct Setup {
    pub(super) arguments: Vec<String>,
    /// A configuration to write first; its path is the last argument.
    pub(super) config: Option<String>,
    pub(super) feed: Feed,
    /// Whether listeners begin at a streamheader and a keyframe.
    pub(super) exact: bool,
}

/// Where a server is and what it is to do.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) row: &'a Row,
    pub(super) burst: u32,
    pub(super) port: u16,
    pub(super) source_port: u16,
    pub(super) home: &'a Path,
    /// Whom icecast2, which refuses to run as root, becomes.
    pub(super) servant: Option<&'a Servant>,
    pub(super) cores: usize,
}

/// A user and a group without rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Servant {
    pub(super) user: String,
    pub(super) group: String,
}

pub(super) fn setup(peer: PeerName, place: &Place<'_>) -> Setup {
    let listen = loopback(place.port).to_string();
    let own = |words: &[&str], feed, exact| Setup { arguments: words.iter().map(ToString::to_string).collect(), config: None, feed, exact };
    let gdp = format!("tcpclientsrc host=127.0.0.1 port={} ! gdpdepay", place.source_port);
    match peer {
        PeerName::Flumen => Setup { config: Some(flumen(place, &gdp)), ..own(&["serve", "-c"], Feed::Gdp, true) },
        PeerName::Icecast2 => Setup { config: Some(icecast(place)), ..own(&["-c"], Feed::Push, false) },
        PeerName::Cubemap => Setup { config: Some(cubemap(place)), ..own(&[], Feed::Http, false) },
        PeerName::Floor => {
            let window = match place.row.window {
                Window::Fixed(window) => window,
                Window::Default => FLOOR_WINDOW,
            };
            let (source, buffer) = (loopback(place.source_port).to_string(), send_buffer(place.row.work.rate.0, window).to_string());
            let window = format!("{}ms", window.as_millis());
            let words = ["floor", "--listen", &listen, "--source", &source, "--window", &window, "--send-buffer", &buffer];
            own(&words, Feed::Plain, false)
        }
        PeerName::Multifdsink | PeerName::Multisocketsink => {
            let keep = (u64::from(place.burst) + place.row.work.group_bytes()).to_string();
            let burst = place.burst.to_string();
            let words = ["host", peer.label(), "--listen", &listen, "--pipeline", &gdp, "--burst", &burst, "--keep", &keep];
            own(&words, Feed::Gdp, true)
        }
    }
}

/// Twice what comes in a window and half a second, as flumen's `auto` does within its bounds: the same for the floor, so that a stalled
/// listener does not take megabytes from the kernel here and kilobytes there.
fn send_buffer(rate: f64, window: Duration) -> u32 {
    (2.0 * rate * (window.as_secs_f64() + 0.5)).clamp(32.0 * 1024.0, 512.0 * 1024.0) as u32
}

fn flumen(place: &Place<'_>, pipeline: &str) -> String {
    let Place { row, burst, port, .. } = place;
    let listeners = row.work.listeners;
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nmax_listeners = {}\nmax_connections = {}\n\n[[mount]]\npath = \"{PATH}\"\n\
         pipeline = \"{pipeline}\"\ncontent_type = \"application/octet-stream\"\nsync = \"burst-keyframe\"\nburst = \"{burst}B\"\n",
        listeners + 100,
        listeners + 2_000
    );
    if let Window::Fixed(window) = row.window {
        // Writing to a String does not fail.
        let _ = writeln!(text, "coalesce = \"{}ms\"", window.as_millis());
    }
    text
}

fn icecast(place: &Place<'_>) -> String {
    let Place { row, burst, port, home, servant, .. } = place;
    let clients = row.work.listeners.max(10_000) * 2;
    // The queue holds the burst, and some seconds of stream beyond it.
    let queue = (f64::from(*burst) + row.work.rate.0 * 10.0).max(524_288.0) as u64;
    let owner = servant.map_or(String::new(), |Servant { user, group }| {
        format!("<security><changeowner><user>{user}</user><group>{group}</group></changeowner></security>")
    });
    format!(
        "<icecast>\n<hostname>localhost</hostname>\n<limits><clients>{clients}</clients><sources>2</sources><queue-size>{queue}</queue-size>\
         <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>30</source-timeout>\
         <burst-size>{burst}</burst-size></limits>\n<authentication><source-password>{PASSWORD}</source-password>\
         <relay-password>{PASSWORD}</relay-password><admin-user>admin</admin-user><admin-password>{PASSWORD}</admin-password>\
         </authentication>\n<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\n\
         <paths><basedir>/usr/share/icecast2</basedir><logdir>{}</logdir><webroot>/usr/share/icecast2/web</webroot>\
         <adminroot>/usr/share/icecast2/admin</adminroot></paths>\n\
         <logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>2</loglevel></logging>\n{owner}\n</icecast>\n",
        home.display()
    )
}

fn cubemap(place: &Place<'_>) -> String {
    let Place { row, port, source_port, cores, .. } = place;
    let work = &row.work;
    let threads = if work.listeners as f64 * work.rate.0 < CUBEMAP_ONE_THREAD { 1 } else { *cores };
    format!(
        "num_servers {threads}\nlisten 127.0.0.1:{port}\nerror_log type=console\n\
         stream {PATH} src=http://127.0.0.1:{source_port}{PATH} src_encoding=raw\n"
    )
}

/// Whom a server that refuses to run as root may become: its package's user, else nobody.
pub(super) fn servant(passwd: &str, group: &str) -> Option<Servant> {
    let named = |text: &str, names: [&str; 2]| {
        names.into_iter().find(|name| text.lines().any(|line| line.split(':').next() == Some(name))).map(str::to_owned)
    };
    Some(Servant { user: named(passwd, ["icecast2", "nobody"])?, group: named(group, ["icecast", "nogroup"])? })
}

/// The program of a server, or why there is none.
pub(super) fn program(peer: PeerName, flumen: Option<&Path>) -> Result<PathBuf, String> {
    let own = || env::current_exe().map_err(|e| e.to_string());
    let missing = |package: &str| format!("not found in PATH; Debian's package is {package}");
    match peer {
        PeerName::Floor => own(),
        PeerName::Multifdsink => crate::host::available("multifdsink").and_then(|()| own()),
        PeerName::Multisocketsink => crate::host::available("multisocketsink").and_then(|()| own()),
        PeerName::Icecast2 => in_path("icecast2").ok_or_else(|| missing("icecast2")),
        PeerName::Cubemap => in_path("cubemap").ok_or_else(|| missing("cubemap")),
        PeerName::Flumen => match flumen {
            Some(given) if given.is_file() => given.canonicalize().map_err(|e| e.to_string()),
            Some(given) => Err(format!("{} is no file", given.display())),
            None => own()
                .ok()
                .map(|own| own.with_file_name("flumen"))
                .filter(|beside| beside.is_file())
                .or_else(|| in_path("flumen"))
                .ok_or_else(|| "neither beside this program nor in PATH (--flumen)".to_owned()),
        },
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(peer: PeerName, work: &str, window: Window) -> Setup {
        let row = Row::plain(work.parse().expect("fine"), window);
        let servant = Servant { user: "u".to_owned(), group: "g".to_owned() };
        let place = Place { row: &row, burst: 65_536, port: 1, source_port: 2, home: Path::new("/h"), servant: Some(&servant), cores: 8 };
        setup(peer, &place)
    }

    #[test]
    fn every_server_is_told_where_to_listen_and_where_the_stream_is() {
        let fixed = Window::Fixed(Duration::from_millis(250));
        for (peer, wanted) in [
            (PeerName::Flumen, &["127.0.0.1:1", "port=2 ", "coalesce = \"250ms\"", "max_listeners = 10100", "burst = \"65536B\""][..]),
            (PeerName::Floor, &["--listen 127.0.0.1:1", "--source 127.0.0.1:2", "--window 250ms"]),
            (PeerName::Icecast2, &["<port>1</port>", "<clients>20000</clients>", "<burst-size>65536<", "<user>u</user><group>g</group>"]),
            (PeerName::Multifdsink, &["host multifdsink", "--listen 127.0.0.1:1", "port=2 ", "--burst 65536 --keep 65953"]),
            (PeerName::Multisocketsink, &["host multisocketsink"]),
            (PeerName::Cubemap, &["listen 127.0.0.1:1\n", "http://127.0.0.1:2/live src_encoding=raw", "num_servers 1\n"]),
        ] {
            let setup = with(peer, "10000x128kbit/s", fixed);
            let said = format!("{} {}", setup.arguments.join(" "), setup.config.unwrap_or_default());
            assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{peer:?}: {said}");
        }
    }

    #[test]
    fn what_is_default_is_left_out_and_what_is_heavy_gets_more_threads() {
        let default = with(PeerName::Flumen, "100x128kbit/s", Window::Default);
        assert!(!default.config.expect("a file").contains("coalesce"));
        let heavy = with(PeerName::Cubemap, "1000x2.5Mbit/s", Window::Default);
        assert!(heavy.config.expect("a file").contains("num_servers 8\n"));
    }

    #[test]
    fn a_send_buffer_holds_twice_a_window_within_bounds() {
        for (rate, ms, want) in [(16_000.0, 250, 32_768), (125_000.0, 250, 187_500), (312_500.0, 500, 524_288)] {
            assert_eq!(send_buffer(rate, Duration::from_millis(ms)), want, "{rate}");
        }
    }

    #[test]
    fn the_packages_own_user_is_preferred_to_nobody() {
        let both = ("root:x:0\nnobody:x:9\nicecast2:x:1", "nogroup:x:9\nicecast:x:2");
        for ((passwd, group), want) in [
            (both, Some(("icecast2", "icecast"))),
            (("nobody:x:9", "nogroup:x:9"), Some(("nobody", "nogroup"))),
            (("root:x:0", "root:x:0"), None),
        ] {
            let found = servant(passwd, group);
            assert_eq!(found.as_ref().map(|s| (s.user.as_str(), s.group.as_str())), want);
        }
    }

    #[test]
    fn a_program_that_is_missing_is_reported_with_its_remedy() {
        let complaint = program(PeerName::Flumen, Some(Path::new("/nowhere/flumen"))).expect_err("missing");
        assert!(complaint.contains("/nowhere/flumen"), "{complaint}");
        assert!(in_path("sh").is_some() && in_path("no-such-program").is_none());
    }
}
