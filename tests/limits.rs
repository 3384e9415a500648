//! Limits and bans over real sockets: the last place of each kind goes to exactly one, and who is turned away is told why.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::Value;
use support::{MP3, Response, Server, Stream, until};

const SECOND: Duration = Duration::from_secs(1);

/// A connection from another address of this machine.
fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SECOND * 20)).expect("a timeout");
    stream
}

const LISTEN: &[u8] = b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The same as somebody, whose password is "word".
const ADA: &[u8] = b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWRhOndvcmQ=\r\n\r\n";
const BOB: &[u8] = b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Ym9iOndvcmQ=\r\n\r\n";
const USERS: &str = "ada:{SHA}PLzZCtxLGSqHpiWFC38jHK3fDrM=\nbob:{SHA}PLzZCtxLGSqHpiWFC38jHK3fDrM=\n";

/// Asks for the stream with this request.
fn join_as(request: &[u8], port: u16) -> Stream {
    let mut socket = connect_from([127, 0, 0, 1], port);
    socket.write_all(request).expect("sent");
    Stream::open(socket)
}

/// Asks for the stream from this address.
fn join(from: [u8; 4], port: u16) -> Stream {
    let mut socket = connect_from(from, port);
    socket.write_all(LISTEN).expect("sent");
    Stream::open(socket)
}

/// A body that is not a stream.
fn reason(mut stream: Stream) -> String {
    let mut text = String::new();
    let _ = stream.socket.read_to_string(&mut text); // a reset is an end as well
    text
}

/// A mount with more keys.
fn mount(keys: &str) -> String {
    format!("{MP3}{keys}\n")
}

/// So many ask at the same moment; those who got the stream, and the others.
fn race(server: &Server, count: usize, request: &'static [u8]) -> (Vec<Stream>, Vec<Stream>) {
    let barrier = Arc::new(Barrier::new(count));
    let port = server.port;
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                let mut socket = connect_from([127, 0, 0, 1], port);
                barrier.wait();
                socket.write_all(request).expect("sent");
                Stream::open(socket)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("an answer")).partition(|stream| stream.head.status == 200)
}

#[test]
fn of_a_hundred_joins_for_the_last_place_exactly_one_gets_it_whatever_the_limit() {
    for (server_keys, mount_keys, part) in [
        ("max_listeners = 1\nmax_connections = 500", "", "max_listeners"),
        ("", "max_listeners = 1", "max_listeners"),
        ("max_listeners_per_address = 1", "", "max_listeners_per_address"),
        ("", "max_listeners_per_address = 1", "max_listeners_per_address"),
        ("", "max_join_rate = 1", "max_join_rate"),
        // Of a stream of 128 kbit/s there is room for one.
        ("", "max_bandwidth = \"200kbit/s\"", "max_bandwidth"),
    ] {
        let server = Server::start_with(server_keys, &mount(mount_keys));
        if part == "max_bandwidth" {
            // What a listener takes is known when there is a history.
            assert!(until(SECOND * 10, || server.metric("flumen_ring_seconds", &["radio"]) > 2.0));
        }
        let (inside, outside) = race(&server, 100, LISTEN);
        // In a second another may join, and a hundred take their time on a busy machine.
        let most = if part == "max_join_rate" { 1..=5 } else { 1..=1 };
        assert!(most.contains(&inside.len()), "{server_keys} {mount_keys}: {} got in", inside.len());
        for refused in outside {
            assert_eq!(refused.head.status, 503, "{}", refused.head.head);
            let wait: u32 = refused.head.header("retry-after").expect("when to come back").parse().expect("seconds");
            assert!((5..=15).contains(&wait));
            let why = reason(refused);
            assert!(why.contains(part), "{why}");
        }
        assert!(server.metric("flumen_refusals_total", &["\"full\"", "radio"]) >= 95.0);
        drop(inside);
        if part.starts_with("max_listeners") {
            assert!(until(SECOND * 10, || join([127, 0, 0, 1], server.port).head.status == 200), "a place given back can be taken");
        }
    }
}

