//! Another binary takes over from a running server: who listens must not notice, whatever goes wrong with it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::line::{Line, fake};
use support::{free_port, until};

const SECOND: Duration = Duration::from_secs(1);

/// Sends numbered lines wherever a source is wanted, until told to stop. A server that goes away has taken what it has taken.
struct Feed {
    going_on: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Feed {
    fn start(port: u16) -> Self {
        let (going_on, paused) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (goes_on, is_paused) = (Arc::clone(&going_on), Arc::clone(&paused));
        let thread = std::thread::spawn(move || {
            let mut number = 0_u64;
            while goes_on.load(Ordering::Relaxed) {
                let Ok(mut source) = TcpStream::connect(("127.0.0.1", port)) else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                while goes_on.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                    if is_paused.load(Ordering::Relaxed) {
                        // Whether the other side is still there shows only here.
                        source.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
                        if matches!(source.read(&mut [0]), Ok(0)) {
                            break;
                        }
                        continue;
                    }
                    let lines: String = (0..100).map(|i| format!("{:015}\n", number + i)).collect();
                    number += 100;
                    if source.write_all(lines.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        Self { going_on, paused, thread }
    }

    fn stop(self) {
        self.going_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("it ends");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Icy,
    Raw,
    /// Reads nothing while it is told to rest.
    Slow,
}

const METAINT: usize = 1024;

/// A listener that keeps all it hears.
struct Listener {
    kind: Kind,
    heard: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Listener {
    fn start(kind: Kind, port: u16, raw: u16, going_on: &Arc<AtomicBool>, resting: &Arc<AtomicBool>) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", if kind == Kind::Raw { raw } else { port })).expect("connect");
        if kind != Kind::Raw {
            let icy = if kind == Kind::Icy { "Icy-MetaData: 1\r\n" } else { "" };
            write!(socket, "GET /numbers HTTP/1.1\r\nHost: localhost\r\n{icy}\r\n").expect("sent");
            socket = support::Stream::open(socket).socket;
        }
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (keeps, goes_on, rests) = (Arc::clone(&heard), Arc::clone(going_on), Arc::clone(resting));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while goes_on.load(Ordering::Relaxed) {
                if kind == Kind::Slow && rests.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                let most = if kind == Kind::Slow { 7001 } else { buffer.len() };
                match socket.read(&mut buffer[..most]) {
                    Ok(0) => panic!("a {kind:?} listener was left"),
                    Ok(count) => keeps.lock().expect("no panic").extend_from_slice(&buffer[..count]),
                    Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                    Err(error) => panic!("a {kind:?} listener was left: {error}"),
                }
            }
        });
        Self { kind, heard, thread }
    }

    fn bytes(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }

    /// The numbers it heard, and the titles.
    fn numbers(self) -> (Vec<u64>, Vec<String>) {
        self.thread.join().expect("nobody was left");
        let heard = Arc::into_inner(self.heard).expect("the thread has ended").into_inner().expect("no panic");
        let (mut stream, mut titles) = (Vec::new(), Vec::new());
        let mut rest = &heard[..];
        if self.kind == Kind::Icy {
            while rest.len() > METAINT {
                let (part, after) = rest.split_at(METAINT);
                stream.extend_from_slice(part);
                let length = usize::from(after[0]) * 16;
                if after.len() <= length {
                    rest = &[];
                    break;
                }
                titles.extend((length > 0).then(|| String::from_utf8_lossy(&after[1..=length]).trim_end_matches('\0').to_owned()));
                rest = &after[1 + length..];
            }
        }
        stream.extend_from_slice(rest);
        let text = String::from_utf8(stream).expect("digits");
        let whole = &text[text.find('\n').expect("a line") + 1..text.rfind('\n').expect("a line")];
        let numbers: Vec<u64> = whole
            .lines()
            .map(|line| {
                assert_eq!(line.len(), 15, "{:?}: torn: {line:?}", self.kind);
                line.parse().unwrap_or_else(|_| panic!("torn: {line:?}"))
            })
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}: something came twice", self.kind);
        (numbers, titles)
    }
}

fn numbers(source: u16, raw: u16) -> String {
    format!(
        "[[mount]]\npath = \"/numbers\"\npipeline = \"tcpserversrc host=127.0.0.1 port={source}\"\ncontent_type = \"text/plain\"\n\
         tcp = [\"127.0.0.1:{raw}\"]\nsend_buffer = \"16KiB\"\nicy_metadata = \"always\"\nicy_metaint = {METAINT}\nburst = \"100ms\"\n\
         sync = \"burst\"\n"
    )
}

/// What all heard alike: each from its first number on, the very same.
fn compare(listeners: Vec<Listener>) -> u64 {
    let kinds: Vec<_> = listeners.iter().map(|listener| listener.kind).collect();
    let heard: Vec<_> = listeners.into_iter().map(Listener::numbers).collect();
    let begin = heard.iter().map(|(numbers, _)| numbers[0]).max().expect("listeners");
    let end = heard.iter().map(|(numbers, _)| numbers[numbers.len() - 1]).min().expect("listeners");
    let common = |numbers: &[u64]| numbers.iter().copied().filter(|number| (begin..=end).contains(number)).collect::<BTreeSet<_>>();
    let first = common(&heard[0].0);
    for ((numbers, _), kind) in heard.iter().zip(&kinds) {
        let heard = common(numbers);
        let missing: Vec<_> = first.symmetric_difference(&heard).take(5).collect();
        assert!(missing.is_empty(), "{kind:?} heard something else than {:?}: {missing:?} between {begin} and {end}", kinds[0]);
    }
    for ((_, titles), kind) in heard.iter().zip(&kinds) {
        if *kind == Kind::Icy {
            assert_eq!(*titles, ["StreamTitle='Morning';", "StreamTitle='Noon';"], "each title once, also across upgrades");
        }
    }
    first.len() as u64
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn upgrades_cost_no_listener_a_byte() {
    let (source, raw) = (free_port(), free_port());
    let mut line = Line::start("", &numbers(source, raw));
    let feed = Feed::start(source);
    line.server.await_ready();
    let (going_on, resting) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let title = |line: &Line, title: &str| {
        let answer = line.server.get(&format!("/admin/metadata?mode=updinfo&mount=/numbers&song={title}"));
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    };
    title(&line, "Morning");
    let kinds = [Kind::Plain, Kind::Icy, Kind::Raw, Kind::Slow];
    let count = setting("FLUMEN_UPGRADE_LISTENERS", 16);
    let listeners: Vec<_> =
        (0..count).map(|i| Listener::start(kinds[i % kinds.len()], line.server.port, raw, &going_on, &resting)).collect();
    assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &[]) == count as f64));
    let upgrades = setting("FLUMEN_UPGRADES", 3).max(2);
    for round in 1..=upgrades {
        std::thread::sleep(SECOND / 2);
        resting.store(true, Ordering::Relaxed);
        std::thread::sleep(SECOND * 2); // long enough for a full socket: it is in the middle of a chunk
        if round == 2 {
            title(&line, "Noon");
            std::thread::sleep(SECOND / 5);
        }
        feed.paused.store(round % 2 == 0, Ordering::Relaxed); // with load, and without
        let mut undecided = line.server.connect();
        undecided.write_all(b"GET /numbers HTTP/1.1\r\nHost: loc").expect("half a request");
        let sent = line.server.metric("flumen_sent_bytes_total", &[]);
        let (before, began) = (line.pid, Instant::now());
        let (status, answer) = line.upgrade();
        assert_eq!((status, answer["listeners"].as_u64()), (200, Some(count as u64)), "{answer}\n{}", line.server.log());
        assert_ne!(line.pid, before);
        eprintln!("upgrade {round}: {answer}, in {:?}", began.elapsed());
        feed.paused.store(false, Ordering::Relaxed);
        resting.store(false, Ordering::Relaxed);
        undecided.write_all(b"alhost\r\n\r\n").expect("the other half");
        assert_eq!(support::Stream::open(undecided).read(100_000).len(), 100_000, "who was asking at the moment is served");
        let heard: Vec<_> = listeners.iter().map(Listener::bytes).collect();
        let go_on = || listeners.iter().zip(&heard).all(|(listener, before)| listener.bytes() > before + 100_000);
        assert!(until(SECOND * 20, go_on), "somebody hears nothing any more; log:\n{}", line.server.log());
        assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &["/numbers"]) == count as f64));
        let newcomers = round as f64;
        assert_eq!(line.server.metric("flumen_listener_joins_total", &["/numbers"]), count as f64 + newcomers, "nobody else is one");
        assert_eq!(line.server.metric("flumen_listener_departures_total", &["/numbers"]), newcomers);
        assert_eq!(line.server.metric("flumen_dropped_chunks_total", &["/numbers"]), 0.0);
        assert_eq!(line.server.metric("flumen_upgrades_total", &["done"]), round as f64);
        assert!(line.server.metric("flumen_sent_bytes_total", &[]) > sent, "counters do not go back");
        let stall = line.server.metric("flumen_upgrade_stall_seconds", &[]);
        assert!(stall > 0.0 && stall < 5.0, "{stall} s");
    }
    let wait = line.server.listen("/numbers").read(1000);
    assert_eq!(wait.len(), 1000, "a newcomer is served");
    going_on.store(false, Ordering::Relaxed);
    feed.stop();
    let lines = compare(listeners);
    assert!(lines > 10_000 * upgrades as u64, "only {lines} lines");
    assert_eq!(line.server.wait(SECOND * 20), Some(0), "the first process has ended in good order");
}

