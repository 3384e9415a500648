//! What an outsider does who means harm, while others listen: each of those hears every line, in its order and without a long wait.
//!
//! `FLUMEN_ATTACK_LISTENERS` is how many listen (100; `make attacks` asks for 5,000), `FLUMEN_ATTACK_SCALE` multiplies what attackers do (1).

#[path = "attacks/credentials.rs"]
mod credentials;
#[path = "attacks/requests.rs"]
mod requests;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, SockRef, Socket, Type};
use support::numbers::{Crowd, filled, number_at};
use support::{Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// From so many listeners on it is no test on whatever machine there is, but a measurement: then nobody waits for twice the window.
const MANY: usize = 1000;
/// The longest that a listener may wait else: the window is half a second at the most, the rest is for a machine with other things to do.
const STALL_MOST: Duration = Duration::from_secs(4);

fn asked(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn scale() -> usize {
    asked("FLUMEN_ATTACK_SCALE", 1)
}

/// Ends the source when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Lets people listen to `/numbers` while somebody does this, and asks how they fared.
fn attacked(keys: &str, rules: &str, more: &str, attack: impl FnOnce(&Server)) {
    let port = free_port();
    let server = Server::spawn(keys, &format!("{}{more}", filled("/numbers", port, rules)), &[]);
    let source = support::connect_source(port);
    let feeding = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let _stopped = Stop(&feeding); // whatever goes wrong: a scope ends when all its threads have
        // Some 100 kbit/s.
        scope.spawn(|| number_at(source, &feeding, 16, Duration::from_millis(20)));
        server.await_ready();
        let listeners = asked("FLUMEN_ATTACK_LISTENERS", 100);
        let crowd = Crowd::gather(&server, "/numbers", listeners);
        let (began, attacking) = (Instant::now(), AtomicBool::new(true));
        let (outcome, window) = std::thread::scope(|scope| {
            let _over = Stop(&attacking);
            let window = scope.spawn(|| longest_window(&server, &attacking));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&server)));
            attacking.store(false, Ordering::Relaxed);
            (outcome, window.join().expect("no panic"))
        });
        let (before, took) = (crowd.heard(), began.elapsed());
        assert!(until(SECOND * 10, || crowd.heard() > before + listeners as u64 * 50), "the stream goes on; log:\n{}", server.log());
        let verdict = crowd.dismiss();
        feeding.store(false, Ordering::Relaxed);
        if let Err(panic) = outcome {
            eprintln!("---- log of the server ----\n{}", server.log());
            std::panic::resume_unwind(panic);
        }
        eprintln!(
            "{took:.1?}, in which {listeners} listeners heard {} lines at least, and nothing for {:.3?} at most; data waited for up to {:.0} ms",
            verdict.lines,
            verdict.longest,
            window * 1000.0
        );
        let most = if listeners < MANY { STALL_MOST } else { Duration::from_secs_f64(2.0 * window) };
        assert!(verdict.longest < most, "somebody heard nothing for {:?}", verdict.longest);
    });
}

/// The longest that data waited to be sent together while this goes on, as far as it can be asked for: in seconds.
fn longest_window(server: &Server, going_on: &AtomicBool) -> f64 {
    let mut longest: f64 = 0.0;
    while going_on.load(Ordering::Relaxed) {
        // An attack may keep us out as well.
        if let Ok(page) = server.try_get("/metrics") {
            let text = page.body_text();
            let windows = text.lines().filter(|line| line.starts_with("flumen_coalesce_window_seconds{"));
            longest = windows.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(longest, f64::max);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    longest
}

/// A connection from another address of this machine, so that what is held against an attacker is not held against others.
fn from_elsewhere(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("bound");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], server.port)).into()).expect("connected");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    socket
}

/// Closes with a reset, as a process that is killed with data unread does.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("set");
}

/// The statuses of all the answers on a connection, up to its end.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
}

#[test]
fn lists_that_are_asked_for_and_never_read_take_no_memory() {
    attacked("header_timeout = \"2s\"", "", "", |server| {
        let before = server.rss_kib();
        let all: Vec<_> = (0..100 * scale())
            .map(|i| {
                let mut socket = from_elsewhere(server);
                SockRef::from(&socket).set_recv_buffer_size(4096).expect("a small buffer");
                let page = ["/api/v1/mounts/numbers/listeners", "/metrics", "/status-json.xsl"][i % 3];
                socket.write_all(format!("GET {page} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
                socket
            })
            .collect();
        let mut most = 0;
        let gone = until(SECOND * 60, || {
            most = most.max(server.rss_kib());
            server.metric("flumen_connections", &["guest"]) == 1.0
        });
        assert!(gone, "{} are there", server.metric("flumen_connections", &["guest"]));
        let grown = most.saturating_sub(before);
        eprintln!("{grown} KiB more at the most");
        assert!(grown < 160 * 1024, "{grown} KiB more");
        drop(all);
    });
}

#[test]
fn readers_that_take_nothing_or_a_byte_a_second_are_removed_with_their_word() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"2s\"\nburst = \"none\"";
    attacked("", rules, "", |server| {
        let count = 50 * scale();
        let lazy = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(2048).expect("a small buffer");
            socket.connect(&SocketAddr::from(([127, 0, 0, 1], server.port)).into()).expect("connected");
            let mut socket = TcpStream::from(socket);
            socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n").expect("sent");
            socket
        };
        let nothing: Vec<_> = (0..count).map(|_| lazy()).collect();
        let mut dripping: Vec<_> = (0..count).map(|_| lazy()).collect();
        let removed = || server.metric("flumen_listener_departures_total", &["too_slow"]);
        let gone = until(SECOND * 30, || {
            dripping.iter_mut().for_each(|socket| drop(socket.read(&mut [0])));
            std::thread::sleep(SECOND);
            removed() == (2 * count) as f64
        });
        assert!(gone, "{} of {} are gone", removed(), 2 * count);
        drop(nothing);
    });
}