#[test]
fn an_address_has_so_many_places_and_another_has_its_own() {
    let server = Server::start_with("max_listeners_per_address = 2", &mount("max_listeners_per_address = 1"));
    let _first = join([127, 0, 0, 5], server.port);
    assert_eq!(join([127, 0, 0, 5], server.port).head.status, 503);
    assert_eq!(join([127, 0, 0, 6], server.port).head.status, 200);
    // A reload changes that for who comes, and nobody who is there notices.
    server.rewrite("max_listeners_per_address = 2", &mount("max_listeners_per_address = 5"));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("max_listeners_per_address"), "{said}");
    let second = join([127, 0, 0, 5], server.port);
    assert_eq!(second.head.status, 200);
    let third = join([127, 0, 0, 5], server.port);
    assert_eq!(third.head.status, 503);
    assert!(reason(third).contains("this server takes"));
}

#[test]
fn a_user_has_so_many_places_from_wherever_and_the_last_goes_to_exactly_one() {
    let users = std::env::temp_dir().join(format!("flumen-limits-users-{}", std::process::id()));
    std::fs::write(&users, USERS).expect("written");
    let asks = format!("listen_auth = {{ htpasswd = \"{}\" }}\n", users.display());
    let mount_with = |keys: &str| mount(&format!("{asks}{keys}"));
    let server = Server::start(&mount_with("max_listeners_per_user = 2"));
    let (first, _second) = (join_as(ADA, server.port), join_as(ADA, server.port));
    assert_eq!((first.head.status, join([127, 0, 0, 1], server.port).head.status), (200, 401));
    let third = join_as(ADA, server.port);
    assert_eq!((third.head.status, third.head.header("retry-after").is_some()), (503, true), "{}", third.head.head);
    let why = reason(third);
    assert!(why.contains("this mount allows (max_listeners_per_user)"), "{why}");
    assert_eq!(server.metric("flumen_refusals_total", &["\"full\"", "radio"]), 1.0);
    let bob = join_as(BOB, server.port);
    assert_eq!(bob.head.status, 200, "another user has his own");
    drop(first);
    assert!(until(SECOND * 10, || join_as(ADA, server.port).head.status == 200), "a place given back can be taken");
    // A reload changes that for who comes; the server's own limit counts over all mounts.
    server.rewrite("max_listeners_per_user = 1", &mount_with(""));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("server.max_listeners_per_user"), "{said}");
    let refused = join_as(BOB, server.port);
    assert_eq!(refused.head.status, 503);
    assert!(reason(refused).contains("this server allows (max_listeners_per_user)"));
    drop(bob);
    assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) <= 2.0));
    let (inside, outside) = race(&server, 50, BOB);
    assert_eq!(inside.len(), 1, "of fifty who ask as one user at once");
    assert!(outside.iter().all(|stream| stream.head.status == 503));
    std::fs::remove_file(users).expect("removed");
}

#[test]
fn an_address_has_so_many_connections_listeners_among_them() {
    let server = Server::start_with("max_connections_per_address = 3", MP3);
    let from = [127, 0, 0, 5];
    let mut listener = join(from, server.port);
    let idle = [connect_from(from, server.port), connect_from(from, server.port)];
    let refused = Stream::open(connect_from(from, server.port)).head;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    listener.read(2000);
    assert_eq!(join([127, 0, 0, 6], server.port).head.status, 200);
    assert!(server.metric("flumen_accept_errors_total", &["address"]) >= 1.0);
    drop((listener, idle));
    assert!(until(SECOND * 10, || {
        let mut socket = connect_from(from, server.port);
        socket.write_all(LISTEN).is_ok() && Stream::open(socket).head.status == 200
    }));
    assert!(until(SECOND * 10, || server.metric("flumen_connected_addresses", &[]) <= 2.0), "who has gone leaves nothing behind");
}

#[test]
fn where_it_is_full_there_may_be_another_server_with_room() {
    let server = Server::start(&mount("max_listeners = 1\nredirect_on_overflow = \"https://b.example/radio.mp3\""));
    let _first = join([127, 0, 0, 1], server.port);
    let second = join([127, 0, 0, 1], server.port).head;
    assert_eq!((second.status, second.header("location")), (302, Some("https://b.example/radio.mp3")), "{}", second.head);
    assert_eq!(server.metric("flumen_refusals_total", &["\"full\""]), 1.0);
}

/// Asks for this; the head of the answer, and whether it is one, who keeps the place.
fn ask_for(target: &str, port: u16) -> Stream {
    let mut socket = connect_from([127, 0, 0, 1], port);
    socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("sent");
    Stream::open(socket)
}

