//! What belongs to no listener and no mount goes on in the next process, too: bans, counters, orders, what somebody has yet to be told.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::line::Line;
use support::{MP3, Server, body_of_request, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

/// A program elsewhere that is told things by POST; it takes what `listener_add` asks for, and other things only while it is well.
struct Elsewhere {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    is_well: Arc<AtomicBool>,
}

impl Elsewhere {
    fn start(is_well: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (heard, is_well) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(is_well)));
        let (told, well) = (Arc::clone(&heard), Arc::clone(&is_well));
        std::thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                let (told, well) = (Arc::clone(&told), Arc::clone(&well));
                std::thread::spawn(move || serve(peer, &told, &well));
            }
        });
        Self { port, heard, is_well }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Those that it has taken with this in them.
    fn taken(&self, part: &str) -> Vec<String> {
        self.heard.lock().expect("no panic").iter().filter(|body| body.contains(part)).cloned().collect()
    }
}

fn serve(mut peer: TcpStream, told: &Mutex<Vec<String>>, is_well: &AtomicBool) {
    while let Some(body) = body_of_request(&mut peer) {
        let takes = is_well.load(Ordering::Relaxed) || body.contains("action=listener_add");
        let status = if takes { "200 OK" } else { "503 Busy" };
        if takes {
            told.lock().expect("no panic").push(body);
        }
        if write!(peer, "HTTP/1.1 {status}\r\nicecast-auth-user: 1\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The status that somebody at this address is answered with.
fn asked_from(address: &str, server: &Server) -> String {
    let out = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "--interface", address, &server.url("/healthz")])
        .output()
        .expect("curl");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn json(server: &Server, path: &str) -> Value {
    let answer = server.get(path);
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body_text()))
}

/// The first process has ended, and in good order.
fn old_one_ends(line: &mut Line) {
    assert_eq!(line.server.wait(SECOND * 40), Some(0), "log:\n{}", line.server.log());
}

// ---- bans ----

