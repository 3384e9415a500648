//! Webhooks: what happens here, told to programs elsewhere by HTTP.
//!
//! ```text
//!   mounts ──tell──▶ bounded queue per hook ──▶ one thread per hook ──POST──▶ a program elsewhere
//! ```
//! - Whoever tells never waits. When the queue is full, events are dropped and counted.
//! - A hook that is down, slow, or refuses is tried again, a bounded number of times, after waits that grow and are jittered;
//!   then the event is given up and counted. Events of one hook arrive in the order in which they happened, or not at all.
//! - Over https a hook is told only if its certificate is believed: by this machine's list, or by a file of its own.
//! - A hook harms no other: each has a queue and a thread of its own.
//!
//! - When the server ends, what waits is tried once more, within a bound; the rest is given up and counted.
//!
//! Deliberately absent: answers that change anything here (who may listen is asked elsewhere), and storage.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

mod event;

pub use event::{Event, Kind, ListenerEvent, SourceEvent};

/// Events that may wait for one hook.
const EVENTS_MOST: usize = 1024;
/// Memory of those that wait for one hook, at the very most.
pub const QUEUE_BYTES: u64 = EVENTS_MOST as u64 * event::EVENT_BYTES;
/// How long a hook may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an event is tried in all.
const TRIES: u32 = 6;
/// The wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What is read of a file with certificates: that of all authorities there are has some 200 KiB.
const CA_BYTES_MOST: u64 = 4 << 20;
/// How often a thread that sleeps looks whether its hook is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One hook, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where events go.
    pub url: String,
    /// Which.
    pub events: Vec<Kind>,
    /// A PEM file with the certificates that are believed, over https; `None`: those that this machine believes.
    pub ca: Option<Arc<Path>>,
}

/// What became of events, over all hooks.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Taken by the hook.
    pub delivered: AtomicU64,
    /// Given up after the last try, or refused for good.
    pub failed: AtomicU64,
    /// Never tried: too many waited, or the server has ended.
    pub dropped: AtomicU64,
}