#[test]
fn before_it_is_full_newcomers_go_to_a_peer_that_is_less_loaded_and_never_in_a_circle() {
    const MARKED: &str = "/radio.mp3?flumen-redirected=1";
    let knows =
        |server: &Server, peer: bool| until(SECOND * 20, || server.get("/metrics").body_text().contains("flumen_peer_load_ratio{") == peer);
    let b = Server::start_with("max_listeners = 2\nmax_connections = 50", MP3);
    let peers = format!("max_listeners = 4\nmax_connections = 50\nredirect_peers = [\"{}\"]\nredirect_from = \"50%\"", b.url(""));
    let a = Server::start_with(&peers, MP3);
    assert!(knows(&a, true), "log:\n{}", a.log());
    let mut here = vec![ask_for("/radio.mp3", a.port), ask_for("/radio.mp3?x=1", a.port)];
    assert!(here.iter().all(|stream| stream.head.status == 200), "there is room");
    let sent = ask_for("/radio.mp3?x=1", a.port).head;
    let there = format!("{}?x=1&flumen-redirected=1", b.url("/radio.mp3"));
    assert_eq!((sent.status, sent.header("location")), (302, Some(&*there)), "{}", sent.head);
    assert_eq!(a.metric("flumen_refusals_total", &["\"redirected\"", "radio"]), 1.0);
    assert_eq!(a.metric("flumen_peer_redirects_total", &[]), 1.0);
    let moved = ask_for("/radio.mp3?x=1&flumen-redirected=1", b.port);
    assert_eq!(moved.head.status, 200, "there it is served");
    // The other one sends newcomers back, but none of those that were sent there: not even when it is full.
    b.rewrite(&format!("max_listeners = 2\nmax_connections = 50\nredirect_peers = [\"{}\"]\nredirect_from = \"1%\"", a.url("")), MP3);
    let (code, said) = b.tell("reload");
    assert!(code == Some(0) && said.contains("server.redirect_peers"), "{said}");
    drop(here.pop());
    let back = || ask_for("/radio.mp3", b.port).head;
    assert!(until(SECOND * 20, || b.metric("flumen_peer_load_ratio", &[]) == 0.25), "log:\n{}", b.log());
    let sent = back();
    assert_eq!((sent.status, sent.header("location")), (302, Some(&*a.url(MARKED))), "{}", sent.head);
    let second = ask_for(MARKED, b.port);
    let third = ask_for(MARKED, b.port).head;
    assert_eq!((second.head.status, third.status, third.header("retry-after").is_some()), (200, 503, true), "{}", third.head);
    assert!(until(SECOND * 20, || back().status == 302), "whoever was not sent there finds room elsewhere");
    // One that does not answer is left out.
    drop((b, moved, second));
    assert!(knows(&a, false), "log:\n{}", a.log());
    here.push(ask_for("/radio.mp3", a.port));
    here.push(ask_for("/radio.mp3", a.port));
    assert!(here.iter().all(|stream| stream.head.status == 200));
    assert!(until(SECOND * 5, || a.log().contains("nobody is sent there")));
}