#[test]
fn an_upgrade_that_fails_is_noticed_by_nobody_and_says_why() {
    let (source, raw) = (free_port(), free_port());
    let mut line = Line::start("", &numbers(source, raw));
    let feed = Feed::start(source);
    line.server.await_ready();
    let (going_on, resting) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let kinds = [Kind::Plain, Kind::Raw, Kind::Slow];
    let listeners: Vec<_> = (0..9).map(|i| Listener::start(kinds[i % 3], line.server.port, raw, &going_on, &resting)).collect();
    assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &[]) == 9.0));
    let prepared = "say({'Prepared': {'format': hello['format'], 'version': '9'}})";
    let failures = [
        ("it is missing", String::new(), "cannot start"),
        ("it ends at once", "#!/bin/sh\nexit 3\n".to_owned(), "exit status: 3"),
        (
            "it is of another format",
            fake("say({'Prepared': {'format': 999, 'version': '9.9'}})\ntime.sleep(60)"),
            "flumen 9.9 takes over in format 999",
        ),
        ("it refuses", fake("say({'Refused': {'why': 'the moon is full'}})"), "the moon is full"),
        ("it speaks of something else", fake("say({'Weather': 'fine'})\ntime.sleep(60)"), "makes no sense"),
        ("it dies in the middle", fake(&format!("{prepared}\nhear()\nos._exit(7)")), "exit status: 7"),
        (
            "it dies with everything in its hands",
            fake(&format!("{prepared}\nhear()\nhear()\nsay('Ready')\nhear()\nos._exit(8)")),
            "exit status: 8",
        ),
        ("it hangs in the middle", fake(&format!("{prepared}\nhear()\ntime.sleep(60)")), "does not answer"),
    ];
    let count = failures.len();
    for (what, script, why) in failures {
        line.replace(Some(&script));
        let (status, answer) = line.upgrade();
        assert!(status == 409 && answer["error"].as_str().is_some_and(|error| error.contains(why)), "{what}: {status} {answer}");
        let heard: Vec<_> = listeners.iter().map(Listener::bytes).collect();
        resting.store(false, Ordering::Relaxed);
        let go_on = || listeners.iter().zip(&heard).all(|(listener, before)| listener.bytes() > before + 50_000);
        assert!(until(SECOND * 20, go_on), "{what}: somebody hears nothing any more; log:\n{}", line.server.log());
        resting.store(true, Ordering::Relaxed);
        assert_eq!(line.server.metric("flumen_listeners", &["/numbers"]), 9.0, "{what}");
        assert_eq!(line.server.listen("/numbers").read(1000).len(), 1000, "{what}: newcomers are served");
    }
    assert_eq!(line.server.metric("flumen_upgrades_total", &["failed"]), count as f64);
    assert_eq!(line.server.metric("flumen_source_restarts_total", &["/numbers"]), 0.0, "the source was left alone");
    // One whose configuration is wrong, and in the end one that is right.
    line.replace(None);
    let good = fs::read_to_string(line.server.dir.join("flumen.toml")).expect("the configuration");
    fs::write(line.server.dir.join("flumen.toml"), good.replace("100ms", "5 parsecs")).expect("written");
    let (status, answer) = line.upgrade();
    assert!(status == 409 && answer["error"].as_str().is_some_and(|error| error.contains("parsecs")), "{answer}");
    fs::write(line.server.dir.join("flumen.toml"), good.replace("/numbers", "/other")).expect("written");
    let (status, answer) = line.upgrade();
    assert!(status == 409 && answer["error"].as_str().is_some_and(|error| error.contains("listen to /numbers")), "{answer}");
    fs::write(line.server.dir.join("flumen.toml"), good).expect("written");
    let (status, answer) = line.upgrade();
    assert_eq!(status, 200, "{answer}");
    resting.store(false, Ordering::Relaxed);
    let heard: Vec<_> = listeners.iter().map(Listener::bytes).collect();
    let go_on = || listeners.iter().zip(&heard).all(|(listener, before)| listener.bytes() > before + 50_000);
    assert!(until(SECOND * 20, go_on), "log:\n{}", line.server.log());
    assert_eq!(line.server.metric("flumen_upgrades_total", &["failed"]), (count + 2) as f64, "counters go on");
    going_on.store(false, Ordering::Relaxed);
    feed.stop();
    compare(listeners);
}

