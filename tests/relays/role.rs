//! What a relay may that is known as one, what it may not, and what the others may: every role at every door. And whole servers that are
//! mirrored by it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::support::{MP3, Response, Server, until};
use super::{SECOND, head};

const ROLES: &str = "[admin]\npassword = \"s3cret\"\n[relay]\npassword = \"r3lay\"\n[push]\npassword = \"p4sh\"\n";

fn field(login: &str) -> String {
    if login.is_empty() { String::new() } else { format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(login)) }
}

/// Asks from an address of its own, so that nobody waits for what another got wrong.
fn ask(server: &Server, number: usize, method: &str, path: &str, fields: &str) -> Response {
    let from = format!("X-Forwarded-For: 198.51.{}.{}\r\n", number / 250, number % 250 + 1);
    let length = if method == "GET" || method == "HEAD" { "" } else { "Content-Length: 0\r\n" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{from}{fields}{length}\r\n");
    let mut socket = server.connect();
    std::io::Write::write_all(&mut socket, request.as_bytes()).expect("sent");
    let text = head(&mut socket);
    let mut body = Vec::new();
    if !text.contains("application/x-flumen-relay") && !text.contains("audio/mpeg") && !text.contains("text/event-stream") {
        let _ = std::io::Read::read_to_end(&mut socket, &mut body); // a reset after the answer is an end as well
    }
    let whole = [text.as_bytes(), &body].concat();
    Response::parse(&whole).unwrap_or_else(|| panic!("{method} {path}: {text}"))
}

/// A rule that nobody can decide: a backend that does not answer. Whoever it was asked about is among what comes in there.
fn backend() -> (String, TcpListener) {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    door.set_nonblocking(true).expect("set");
    let rule = format!("listen_auth = {{ url = \"http://{}/\", timeout = \"100ms\" }}\n", door.local_addr().expect("an address"));
    (rule, door)
}

#[test]
fn every_role_may_at_every_door_what_the_table_says() {
    let (rule, door) = backend();
    let live = "[[mount]]\npath = \"/live.mp3\"\n";
    let hidden = MP3.replace("/radio.mp3", "/hidden.mp3");
    let mounts = format!("{ROLES}{MP3}{rule}{hidden}hidden = true\n{live}");
    let server = Server::spawn("trusted_proxies = [\"127.0.0.1\"]", &mounts, &[]);
    let up = || server.metric("flumen_source_up", &[]) == 2.0;
    assert!(until(SECOND * 30, || server.try_get("/healthz").is_ok() && up()), "{}", server.log());
    const FRAMES: &str = "Flumen-Relay: 1\r\n";
    let mut number = 0;
    //                                                          nobody, wrong, relay, source, admin
    for (method, path, fields, want) in [
        ("GET", "/admin/streamlist.txt", "", [401, 401, 200, 401, 200]),
        ("GET", "/admin/streamlist", "", [401, 401, 200, 401, 200]),
        ("HEAD", "/admin/streamlist.txt", "", [401, 401, 200, 401, 200]),
        ("GET", "/radio.mp3", "", [503, 401, 200, 503, 200]),
        ("HEAD", "/radio.mp3", "", [503, 401, 200, 503, 200]),
        ("GET", "/radio.mp3", FRAMES, [503, 401, 200, 503, 200]),
        ("GET", "/radio.mp3.m3u", "", [503, 401, 200, 503, 200]),
        ("GET", "/hidden.mp3", FRAMES, [200; 5]), // everybody may
        ("GET", "/admin/publicstats", "", [200; 5]),
        ("GET", "/status-json.xsl", "", [200; 5]),
        ("GET", "/healthz", "", [200; 5]),
        ("GET", "/api/v1/mounts", "", [200, 401, 200, 401, 200]),
        ("GET", "/api/v1/mounts/radio.mp3/listeners", "", [200, 401, 200, 401, 200]),
        // And nothing else.
        ("GET", "/admin/streamlist.xsl", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/streamlist.txt?mount=/radio.mp3", "", [401, 401, 403, 401, 400]),
        ("GET", "/admin/streamlist.txt?mount=/live.mp3", "", [401, 401, 403, 400, 400]), // Icecast has the same words for a source
        ("GET", "/admin/", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/stats", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/stats?mount=/radio.mp3", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/listmounts", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/listclients?mount=/radio.mp3", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/killclient?mount=/radio.mp3&id=999999", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/metadata?mount=/radio.mp3&mode=updinfo&song=x", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/metadata?mount=/live.mp3&mode=updinfo&song=x", "", [401, 401, 403, 400, 400]),
        ("GET", "/admin/moveclients?mount=/radio.mp3&destination=/hidden.mp3", "", [401, 401, 403, 401, 200]),
        ("GET", "/admin/fallbacks?mount=/hidden.mp3&fallback=/radio.mp3", "", [401, 401, 403, 401, 200]),
        ("GET", "/console", "", [401, 401, 403, 401, 200]),
        ("GET", "/api/v1/health", "", [401, 401, 403, 401, 200]),
        ("GET", "/api/v1/events", "", [401, 401, 403, 401, 200]),
        ("GET", "/api/v1/bans", "", [401, 401, 403, 401, 200]),
        ("POST", "/api/v1/bans?address=192.0.2.1", "", [401, 401, 403, 401, 201]),
        ("POST", "/api/v1/mounts/radio.mp3/metadata?title=x", "", [401, 401, 403, 401, 204]),
        ("POST", "/api/v1/mounts/radio.mp3/listeners/move?to=/hidden.mp3", "", [401, 401, 403, 401, 200]),
        ("DELETE", "/api/v1/mounts/radio.mp3/listeners/999999", "", [401, 401, 403, 401, 404]),
        ("DELETE", "/api/v1/mounts/radio.mp3/listeners?user=relay", "", [401, 401, 403, 401, 200]),
        ("DELETE", "/api/v1/mounts/live.mp3/source", "", [401, 401, 403, 401, 409]),
        ("POST", "/api/v1/mounts/live.mp3/source/stop", "", [401, 401, 403, 401, 409]),
        ("POST", "/api/v1/reload", "", [401, 401, 403, 401, 200]),
        ("PUT", "/live.mp3", "", [401, 401, 401, 200, 401]),
    ] {
        for (login, want) in ["", "relay:wrong", "relay:r3lay", "source:p4sh", "admin:s3cret"].into_iter().zip(want) {
            number += 1;
            let answer = ask(&server, number, method, path, &(field(login) + fields));
            let body = answer.body_text();
            assert_eq!(answer.status, want, "{method} {path} {fields}as {login:?}: {}\n{body}", answer.head);
            if (login, want) == ("relay:r3lay", 403) && method != "HEAD" {
                assert!(body.contains("/admin/streamlist"), "it is told what it may: {body}");
            }
            if path.starts_with("/admin/streamlist") && login == "relay:r3lay" {
                assert!(!body.contains("/hidden.mp3"), "{path}: what is hidden is so for relays: {body}");
            }
            if want == 200 && fields == FRAMES {
                assert_eq!(answer.header("content-type"), Some("application/x-flumen-relay"), "{path} as {login:?}");
            }
            if want == 200 && path.starts_with("/api/v1/mounts") && method == "GET" {
                let sees = ["198.51.", "/hidden.mp3"].iter().any(|secret| body.contains(secret));
                assert!(login == "admin:s3cret" || !sees, "{path} as {login:?}: {body}");
            }
        }
    }
    let list = ask(&server, 9000, "GET", "/admin/streamlist.txt", &field("relay:r3lay"));
    assert_eq!(list.body_text(), "/radio.mp3\r\n");
    // The backend was asked about those who are nobody here, and never about the relay or the operator.
    let mut asked = 0;
    while let Ok((mut peer, _)) = door.accept() {
        peer.set_nonblocking(false).expect("set");
        peer.set_read_timeout(Some(SECOND)).expect("set");
        let mut question = String::new();
        let _ = std::io::Read::read_to_string(&mut peer, &mut question);
        assert!(!question.contains("user=relay") && !question.contains("user=admin"), "{question}");
        asked += 1;
    }
    assert!(asked > 0, "it was asked");
}

#[test]
fn who_says_to_be_the_relay_on_this_machine_is_no_more_than_that() {
    // Without a password of [admin] whoever asks from here is an operator.
    let server = Server::start(&format!("[relay]\npassword = \"r3lay\"\n{MP3}"));
    for (login, stats, list) in [("", 200, 200), ("relay:r3lay", 403, 200), ("relay:wrong", 401, 401)] {
        for (path, want) in [("/admin/stats", stats), ("/admin/streamlist.txt", list)] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{}\r\n", field(login));
            let answer = Response::parse(server.ask(request).as_bytes()).expect("HTTP");
            assert_eq!(answer.status, want, "{path} as {login:?}: {}", answer.body_text());
        }
    }
}

#[test]
fn who_guesses_the_relays_password_waits_at_every_door_and_nobody_else_does() {
    let (rule, _door) = backend();
    let server = Server::start_with("trusted_proxies = [\"127.0.0.1\"]", &format!("{ROLES}{MP3}{rule}"));
    let from = |number, path: &str, login: &str| ask(&server, number, "GET", path, &field(login));
    for (guess, path) in ["/admin/streamlist.txt", "/radio.mp3", "/radio.mp3.m3u", "/api/v1/mounts", "/radio.mp3"].into_iter().enumerate() {
        assert_eq!(from(1, path, &format!("relay:guess{guess}")).status, 401, "{path}");
    }
    for path in ["/admin/streamlist.txt", "/radio.mp3"] {
        let answer = from(1, path, "relay:r3lay");
        assert!(answer.status == 429 && answer.header("retry-after").is_some(), "{path}: {}", answer.head);
        assert_eq!(from(2, path, "relay:r3lay").status, 200, "{path}");
        assert_eq!(
            from(1, path, "admin:s3cret").status,
            200,
            "{path}: the operator behind the same address as an edge with an old password"
        );
    }
    for guess in 0..5 {
        assert_eq!(from(3, "/admin/stats", &format!("admin:guess{guess}")).status, 401);
    }
    for (path, login, want) in
        [("/admin/stats", "admin:s3cret", 429), ("/radio.mp3", "admin:s3cret", 429), ("/radio.mp3", "relay:r3lay", 200)]
    {
        assert_eq!(from(3, path, login).status, want, "{path} as {login}");
    }
    assert!(until(SECOND * 10, || from(1, "/admin/streamlist.txt", "relay:r3lay").status == 200), "it waits, and not for ever");
}

#[test]
fn no_server_that_is_asked_can_send_this_one_to_itself_as_an_operator() {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let remote = door.local_addr().expect("an address");
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let port = Arc::<AtomicU16>::default();
    let (told, ours) = (Arc::clone(&asked), Arc::clone(&port));
    std::thread::spawn(move || {
        for peer in door.incoming() {
            let mut peer = peer.expect("a peer");
            told.lock().expect("no panic").push(head(&mut peer));
            let order = format!("http://127.0.0.1:{}/admin/killsource?mount=/radio.mp3", ours.load(Ordering::Relaxed));
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {order}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = std::io::Write::write_all(&mut peer, answer.as_bytes());
        }
    });
    // Whatever asks others: a relay, a mirror, where newcomers are sent, a directory. The password is no help: loopback needs none.
    let sections = format!(
        "[admin]\npassword = \"s3cret\"\n[[mirror]]\nfrom = \"http://{remote}\"\ninterval = \"1s\"\n\
         [[directory]]\nurl = \"http://{remote}/yp\"\nserver = \"http://radio.example:8000\"\n\
         {MP3}public = true\n[[mount]]\npath = \"/pulled\"\nrelay = [\"http://{remote}/pulled\"]\n"
    );
    let server = Server::spawn(&format!("redirect_peers = [\"http://{remote}\"]"), &sections, &[]);
    port.store(server.port, Ordering::Relaxed);
    let times = |what: &str| asked.lock().expect("no panic").iter().filter(|request| request.contains(what)).count();
    let wanted = ["GET /pulled ", "GET /status-json.xsl ", "POST /yp "];
    assert!(until(SECOND * 30, || wanted.iter().all(|what| times(what) > 0)), "{:?}\n{}", asked.lock(), server.log());
    assert!(until(SECOND * 30, || times("GET /status-json.xsl ") > 3), "{}", server.log());
    assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["/radio.mp3"]) == 1.0), "{}", server.log());
    let stays = !until(SECOND * 2, || server.log().contains("removes the source"));
    assert!(stays && server.metric("flumen_source_up", &["/radio.mp3"]) == 1.0, "{}", server.log());
}