impl Outcomes {
    /// Every counter with its word.
    pub fn counters(&self) -> [(&'static str, &AtomicU64); 3] {
        [("delivered", &self.delivered), ("failed", &self.failed), ("dropped", &self.dropped)]
    }

    /// Every outcome with its word.
    pub fn all(&self) -> [(&'static str, u64); 3] {
        self.counters().map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
struct Hook {
    settings: Settings,
    queue: SyncSender<Event>,
    fate: Arc<Fate>,
    /// Breaks when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// What a hook's thread is told.
#[derive(Debug, Default)]
struct Fate {
    /// Events of which nobody has said yet what became of them.
    open: AtomicU64,
    /// The server ends: nobody waits for better times.
    hurries: AtomicBool,
    /// The hook is no more: nothing is tried.
    over: AtomicBool,
}

impl Fate {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether what became of an event is still to be said.
    fn settle_one(&self) -> bool {
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| open.checked_sub(1)).is_ok()
    }
}

/// All hooks.
#[derive(Debug, Default)]
pub struct Webhooks {
    hooks: RwLock<Vec<Hook>>,
    outcomes: Arc<Outcomes>,
}

impl Webhooks {
    /// From now on these hooks are told, and no others. One that stays as it is keeps what waits for it.
    ///
    /// # Errors
    /// When the system has no thread left; then those that have one are told.
    pub fn settle(&self, settings: &[Settings]) -> io::Result<()> {
        let mut hooks = self.hooks.write().unwrap_or_else(PoisonError::into_inner);
        hooks.retain(|hook| {
            let stays = settings.contains(&hook.settings);
            hook.fate.over.store(!stays, Ordering::Relaxed);
            stays
        });
        for settings in settings {
            if hooks.iter().any(|hook| hook.settings == *settings) {
                continue;
            }
            let (queue, events) = sync_channel(EVENTS_MOST);
            let (told, outcomes, fate) = (settings.clone(), Arc::clone(&self.outcomes), Arc::<Fate>::default());
            let (shared, (ends, ended)) = (Arc::clone(&fate), channel());
            std::thread::Builder::new().name("webhook".into()).spawn(move || {
                deliver(&told, &events, &outcomes, &shared);
                drop(ends);
            })?;
            hooks.push(Hook { settings: settings.clone(), queue, fate, ended: Mutex::new(ended) });
        }
        Ok(())
    }

    /// Whether anybody wants to know of such events. Who asks first spares the work.
    pub fn want(&self, kind: Kind) -> bool {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).iter().any(|hook| hook.settings.events.contains(&kind))
    }

    /// Tells whoever wants to know.
    pub fn tell(&self, event: &Event) {
        for hook in &*self.hooks.read().unwrap_or_else(PoisonError::into_inner) {
            if event.kind.is_none_or(|kind| !hook.settings.events.contains(&kind)) {
                continue;
            }
            hook.fate.open.fetch_add(1, Ordering::Relaxed);
            if hook.queue.try_send(event.clone()).is_err() && hook.fate.settle_one() {
                self.outcomes.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The server ends: what waits is tried once more, and nobody is told of anything any more. Returns when that is done, or time is up;
    /// then the rest is given up and counted. Blocks.
    pub fn finish(&self, within: Duration) {
        let until = Instant::now() + within;
        let hooks = std::mem::take(&mut *self.hooks.write().unwrap_or_else(PoisonError::into_inner));
        hooks.iter().for_each(|hook| hook.fate.hurries.store(true, Ordering::Relaxed));
        // Without its queue a thread ends when it has been through what waits.
        let hooks: Vec<_> = hooks.into_iter().map(|Hook { settings, fate, ended, .. }| (settings, fate, ended)).collect();
        for (settings, fate, ended) in hooks {
            let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now())); // it has ended, or has had its time
            fate.over.store(true, Ordering::Relaxed);
            let left = fate.open.swap(0, Ordering::Relaxed);
            if left > 0 {
                self.outcomes.dropped.fetch_add(left, Ordering::Relaxed);
                tracing::warn!(url = settings.url, left, "a webhook has not taken these events in time; they are given up and counted");
            }
        }
    }

    /// What became of events.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }
}

/// The wait after so many failures in a row; `jitter` is 0 to 1.
pub fn wait(failures: u32, jitter: f64) -> Duration {
    let grown = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    grown.mul_f64(0.5 + jitter.clamp(0.0, 1.0)).min(LONGEST_WAIT)
}

/// What a hook said to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Taken,
    /// It may take it later.
    Later,
    /// It never will.
    Never,
}

/// What a status means.
pub fn answer_of(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Taken,
        408 | 425 | 429 | 500..=599 => Answer::Later,
        _ => Answer::Never,
    }
}

/// Sleeps; answers whether the hook is still wanted then, and there is time.
fn rest(time: Duration, fate: &Fate) -> bool {
    let end = Instant::now() + time;
    while !fate.is_over() && !fate.hurries.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
    false
}

/// Whose certificates are believed. Blocks: it reads files.
fn roots(ca: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs().certs;
        return Ok(found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect());
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(CA_BYTES_MOST).read_to_end(&mut bytes));
    read.map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
    let items =
        parse_pem(&bytes).filter_map(|item| if let Ok(PemItem::Certificate(certificate)) = item { Some(certificate) } else { None });
    let found: Vec<_> = items.collect();
    if found.is_empty() { Err(format!("the file {} holds no certificate in PEM", path.display())) } else { Ok(found) }
}

/// Whether a file holds certificates that can be believed.
///
/// # Errors
/// Says why not.
pub fn check_ca(path: &Path) -> Result<(), String> {
    roots(Some(path)).map(drop)
}

fn trusting(roots: Vec<Certificate<'static>>) -> TlsConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder().root_certs(RootCerts::from(roots)).unversioned_rustls_crypto_provider(provider).build()
}

/// TLS that trusts whom the machine trusts. Blocks: it reads files.
pub fn trust() -> TlsConfig {
    trusting(roots(None).unwrap_or_default()) // with none, every certificate is refused
}

/// TLS that trusts the certificates in this PEM file, and nobody else. Blocks: it reads files.
///
/// # Errors
/// Says why there are none.
pub fn trust_in(ca: &Path) -> Result<TlsConfig, String> {
    roots(Some(ca)).map(trusting)
}

/// What a hook is told by. Its connection stays open between events that follow each other.
fn agent(settings: &Settings) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("flumen/", env!("CARGO_PKG_VERSION")));
    if settings.url.starts_with("https://") {
        // With none, every certificate is refused, and the hook is said to take nothing.
        let roots = roots(settings.ca.as_deref()).unwrap_or_else(|error| {
            tracing::error!(url = settings.url, error, "a webhook's certificates cannot be read");
            Vec::new()
        });
        config = config.tls_config(trusting(roots));
    }
    config.build().into()
}