#[test]
fn a_group_of_addresses_has_so_many_places() {
    let dir = std::env::temp_dir().join(format!("flumen-limits-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("here"), "# here\n127.0.0.8/30\n").expect("written");
    let groups = format!(
        "[[address_group]]\nname = \"here\"\nfile = \"{}/here\"\nmax_listeners = 1\n\
         [[address_group]]\nname = \"there\"\nnetworks = [\"127.0.0.0/24\"]\n",
        dir.display()
    );
    let server = Server::start(&(mount("") + &groups));
    let _first = join([127, 0, 0, 9], server.port);
    let refused = join([127, 0, 0, 10], server.port);
    assert_eq!(refused.head.status, 503);
    assert!(reason(refused).contains("address_group"));
    let _other = join([127, 0, 0, 20], server.port);
    assert_eq!(server.metric("flumen_group_listeners", &["\"here\""]), 1.0);
    assert_eq!(server.metric("flumen_group_listeners", &["\"there\""]), 1.0);
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn what_is_sent_is_measured_and_who_would_make_it_too_much_is_turned_away() {
    // Room for two of 128 kbit/s; a burst is sent as well, so it takes some seconds until both are measured as what they are.
    let server = Server::start(&mount("max_bandwidth = \"300kbit/s\"\nburst = \"none\"\nsync = \"latest\""));
    assert!(until(SECOND * 10, || server.metric("flumen_ring_seconds", &["radio"]) > 2.0));
    let mut held: Vec<Stream> = Vec::new();
    assert!(until(SECOND * 20, || {
        let stream = join([127, 0, 0, 1], server.port);
        let inside = stream.head.status == 200;
        if inside {
            held.push(stream);
        }
        held.len() == 2
    }));
    std::thread::sleep(SECOND * 6); // it is measured, and still there
    let refused = join([127, 0, 0, 1], server.port);
    assert_eq!(refused.head.status, 503);
    assert!(reason(refused).contains("max_bandwidth"));
    drop(held);
    assert!(until(SECOND * 15, || join([127, 0, 0, 1], server.port).head.status == 200), "what is not sent any more does not count");
}

fn ask(server: &Server, method: &str, target: &str) -> Response {
    server.request(method, target).expect("an answer")
}

#[test]
fn a_ban_holds_at_once_and_across_a_restart_until_it_is_lifted() {
    let state = std::env::temp_dir().join(format!("flumen-bans-{}", std::process::id()));
    std::fs::create_dir_all(&state).expect("a folder");
    let keys = format!("state_dir = \"{}\"", state.display());
    let banned = |server: &Server| Stream::open(connect_from([127, 0, 0, 7], server.port)).head.status == 403;
    {
        let mut server = Server::start_with(&keys, MP3);
        let mut there = join([127, 0, 0, 7], server.port);
        let mut elsewhere = join([127, 0, 0, 8], server.port);
        there.read(2000);
        let made = ask(&server, "POST", "/api/v1/bans?address=127.0.0.7&reason=flood&kick=true");
        let made_text = made.body_text();
        assert!(made.status == 201 && made_text.contains("\"kicked\":1") && made_text.contains("\"kept\":true"), "{made_text}");
        assert!(there.ends_within(SECOND * 5), "who is there is removed where that is asked for");
        elsewhere.read(2000);
        assert!(banned(&server));
        assert!(server.metric("flumen_refusals_total", &["\"banned\""]) >= 1.0);
        assert_eq!(server.metric("flumen_listener_departures_total", &["\"kicked\""]), 1.0);
        server.signal("-TERM");
        assert_eq!(server.wait(SECOND * 20), Some(0));
    }
    {
        let server = Server::start_with(&keys, MP3);
        let list: Value = serde_json::from_str(&server.get("/api/v1/bans").body_text()).expect("JSON");
        assert_eq!((&list[0]["address"], &list[0]["reason"]), (&"127.0.0.7/32".into(), &"flood".into()), "{list}");
        assert!(banned(&server));
        assert_eq!(ask(&server, "DELETE", "/api/v1/bans?address=127.0.0.7").status, 204);
        assert_eq!(join([127, 0, 0, 7], server.port).head.status, 200);
        // One that ends by itself.
        assert_eq!(ask(&server, "POST", "/api/v1/bans?address=127.0.0.7&duration=1s").status, 201);
        assert!(until(SECOND * 10, || join([127, 0, 0, 7], server.port).head.status == 200));
    }
    std::fs::write(state.join("bans.json"), "{ rubbish").expect("written");
    let server = Server::start_with(&keys, MP3);
    assert!(until(SECOND * 5, || server.log().contains("set aside")) && state.join("bans.json.bad").exists());
    assert_eq!(join([127, 0, 0, 7], server.port).head.status, 200, "a file that makes no sense stops nobody");
    std::fs::remove_dir_all(state).expect("removed");
}

#[test]
fn a_file_of_banned_addresses_is_read_anew_with_the_configuration() {
    let file = std::env::temp_dir().join(format!("flumen-banned-{}", std::process::id()));
    std::fs::write(&file, "127.0.0.7\n").expect("written");
    let keys = format!("banned_file = \"{}\"", file.display());
    let server = Server::start_with(&keys, MP3);
    assert_eq!(Stream::open(connect_from([127, 0, 0, 7], server.port)).head.status, 403);
    let lift = ask(&server, "DELETE", "/api/v1/bans?address=127.0.0.7");
    assert!(lift.status == 404 && lift.body_text().contains("banned_file"), "{}", lift.body_text());
    std::fs::write(&file, "127.0.0.8\n").expect("written");
    assert_eq!(server.tell("reload").0, Some(0));
    assert_eq!(join([127, 0, 0, 7], server.port).head.status, 200);
    assert_eq!(Stream::open(connect_from([127, 0, 0, 8], server.port)).head.status, 403);
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn short_of_memory_the_newest_stay_outside_and_who_listens_goes_on() {
    // Enough to begin with; then, by a reload, less than it has. 64 MiB is the least that can be written.
    let server = Server::start(MP3);
    let mut inside = join([127, 0, 0, 1], server.port);
    inside.read(2000);
    if server.rss_kib() < 64 * 1024 {
        return; // there is no limit that it is above
    }
    server.rewrite("memory_limit = \"64MiB\"", MP3);
    assert_eq!(server.tell("reload").0, Some(0));
    let outside = || {
        let mut socket = server.connect();
        let _ = socket.write_all(LISTEN); // it may be closed already
        Stream::open(socket).head
    };
    assert!(until(SECOND * 5, || outside().status == 503), "log:\n{}", server.log());
    assert!(outside().header("retry-after").is_some());
    inside.read(20_000);
    assert!(until(SECOND * 5, || server.log().contains("memory: who comes newly")));
}

/// A control group that bounds memory, for who may make one.
struct Bounded {
    folder: PathBuf,
    usage: &'static str,
    most: &'static str,
}

impl Bounded {
    /// Of version 1 or 2, whichever the machine has; `None`: nobody here may make one.
    fn new() -> Option<Self> {
        const VERSIONS: [(&str, &str, &str); 2] = [
            ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.current", "memory.max"),
        ];
        VERSIONS.into_iter().find_map(|(root, usage, most)| {
            let folder = Path::new(root).join(format!("flumen-limits-{}", std::process::id()));
            std::fs::create_dir(&folder).ok()?;
            let group = Self { folder, usage, most };
            group.folder.join(most).exists().then_some(group)
        })
    }

    /// What is used, without what the kernel can give back.
    fn used(&self) -> u64 {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).expect("a file of the group");
        let statistics = read("memory.stat");
        let kept = |name: &str| statistics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let files = kept("total_inactive_file ").or_else(|| kept("inactive_file ")).unwrap_or(0);
        read(self.usage).trim().parse::<u64>().expect("a number") - files
    }

    /// From now on so much may be used that this share of it is.
    fn bound(&self, share: f64) {
        let most = (self.used() as f64 / share) as u64;
        let _ = std::fs::write(self.folder.join(self.most), most.to_string()); // refused while more than that is used: the caller looks
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        until(SECOND * 5, || std::fs::remove_dir(&self.folder).is_ok());
    }
}

#[test]
fn a_control_group_that_runs_full_turns_the_newest_away_before_the_kernel_acts() {
    let Some(group) = Bounded::new() else {
        return eprintln!("nobody here may make a control group: the rule by itself is tested in src/app/memory.rs");
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.folder.display());
    let server = Server::spawn("", MP3, &["sh", "-c", &enter, "sh"]);
    server.await_ready();
    let mut inside = join([127, 0, 0, 1], server.port);
    inside.read(2000);
    let answers = |request: &[u8]| {
        let mut socket = server.connect();
        let _ = socket.write_all(request); // it may be closed already
        Stream::open(socket).head.status
    };
    let ask: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let bounded = |share, listen, look| {
        until(SECOND * 20, || {
            group.bound(share);
            std::thread::sleep(SECOND / 2); // it is looked at four times a second
            (answers(LISTEN), answers(ask)) == (listen, look)
        })
    };
    assert!(bounded(0.5, 200, 200), "there is room; log:\n{}", server.log());
    // More than what begins it, and less than what ends the next: a young server grows beyond that now and then.
    let told = |line: &str| line.starts_with("flumen_memory_pressure{") && line.contains("listeners") && line.ends_with(" 1");
    let is_told = || server.try_get("/metrics").is_ok_and(|page| page.body_text().lines().any(told));
    let nobody_else = || bounded(0.91, 503, 200) && is_told();
    assert!(until(SECOND * 60, nobody_else), "nobody else may listen; log:\n{}", server.log());
    assert!(bounded(0.96, 503, 503), "nobody is let in; log:\n{}", server.log());
    inside.read(20_000);
    assert!(bounded(0.5, 200, 200), "and again when there is room; log:\n{}", server.log());
    inside.read(2000);
}