#[test]
fn bans_hold_in_the_next_process_wherever_they_are_kept_and_until_they_end() {
    for state_dir in ["", "state_dir = \"{dir}\""] {
        let mut line = Line::start(state_dir, MP3);
        line.server.await_ready();
        let ban = |server: &Server, address: &str, more: &str| {
            server.request("POST", &format!("/api/v1/bans?address={address}&reason=a+crowd{more}")).map(|answer| answer.status)
        };
        assert_eq!(ban(&line.server, "127.0.0.2", "&duration=24h").expect("an answer"), 201);
        assert_eq!(ban(&line.server, "127.0.0.3", "&duration=20s").expect("an answer"), 201);
        assert_eq!(ban(&line.server, "127.0.0.4", "").expect("an answer"), 201);
        assert_eq!(line.server.request("DELETE", "/api/v1/bans?address=127.0.0.4").expect("an answer").status, 204);
        let before = json(&line.server, "/api/v1/bans");
        assert_eq!(before.as_array().map(Vec::len), Some(2), "{before}");
        // Some are made while the new process prepares, and while it takes over: they are made, or it is said that they are not.
        let (port, upgraded) = (line.server.port, AtomicBool::new(false));
        let made = std::thread::scope(|scope| {
            let banning = scope.spawn(|| {
                let mut made = Vec::new();
                for number in 0_u32.. {
                    if upgraded.load(Ordering::Relaxed) {
                        break;
                    }
                    let address = format!("198.51.{}.{}", number / 256, number % 256);
                    let request = format!("POST /api/v1/bans?address={address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                    let mut answer = String::new();
                    let told = TcpStream::connect(("127.0.0.1", port))
                        .and_then(|mut socket| socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_string(&mut answer)));
                    if told.is_ok() && answer.starts_with("HTTP/1.1 201") {
                        made.push(address);
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
                made
            });
            let (status, answer) = line.upgrade();
            upgraded.store(true, Ordering::Relaxed);
            assert_eq!(status, 200, "{answer}");
            banning.join().expect("no panic")
        });
        assert!(made.len() > 5, "{made:?}");
        let after = json(&line.server, "/api/v1/bans");
        let listed: BTreeMap<_, _> =
            after.as_array().expect("a list").iter().map(|ban| (ban["address"].as_str().expect("an address").to_owned(), ban)).collect();
        for ban in before.as_array().expect("a list") {
            let now = listed.get(ban["address"].as_str().expect("an address"));
            // A file has whole seconds.
            let second = |time: &Value| time.as_str().map(|time| time.get(..19).unwrap_or(time).to_owned());
            assert!(
                now.is_some_and(|now| now["reason"] == ban["reason"] && second(&now["until"]) == second(&ban["until"])),
                "{ban} {after}"
            );
        }
        let lost: Vec<_> = made.iter().filter(|address| !listed.contains_key(&format!("{address}/32"))).collect();
        assert!(lost.is_empty(), "{lost:?} of {made:?}");
        assert!(listed.keys().all(|address| !address.starts_with("127.0.0.4")), "what was lifted stays lifted: {after}");
        assert_eq!((asked_from("127.0.0.2", &line.server), asked_from("127.0.0.5", &line.server)), ("403".to_owned(), "200".to_owned()));
        assert!(until(SECOND * 30, || asked_from("127.0.0.3", &line.server) == "200"), "one that ends does");
        old_one_ends(&mut line);
        assert_eq!(ban(&line.server, "192.0.2.77", "").expect("an answer"), 201, "and the new process makes others");
        if !state_dir.is_empty() {
            let kept = || fs::read_to_string(line.server.dir.join("bans.json")).unwrap_or_default();
            let all = || made.iter().map(String::as_str).chain(["127.0.0.2", "192.0.2.77"]).all(|address| kept().contains(address));
            assert!(until(SECOND * 10, || all() && !kept().contains("127.0.0.4")), "{}", kept());
        }
    }
}

// ---- what is counted ----

/// Every series that only grows, with its value.
fn growing(server: &Server) -> BTreeMap<String, f64> {
    let text = server.get("/metrics").body_text();
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let grows = |name: &str| ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
    series
        .filter(|(series, _)| grows(series.split('{').next().unwrap_or_default()))
        .map(|(series, value)| (series.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// What begins anew with each process, and why it may: the time that this process has used, as Prometheus defines it, and how late its
/// own threads were.
const OF_THE_PROCESS: [&str; 4] = [
    "process_cpu_seconds_total",
    "flumen_runtime_lag_seconds_bucket",
    "flumen_runtime_lag_seconds_count",
    "flumen_runtime_lag_seconds_sum",
];

#[test]
fn no_counter_begins_anew_and_the_server_was_started_when_its_first_process_was() {
    let (proxied, tls, source) = (free_port(), free_port(), free_port());
    let (hook, backend) = (Elsewhere::start(false), Elsewhere::start(true));
    let peer = Server::start_with("max_listeners = 50\nmax_connections = 100", MP3);
    let server = format!(
        "max_listeners = 4\nmax_connections = 50\nredirect_peers = [\"{}\"]\nredirect_from = \"50%\"\nproxy_protocol = [\"127.0.0.1:{proxied}\"]",
        peer.url("")
    );
    let asked = MP3.replace("/radio.mp3", "/asked.mp3");
    let mounts = format!(
        "[log]\naccess = \"/dev/full\"\n[metrics]\nicecast_exporter = true\n[[webhook]]\nurl = \"{}\"\nevents = [\"listener_joined\", \"listener_left\"]\n\
         [[server.tls]]\nlisten = [\"127.0.0.1:{tls}\"]\ncertificates = [{{ cert = \"{{dir}}/c.pem\", key = \"{{dir}}/k.pem\" }}]\n\
         {MP3}{asked}listen_auth = {{ url = \"{1}\", remove_url = \"{1}\" }}\n\
         [[mount]]\npath = \"/raw\"\npipeline = \"tcpserversrc host=127.0.0.1 port={source}\"\ncontent_type = \"text/plain\"\n",
        hook.url(),
        backend.url()
    );
    let keys = std::env::temp_dir().join(format!("flumen-upgrade-house-{}", std::process::id()));
    fs::create_dir_all(&keys).expect("a folder");
    let certify = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let written = fs::write(keys.join("c.pem"), made.cert.pem());
        written.and_then(|()| fs::write(keys.join("k.pem"), made.signing_key.serialize_pem())).expect("written");
    };
    certify();
    let mut line = Line::start(&server, &mounts.replace("{dir}", &keys.to_string_lossy()));
    let up = |server: &Server| server.metric("flumen_source_up", &["mp3"]) == 2.0;
    assert!(until(SECOND * 30, || line.server.try_get("/metrics").is_ok() && up(&line.server)), "log:\n{}", line.server.log());
    // Something of everything.
    drop(line.server.listen("/asked.mp3"));
    let _here = [line.server.listen("/radio.mp3"), line.server.listen("/radio.mp3")];
    assert!(until(SECOND * 20, || line.server.listen("/radio.mp3").head.status == 302), "log:\n{}", line.server.log());
    assert_eq!(line.server.request("POST", "/api/v1/bans?address=127.0.0.9").expect("an answer").status, 201);
    assert_eq!(asked_from("127.0.0.9", &line.server), "403");
    let mut told = TcpStream::connect(("127.0.0.1", proxied)).expect("connected");
    told.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /healthz HTTP/1.0\r\n\r\n").expect("sent");
    told.read_to_end(&mut Vec::new()).expect("an answer");
    std::thread::sleep(SECOND * 3); // a certificate that is as old as the server has not changed
    certify();
    let counted = [
        ("flumen_proxy_headers_total", ""),
        ("flumen_refusals_total", "reason=\"banned\""),
        ("flumen_peer_redirects_total", ""),
        ("flumen_tls_certificate_reloads_total", "ok"),
        ("flumen_auth_requests_total", "granted"),
        ("flumen_auth_notices_total", "delivered"),
        ("flumen_log_dropped_total", "access"),
    ];
    for (name, label) in counted {
        let grows = || line.server.metric(name, &[label]) >= 1.0;
        assert!(until(SECOND * 20, grows), "{name} is not counted; log:\n{}", line.server.log());
    }
    let events = line.server.metric("flumen_listener_joins_total", &[]) + line.server.metric("flumen_listener_departures_total", &[]);
    assert!(events >= 4.0, "{events} events, and the hook takes none");
    let started = |server: &Server| {
        let document = json(server, "/status-json.xsl")["icestats"]["server_start_iso8601"].clone();
        (server.metric("flumen_start_time_seconds", &[]), server.metric("icecast_server_start", &[]), document)
    };
    let since = started(&line.server);
    assert!(since.0 > 1e9 && since.2.is_string(), "{since:?}");
    let process = line.server.metric("process_start_time_seconds", &[]);
    for round in 1..=2 {
        std::thread::sleep(SECOND);
        let before = growing(&line.server);
        assert!(before.len() > 100, "{before:?}");
        let (status, answer) = line.upgrade();
        assert_eq!(status, 200, "{answer}");
        assert!(until(SECOND * 20, || line.server.metric("flumen_upgrades_total", &["done"]) == f64::from(round)));
        let after = growing(&line.server);
        for (series, value) in &before {
            let name = series.split('{').next().unwrap_or_default();
            if !OF_THE_PROCESS.contains(&name) {
                let now = after.get(series).unwrap_or_else(|| panic!("{series} is gone after upgrade {round}"));
                assert!(now >= value, "{series} was {value} and is {now} after upgrade {round}");
            }
        }
        assert_eq!(started(&line.server), since, "an upgrade is no start");
        if round == 1 {
            old_one_ends(&mut line);
            // It has tried once more at its end, has given up, and has told of that.
            let settled = || line.server.metric("flumen_webhook_events_total", &[]) >= events;
            assert!(until(SECOND * 10, settled), "{events}: {:?}; log:\n{}", growing(&line.server), line.server.log());
        }
    }
    assert!(line.server.metric("process_start_time_seconds", &[]) > process, "it is another process");
    fs::remove_dir_all(&keys).expect("removed");
}

// ---- what somebody has yet to be told ----

#[test]
fn a_backend_that_is_down_during_an_upgrade_hears_afterwards_who_has_left() {
    let (tls, backend) = (free_port(), Elsewhere::start(false));
    let keys = std::env::temp_dir().join(format!("flumen-upgrade-letters-{}", std::process::id()));
    fs::create_dir_all(&keys).expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(keys.join("c.pem"), made.cert.pem())
        .and_then(|()| fs::write(keys.join("k.pem"), made.signing_key.serialize_pem()))
        .expect("written");
    let mounts = format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{tls}\"]\ncertificates = [{{ cert = \"{0}/c.pem\", key = \"{0}/k.pem\" }}]\n\
         {MP3}listen_auth = {{ url = \"{1}\", remove_url = \"{1}\" }}\n",
        keys.display(),
        backend.url()
    );
    let mut line = Line::start("", &mounts);
    line.server.await_ready();
    let listen = |agent: &str| {
        let stream = line.server.listen_with(&format!("GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n"));
        assert_eq!(stream.head.status, 200);
        stream
    };
    let stays = listen("stays");
    (1..=3).for_each(|number| drop(listen(&format!("gone-{number}"))));
    let url = format!("https://localhost:{tls}/radio.mp3");
    let mut secure = Command::new("curl").args(["-sk", "-A", "secure", "--max-time", "60", "-o", "/dev/null", &url]).spawn().expect("curl");
    assert!(until(SECOND * 10, || backend.taken("action=listener_add").len() == 5), "{:?}", backend.taken(""));
    assert!(until(SECOND * 10, || line.server.metric("flumen_listeners", &[]) == 2.0));
    std::thread::sleep(SECOND);
    let (status, answer) = line.upgrade();
    assert_eq!((status, &answer["left"]), (200, &1.into()), "{answer}");
    assert!(secure.wait().expect("it ends").success(), "over TLS it ended in good order");
    old_one_ends(&mut line);
    assert_eq!(backend.taken("action=listener_remove").len(), 0, "it has heard nothing yet");
    backend.is_well.store(true, Ordering::Relaxed);
    let told = || backend.taken("action=listener_remove");
    assert!(until(SECOND * 60, || told().len() >= 4), "{:?}; log:\n{}", told(), line.server.log());
    drop(stays);
    assert!(until(SECOND * 60, || told().len() >= 5), "{:?}", told());
    std::thread::sleep(SECOND);
    // Each client that was counted in is counted out, once.
    let clients = |action: &str| {
        let field = |body: &String| body.split('&').find(|field| field.starts_with("client=")).map(str::to_owned).expect("a number");
        let mut clients: Vec<_> = backend.taken(action).iter().map(field).collect();
        clients.sort();
        clients
    };
    assert_eq!(clients("action=listener_remove"), clients("action=listener_add"));
    assert_eq!(line.server.metric("flumen_auth_notices_total", &["delivered"]), 5.0);
    assert_eq!(line.server.metric("flumen_auth_notices_total", &["failed"]), 0.0, "none was given up");
    fs::remove_dir_all(&keys).expect("removed");
}

// ---- what was ordered ----

#[test]
fn a_fallback_that_an_operator_has_ordered_goes_along() {
    let other = MP3.replace("/radio.mp3", "/other.mp3");
    let mut line = Line::start("", &format!("{MP3}{other}"));
    line.server.await_ready();
    let ordered = line.server.get("/admin/fallbacks?mount=/radio.mp3&fallback=/other.mp3");
    assert_eq!(ordered.status, 200, "{}", ordered.body_text());
    let told = line.server.log();
    let order = told.lines().find(|line| line.contains("an order")).unwrap_or_else(|| panic!("{told}"));
    assert!(order.contains("\"status\":200") && order.contains("\"done\":true"), "{order}");
    let _listener = line.server.listen("/radio.mp3");
    for _ in 0..2 {
        let (status, answer) = line.upgrade();
        assert_eq!(status, 200, "{answer}");
    }
    assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &[]) == 2.0), "log:\n{}", line.server.log());
    assert_eq!(line.server.request("POST", "/api/v1/mounts/radio.mp3/source/stop").expect("an answer").status, 204);
    let moved = || line.server.metric("flumen_listeners", &["/other.mp3"]) == 1.0;
    assert!(until(SECOND * 20, moved), "log:\n{}", line.server.log());
}