/// The thread of one hook; it ends when the hook is no more.
fn deliver(settings: &Settings, events: &Receiver<Event>, outcomes: &Outcomes, fate: &Fate) {
    let (url, agent) = (settings.url.as_str(), agent(settings));
    let mut down = false;
    while let Ok(event) = events.recv() {
        if fate.is_over() {
            outcomes.dropped.fetch_add(u64::from(fate.settle_one()), Ordering::Relaxed);
            continue;
        }
        let body = serde_json::to_string(&event).unwrap_or_default(); // texts and numbers can always be written
        let mut failures = 0;
        let taken = loop {
            let answer = match agent.post(url).content_type("application/json").send(&body) {
                Ok(answer) => answer_of(answer.status().as_u16()),
                Err(_) => Answer::Later,
            };
            failures += 1;
            if answer != Answer::Later || failures >= TRIES || !rest(wait(failures, fastrand::f64()), fate) {
                break answer == Answer::Taken;
            }
        };
        // One line when it begins, and one when it is over.
        if taken == down {
            down = !taken;
            if down {
                tracing::warn!(url, event = event.event, "a webhook takes no events; they are given up and counted");
            } else {
                tracing::info!(url, "the webhook takes events again");
            }
        }
        let counter = if taken { &outcomes.delivered } else { &outcomes.failed };
        counter.fetch_add(u64::from(fate.settle_one()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn hooks(url: &str, events: &[Kind]) -> Webhooks {
        let hooks = Webhooks::default();
        hooks.settle(&[Settings { url: url.to_owned(), events: events.to_vec(), ca: None }]).expect("a thread");
        hooks
    }

    fn left(id: u64) -> Event {
        let listener =
            ListenerEvent { id, peer: "192.0.2.1:5".into(), departure: Some("hung_up"), seconds: Some(1.5), ..ListenerEvent::default() };
        Event::of_listener(Kind::ListenerLeft, "/a", listener)
    }

    /// Takes one request, and answers it; what was sent.
    fn take(listener: &TcpListener, status: &str) -> String {
        let (mut peer, _) = listener.accept().expect("somebody comes");
        let text = request(&mut peer);
        write!(peer, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("answered");
        text
    }

    fn request(peer: &mut impl Read) -> String {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"\r\n\r\n") {
            assert_eq!(peer.read(&mut byte).expect("a head"), 1, "{}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        let head = String::from_utf8(text).expect("text");
        let length = head.to_ascii_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        peer.read_exact(&mut body).expect("a body");
        head + &String::from_utf8(body).expect("text")
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "it never came true");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn outcomes(hooks: &Webhooks) -> [u64; 3] {
        hooks.outcomes().all().map(|(_, count)| count)
    }

    #[test]
    fn what_was_asked_for_is_told_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hooks = hooks(&format!("http://{}/hook", listener.local_addr().expect("an address")), &[Kind::ListenerLeft]);
        assert!(hooks.want(Kind::ListenerLeft) && !hooks.want(Kind::SourceUp));
        hooks.tell(&Event::of_source(Kind::SourceUp, "/a", SourceEvent::default()));
        hooks.tell(&left(7));
        let request = take(&listener, "204 No Content");
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /hook HTTP/1.1") && head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
        let told: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&told["event"], &told["mount"], &told["listener"]["id"]), (&"listener_left".into(), &"/a".into(), &7.into()), "{told}");
        assert_eq!((&told["listener"]["departure"], &told["listener"]["seconds"]), (&"hung_up".into(), &1.5.into()));
        assert!(told.get("source").is_none() && told["time"].as_f64().is_some_and(|time| time > 1e9), "{told}");
        until(|| outcomes(&hooks) == [1, 0, 0]);
    }

    #[test]
    fn a_hook_that_is_out_of_order_is_tried_again_and_in_order_and_one_that_refuses_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hooks = hooks(&format!("http://{}/", listener.local_addr().expect("an address")), &[Kind::ListenerLeft]);
        (1..=3).for_each(|id| hooks.tell(&left(id)));
        let seen: Vec<_> = ["503 Busy", "200 OK", "410 Gone", "429 Slow Down", "200 OK"]
            .map(|status| take(&listener, status).split("\"id\":").nth(1).and_then(|rest| rest.chars().next()))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(seen, ['1', '1', '2', '3', '3']);
        until(|| outcomes(&hooks) == [2, 1, 0]);
    }

    #[test]
    fn a_hook_that_hangs_costs_events_beyond_the_bound_and_nobody_waits_for_it() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port"); // it accepts, and never answers
        let hooks = hooks(&format!("http://{}/", silent.local_addr().expect("an address")), &[Kind::ListenerLeft]);
        let start = Instant::now();
        let told = EVENTS_MOST as u64 + 500;
        (0..told).for_each(|id| hooks.tell(&left(id)));
        assert!(start.elapsed() < Duration::from_secs(5), "nobody waits");
        let [delivered, _, dropped] = outcomes(&hooks);
        assert!(delivered == 0 && (498..=500).contains(&dropped), "{dropped}");
        // Taken away, it is forgotten, whatever waits for it.
        hooks.settle(&[]).expect("settled");
        assert!(!hooks.want(Kind::ListenerLeft));
    }

    #[test]
    fn at_the_end_what_waits_is_tried_once_more_and_what_is_left_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hooks = hooks(&format!("http://{}/", listener.local_addr().expect("an address")), &[Kind::ListenerLeft]);
        (1..=3).for_each(|id| hooks.tell(&left(id)));
        take(&listener, "503 Busy"); // it would wait now, and try this one again
        let hook = std::thread::spawn(move || ["200 OK", "503 Busy"].map(|status| take(&listener, status)));
        hooks.finish(Duration::from_secs(20));
        let tried = hook.join().expect("two have come");
        assert!(tried[0].contains("\"id\":2") && tried[1].contains("\"id\":3"), "{tried:?}");
        assert_eq!(outcomes(&hooks), [1, 2, 0]);
        hooks.tell(&left(4));
        assert!(!hooks.want(Kind::ListenerLeft) && outcomes(&hooks) == [1, 2, 0], "nobody is told any more");
        // One that hangs.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hooks = self::hooks(&format!("http://{}/", silent.local_addr().expect("an address")), &[Kind::ListenerLeft]);
        (1..=3).for_each(|id| hooks.tell(&left(id)));
        let (start, _peer) = (Instant::now(), silent.accept().expect("somebody comes"));
        hooks.finish(Duration::from_millis(100));
        assert!(start.elapsed() < Duration::from_secs(5), "nobody waits for it");
        assert_eq!(outcomes(&hooks), [0, 0, 3]);
    }

    #[test]
    fn over_tls_a_hook_is_told_whose_certificate_is_believed_and_no_other() {
        let dir = std::env::temp_dir().join(format!("flumen-webhook-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let ca: Arc<Path> = dir.join("ca.pem").into();
        std::fs::write(&ca, signed.cert.pem()).expect("written");
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![signed.cert.der().clone()], key).expect("a pair"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}/hook", listener.local_addr().expect("an address").port());
        for (ca, believed) in [(Some(Arc::clone(&ca)), true), (None, false)] {
            let hooks = Webhooks::default();
            hooks.settle(&[Settings { url: url.clone(), events: vec![Kind::SourceFlapping], ca }]).expect("a thread");
            hooks.tell(&Event::of_advice(Kind::SourceFlapping, "/a", "it comes and goes"));
            let (mut peer, _) = listener.accept().expect("somebody comes");
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = rustls::Stream::new(&mut session, &mut peer);
            if believed {
                let text = request(&mut stream);
                assert!(text.starts_with("POST /hook") && text.contains("\"message\":\"it comes and goes\""), "{text}");
                write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").expect("answered");
                until(|| outcomes(&hooks) == [1, 0, 0]);
            } else {
                assert!(stream.read(&mut [0; 64]).is_err(), "nothing is told to a stranger");
            }
            hooks.settle(&[]).expect("settled");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn waits_grow_and_are_jittered_and_an_answer_is_understood() {
        assert_eq!(wait(1, 0.5), FIRST_WAIT);
        assert_eq!(wait(3, 0.5), FIRST_WAIT * 4);
        assert!(wait(2, 0.0) < wait(2, 1.0) && wait(50, 1.0) <= LONGEST_WAIT);
        for (status, want) in [
            (200, Answer::Taken),
            (204, Answer::Taken),
            (301, Answer::Never),
            (404, Answer::Never),
            (408, Answer::Later),
            (429, Answer::Later),
            (500, Answer::Later),
            (503, Answer::Later),
        ] {
            assert_eq!(answer_of(status), want, "{status}");
        }
        for (i, (word, kind)) in Kind::WORDS.into_iter().enumerate() {
            assert_eq!((kind as usize, kind.label()), (i, word));
        }
    }
}