#[test]
fn storms_of_resets_leave_exact_counters_and_no_memory() {
    attacked("", "", "", |server| {
        let round = |count: usize| {
            for i in 0..count {
                let mut socket = from_elsewhere(server);
                reset(&socket);
                // At every stage of a connection's life.
                let _ = match i % 4 {
                    0 => Ok(()),
                    1 => socket.write_all(b"GET /num"),
                    2 => socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n"),
                    _ => socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n").and_then(|()| socket.read(&mut [0; 100]).map(drop)),
                };
            }
            assert!(until(SECOND * 20, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
        };
        let listeners = server.metric("flumen_listeners", &[]);
        round(1000);
        let memory = server.rss_kib();
        (0..3 * scale()).for_each(|_| round(1000));
        assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) == listeners));
        let (joins, left) = (server.metric("flumen_listener_joins_total", &[]), server.metric("flumen_listener_departures_total", &[]));
        assert_eq!(joins - left, listeners, "everybody who came has left, once");
        let grown = server.rss_kib().saturating_sub(memory);
        assert!(grown < 8 * 1024, "{grown} KiB more than {memory} KiB after {} more", 3000 * scale());
    });
}

#[test]
fn who_comes_again_and_again_to_a_mount_that_is_dead_costs_little() {
    attacked("header_timeout = \"1s\"", "", "[[mount]]\npath = \"/dead\"\n", |server| {
        let mut waiting = Vec::new();
        for _ in 0..10 * scale() {
            waiting.extend((0..30).map(|_| {
                let mut socket = from_elsewhere(server);
                socket.write_all(b"GET /dead HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
                socket
            }));
            std::thread::sleep(Duration::from_millis(50));
        }
        for mut socket in waiting {
            let mut answer = String::new();
            let _ = socket.read_to_string(&mut answer);
            assert!(answer.starts_with("HTTP/1.1 503") && answer.to_ascii_lowercase().contains("retry-after:"), "{answer}");
        }
        assert!(server.log().len() < 100_000, "{} bytes of log", server.log().len());
    });
}

#[test]
fn of_a_hundred_who_want_the_last_place_exactly_one_gets_it() {
    attacked(
        "",
        "",
        "[[mount]]\npath = \"/small\"\npipeline = \"audiotestsrc is-live=true ! vorbisenc ! oggmux\"\nmax_listeners = 1\n",
        |server| {
            let mut sockets: Vec<_> = (0..100).map(|_| from_elsewhere(server)).collect();
            sockets.iter_mut().for_each(|socket| socket.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent"));
            let answered: Vec<_> = sockets.into_iter().map(Stream::open).collect();
            let told = |status: u16| answered.iter().filter(|stream| stream.head.status == status).count();
            assert_eq!((told(200), told(503)), (1, 99));
            assert_eq!(server.metric("flumen_refusals_total", &["/small", "full"]), 99.0);
        },
    );
}

#[test]
fn handshakes_that_are_begun_and_left_disturb_nobody() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = std::env::temp_dir().join(format!("flumen-attacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let port = free_port();
    let folder_text = folder.display();
    let tls = format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{port}\"]\ncertificates = [{{ cert = \"{folder_text}/cert.pem\", key = \"{folder_text}/key.pem\" }}]\n"
    );
    let half_open = 200 * scale();
    attacked(&format!("header_timeout = \"2s\"\nmax_connections = {}", 12_000 + half_open), "", &tls, |server| {
        let mut hello = Vec::new();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(RootCertStore::empty());
        let mut client =
            ClientConnection::new(Arc::new(config.with_no_client_auth()), "localhost".try_into().expect("a name")).expect("a client");
        client.write_tls(&mut hello).expect("a greeting");
        let held: Vec<_> = (0..half_open)
            .map(|i| {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
                let _ = socket.write_all(&hello[..[0, 1, 5, hello.len() / 2, hello.len()][i % 5]]); // it may be closed again
                socket
            })
            .collect();
        assert_eq!(server.get("/healthz").status, 200, "who speaks properly is served meanwhile");
        let over =
            || ["timeout", "refused", "failed"].iter().map(|result| server.metric("flumen_tls_handshakes_total", &[result])).sum::<f64>();
        assert!(until(SECOND * 20, || over() >= half_open as f64), "{} of {half_open} are over", over());
        assert!(until(SECOND * 5, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
        drop(held);
    });
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn five_who_scrape_and_one_who_lists_all_the_time_are_not_felt() {
    attacked("", "", "", |server| {
        let going_on = AtomicBool::new(true);
        let slowest = std::thread::scope(|scope| {
            let ask = |path: &'static str| {
                let (mut longest, mut asked) = (Duration::ZERO, 0);
                while going_on.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    assert_eq!(server.get(path).status, 200);
                    longest = longest.max(began.elapsed());
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                assert!(asked > 10, "{path}: {asked}");
                longest
            };
            let askers: Vec<_> = ["/metrics"; 5]
                .into_iter()
                .chain(["/admin/listclients?mount=/numbers", "/api/v1/mounts/numbers/listeners"])
                .map(|path| scope.spawn(move || ask(path)))
                .collect();
            std::thread::sleep(SECOND * 4);
            going_on.store(false, Ordering::Relaxed);
            askers.into_iter().map(|asker| asker.join().expect("answered")).max().expect("one")
        });
        assert!(slowest < SECOND * 2, "an answer took {slowest:?}");
        assert!(server.metric("flumen_listeners", &[]) >= 100.0);
    });
}