/// An encoder that connects again whenever it has been hung up on.
fn encode(port: u16, going_on: &AtomicBool) {
    const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";
    let mut number = 0_u64;
    while going_on.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        let Ok(mut encoder) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        let head = format!("PUT /live HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Type: text/plain\r\nExpect: 100-continue\r\n\r\n");
        if encoder.write_all(head.as_bytes()).is_err() || encoder.read(&mut [0; 1000]).is_err() {
            continue;
        }
        while going_on.load(Ordering::Relaxed) {
            let lines: String = (0..100).map(|i| format!("{:015}\n", number + i)).collect();
            number += 100;
            if encoder.write_all(lines.as_bytes()).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn who_cannot_be_passed_on_is_told_and_encoders_and_every_socket_come_along() {
    let (tls, folder) = (free_port(), std::env::temp_dir().join(format!("flumen-upgrade-keys-{}", std::process::id())));
    fs::create_dir_all(&folder).expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("c.pem"), made.cert.pem())
        .and_then(|()| fs::write(folder.join("k.pem"), made.signing_key.serialize_pem()))
        .expect("written");
    let pair = format!("{{ cert = \"{0}/c.pem\", key = \"{0}/k.pem\" }}", folder.display());
    // Of a user who listens already there may be no second, in this process and in the next.
    fs::write(folder.join("users"), "ada:{SHA}PLzZCtxLGSqHpiWFC38jHK3fDrM=\n").expect("written");
    let ada = "GET /members HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWRhOndvcmQ=\r\n\r\n";
    let members = format!(
        "[[mount]]\npath = \"/members\"\npipeline = \"{}\"\nlisten_auth = {{ htpasswd = \"{}/users\" }}\nmax_listeners_per_user = 1\n",
        "audiotestsrc is-live=true ! lamemp3enc bitrate=64 ! mpegaudioparse",
        folder.display()
    );
    let mounts = format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{tls}\"]\ncertificates = [{pair}]\n[push]\npassword = \"s3cret\"\n[[mount]]\npath = \"/live\"\n{members}"
    );
    let mut line = Line::start("listen = [\"127.0.0.1:{port}\", \"unix:{dir}/door\"]", &mounts);
    let (going_on, port) = (AtomicBool::new(true), line.server.port);
    let is_heard_over_tls = || {
        let url = format!("https://localhost:{tls}/live");
        Command::new("curl").args(["-sk", "--max-time", "60", "-o", "/dev/null", &url]).spawn().expect("curl")
    };
    std::thread::scope(|scope| {
        let encoder = scope.spawn(|| encode(port, &going_on));
        assert!(until(SECOND * 20, || line.server.try_get("/readyz").is_ok()));
        assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &["/live"]) == 1.0), "log:\n{}", line.server.log());
        let path = line.server.dir.join("door");
        let mut inside = std::os::unix::net::UnixStream::connect(&path).expect("the unix socket");
        inside.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut plain = line.server.listen("/live");
        let mut member = line.server.listen_with(ada);
        assert_eq!((member.head.status, line.server.listen_with(ada).head.status), (200, 503));
        let mut secure = is_heard_over_tls();
        assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &["/live"]) == 3.0));
        line.server.signal("-USR2");
        let taken_over = || {
            let log = line.server.log();
            let told = log.lines().find(|line| line.contains("another process has taken over"))?;
            serde_json::from_str::<Value>(told).ok()?["pid"].as_u64()
        };
        assert!(until(SECOND * 30, || taken_over().is_some()), "log:\n{}", line.server.log());
        let pid = taken_over().expect("a number") as u32;
        let mut code = None;
        assert!(until(SECOND * 20, || {
            code = secure.try_wait().expect("curl");
            code.is_some()
        }));
        assert!(code.is_some_and(|code| code.success()), "over TLS it ended in good order");
        assert!(until(SECOND * 5, || line.server.log().contains("shutting_down")));
        assert_eq!(line.server.metric("flumen_listener_departures_total", &["/live", "shutting_down"]), 1.0);
        assert_eq!(line.server.metric("flumen_listeners", &["/live"]), 2.0);
        assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &["/live"]) == 1.0), "the encoder is back");
        let mut heard = vec![0; 500_000];
        inside.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
        inside.read_exact(&mut heard).expect("on the unix socket it goes on");
        assert_eq!(plain.read(500_000).len(), 500_000);
        assert_eq!(member.read(10_000).len(), 10_000);
        assert_eq!(line.server.listen_with(ada).head.status, 503, "who was passed on counts for its user");
        drop(member);
        assert!(until(SECOND * 10, || line.server.listen_with(ada).head.status == 200), "and no longer than it stays");
        assert_eq!(line.server.wait(SECOND * 20), Some(0));
        assert!(path.exists(), "the socket is the new process's");
        std::os::unix::net::UnixStream::connect(&path).expect("somebody listens there");
        let mut again = is_heard_over_tls();
        assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &["/live"]) == 3.0), "a new session over TLS");
        again.kill().and_then(|()| again.wait().map(drop)).expect("killed");
        assert_eq!(line.server.tell("reload").0, Some(0), "the new process is told things");
        line.pid = pid;
        going_on.store(false, Ordering::Relaxed);
        encoder.join().expect("it ends");
    });
    drop(line);
    fs::remove_dir_all(&folder).expect("removed");
}