fn mirroring(origin: u16, login: &str) -> Server {
    let mirror = format!("[[mirror]]\nfrom = \"http://127.0.0.1:{origin}\"\n{login}interval = \"1s\"\n");
    let edge = Server::spawn("", &format!("[mount_defaults]\nburst = \"1s\"\n{mirror}"), &[]);
    assert!(until(SECOND * 20, || edge.try_get("/healthz").is_ok()), "{}", edge.log());
    edge
}

#[test]
fn another_server_mirrors_all_of_it_by_the_relays_password_and_a_new_one_counts_at_once() {
    let (rule, _door) = backend();
    // Of those who listen, which servers with one name do not; and whoever asks below does so from elsewhere, for these two get things wrong.
    let keys = "max_listeners_per_user = 1\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let mounts = |password: &str| {
        let other = MP3.replace("/radio.mp3", "/other.mp3");
        format!("{}{MP3}{rule}{other}{rule}", ROLES.replace("r3lay", password))
    };
    let origin = Server::start_with(keys, &mounts("r3lay"));
    let edge = mirroring(origin.port, "password = \"r3lay\"\n"); // the name that is usual
    let on_air = |edge: &Server| edge.metric("flumen_source_up", &[]);
    assert!(until(SECOND * 30, || on_air(&edge) == 2.0), "{}", edge.log());
    for path in ["/radio.mp3", "/other.mp3"] {
        assert!(edge.listen(path).read(20_000).len() == 20_000);
        let listeners = origin.get(&format!("/api/v1/mounts{path}/listeners"));
        assert!(listeners.body_text().contains("\"user\":\"relay\""), "{}", listeners.body_text());
    }
    assert_eq!(origin.metric("flumen_refusals_total", &[]), 0.0);

    let stranger = mirroring(origin.port, "password = \"wrong\"\n");
    let turned = || origin.metric("flumen_refusals_total", &["unauthorized"]) > 0.0;
    assert!(until(SECOND * 20, turned), "it finds both in the status document, and hears neither: {}", stranger.log());
    assert_eq!(on_air(&stranger), 0.0);
    drop(stranger);

    // Whoever is in stays; whoever comes needs the new one.
    origin.rewrite(keys, &mounts("n3xt"));
    let (code, said) = origin.tell("reload");
    assert!(code == Some(0) && said.contains("relay.password") && !said.contains("n3xt"), "{said}");
    let status = |number, password: &str| ask(&origin, number, "HEAD", "/radio.mp3", &field(&format!("relay:{password}"))).status;
    assert_eq!((status(1, "n3xt"), status(2, "r3lay")), (200, 401), "{}", origin.log());
    assert_eq!(on_air(&edge), 2.0);
}
