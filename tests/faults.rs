//! Listeners that fail, a server that stands still: who leaves, with which word, and who notices nothing. From outside.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{MP3, Server, free_port, longest_silence, until};

const SECOND: Duration = Duration::from_secs(1);

/// Small buffers on both sides, so that a listener that does not read is soon seen not to.
fn stalled(server: &Server, path: &str) -> support::Stream {
    let stream = server.listen(path);
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream.socket, 4096).expect("a small buffer");
    stream
}

fn left(server: &Server, why: &str) -> f64 {
    server.metric("flumen_listener_departures_total", &[&format!("reason=\"{why}\"")])
}

#[test]
fn the_slow_leave_with_their_word_and_the_quick_hear_no_difference() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"2s\"\nburst = \"1s\"\n";
    let server = Server::start(&format!("{MP3}{rules}"));
    let mut quick = server.listen("/radio.mp3");
    let slow: Vec<_> = (0..20).map(|_| stalled(&server, "/radio.mp3")).collect();
    let longest = longest_silence(&mut quick.socket, SECOND * 12, || left(&server, "too_slow") >= 20.0);
    assert_eq!(left(&server, "too_slow"), 20.0, "log:\n{}", server.log());
    assert!(longest < SECOND, "the quick one waited {longest:?}");
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
    drop(slow);
}

#[test]
fn the_slow_are_recovered_on_a_whole_frame_and_stay() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"1s\"\nhard_limit = \"none\"\nidle_timeout = \"none\"\nburst = \"500ms\"\n";
    let server = Server::start(&format!("{MP3}{rules}"));
    let mut slow = stalled(&server, "/radio.mp3");
    assert!(until(SECOND * 15, || server.metric("flumen_dropped_chunks_total", &[]) > 50.0));
    let body = slow.read_for(SECOND * 2);
    // Frames of 417 or 418 bytes, each beginning where the one before ends: nothing is torn, whatever was left out.
    let mut at = 0;
    while at + 4 < body.len() {
        assert_eq!((body[at], body[at + 1]), (0xFF, 0xFB), "a torn frame at {at} of {}", body.len());
        at += 417 + usize::from(body[at + 2] >> 1 & 1);
    }
    assert!(server.metric("flumen_recoveries_total", &["keyframe"]) > 0.0);
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
}

#[test]
fn no_progress_for_the_idle_timeout_is_stalled_and_a_silent_source_is_nobodys_fault() {
    let port = free_port();
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"none\"\nidle_timeout = \"2s\"\n";
    let silent = format!(
        "[[mount]]\npath = \"/silent\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\nidle_timeout = \"1s\"\n"
    );
    let server = Server::spawn("", &format!("{MP3}{rules}\n{silent}"), &[]);
    let gdp = support::gst_output("audiotestsrc num-buffers=1 ! gdppay");
    let mut source = support::connect_source(port);
    source.write_all(&gdp).expect("sent");
    server.await_ready();
    let mut patient = server.listen("/silent");
    let _stalled = stalled(&server, "/radio.mp3");
    assert!(until(SECOND * 15, || left(&server, "stalled") == 1.0), "log:\n{}", server.log());
    assert!(!patient.ends_within(SECOND));
    assert_eq!(server.metric("flumen_listeners", &["silent"]), 1.0);
    assert!(until(SECOND * 30, || orphans(server.port) == 0), "the kernel forgets what the stalled one did not take");
}

/// Connections of a local port that were closed with data queued (FIN_WAIT1).
fn orphans(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of connections");
    let ours = format!("0100007F:{port:04X}");
    table.lines().filter(|line| matches!(line.split_whitespace().collect::<Vec<_>>()[..], [_, local, _, "04", ..] if local == ours)).count()
}

/// For how long, with FLUMEN_STOPPED_SECONDS as somebody who has more time wants it.
#[test]
fn a_server_that_stood_still_judges_nobody_for_it() {
    let stopped = std::env::var("FLUMEN_STOPPED_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let server = Server::start(&format!("{MP3}soft_limit = \"none\"\nhard_limit = \"2s\"\nidle_timeout = \"2s\"\n"));
    let (going_on, heard) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut stream = server.listen("/radio.mp3");
                stream.socket.set_read_timeout(Some(SECOND * (stopped + 20))).expect("a timeout");
                let mut buffer = [0; 65536];
                while going_on.load(Ordering::Relaxed) {
                    let count = stream.socket.read(&mut buffer).expect("the stream goes on");
                    assert_ne!(count, 0, "closed");
                    heard.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
        assert!(until(SECOND * 5, || server.metric("flumen_listeners", &[]) == 20.0));
        server.signal("-STOP");
        std::thread::sleep(SECOND * stopped);
        server.signal("-CONT");
        let before = heard.load(Ordering::Relaxed);
        std::thread::sleep(SECOND * 3);
        assert!(heard.load(Ordering::Relaxed) > before + 20 * 30_000, "all go on hearing");
        assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0, "log:\n{}", server.log());
        going_on.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_session_ends_when_it_is_over_and_the_operator_can_end_it_before() {
    let server = Server::start(&format!("{MP3}max_listener_duration = \"3s\"\n"));
    let (mut first, mut second) = (server.listen("/radio.mp3"), server.listen("/radio.mp3"));
    let listeners = server.get("/api/v1/mounts/radio.mp3/listeners").body_text();
    let ids: Vec<&str> = listeners.split("\"id\":").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    assert_eq!(ids.len(), 2, "{listeners}");
    let kick = |id: &str| server.request("DELETE", &format!("/api/v1/mounts/radio.mp3/listeners/{id}")).expect("an answer").status;
    assert_eq!((kick(ids[0]), kick(ids[0]), kick("999999")), (204, 404, 404));
    assert!(until(SECOND, || left(&server, "kicked") == 1.0));
    assert!(first.ends_within(SECOND * 6) && second.ends_within(SECOND * 6));
    assert_eq!((left(&server, "session_limit"), left(&server, "hung_up")), (1.0, 0.0));
}

#[test]
fn chunks_of_no_bytes_end_nothing_and_tear_nothing_whoever_listens() {
    let tcp = free_port();
    // A third of its buffers are empty; each byte is the one before, and one more.
    let source = "fakesrc sizetype=random sizemin=0 sizemax=3 filltype=pattern-span ! identity sleep-time=500";
    let keys = format!("path = \"/bytes\"\ncontent_type = \"application/octet-stream\"\ntcp = [\"127.0.0.1:{tcp}\"]\nburst = \"1s\"");
    let server = Server::start(&format!("[[mount]]\npipeline = \"{source}\"\n{keys}\n"));
    let plain = server.listen_with("GET /bytes HTTP/1.0\r\n\r\n");
    let modern = server.listen("/bytes");
    let raw = std::net::TcpStream::connect(("127.0.0.1", tcp)).expect("connected");
    raw.set_read_timeout(Some(SECOND * 10)).expect("set");
    for mut stream in [plain.socket, modern.socket, raw] {
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while heard.len() < 5_000 {
            let count = stream.read(&mut buffer).expect("read");
            assert!(count > 0, "it ended after {} bytes", heard.len());
            heard.extend_from_slice(&buffer[..count]);
        }
        let torn = heard.windows(2).position(|pair| pair[0].wrapping_add(1) != pair[1]);
        assert_eq!(torn, None, "of {} bytes", heard.len());
    }
}

#[test]
fn a_storm_of_joins_and_leaves_leaves_exact_counters_and_no_memory() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    let storm = || {
        let mut streams: Vec<_> = (0..400).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(|socket| socket.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent"));
        assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) == 400.0));
        drop(streams);
        assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) == 0.0));
    };
    // The allocator's pools and every thread's share of them fill up first; what still grows after that is kept by somebody.
    (0..4).for_each(|_| storm());
    let memory = server.rss_kib();
    (0..8).for_each(|_| storm());
    assert_eq!(server.metric("flumen_listener_joins_total", &[]), 4800.0);
    assert_eq!(left(&server, "hung_up"), 4800.0);
    assert_eq!(server.metric("flumen_listeners_peak", &[]), 400.0);
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 3200, "{grown} KiB more than {memory} KiB after 3,200 more sessions");
}

#[test]
fn an_element_that_blocks_does_not_keep_the_server_from_ending() {
    let fifo = std::env::temp_dir().join(format!("flumen-fifo-{}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    // Nobody writes into it, so the element waits in its start.
    let mounts = format!("[[mount]]\npath = \"/blocked\"\npipeline = \"filesrc location={} ! wavparse\"\n", fifo.display());
    let mut server = Server::spawn("", &mounts, &[]);
    assert!(until(SECOND * 15, || server.try_get("/healthz").is_ok_and(|answer| answer.status == 200)));
    std::thread::sleep(SECOND);
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 8), Some(0), "log:\n{}", server.log());
    std::fs::remove_file(&fifo).expect("removed");
}

#[test]
fn a_hang_up_signal_ends_nothing_however_early_it_comes() {
    for wait in [150, 300] {
        let mut server = Server::spawn("", MP3, &[]);
        std::thread::sleep(Duration::from_millis(wait));
        server.signal("-HUP");
        server.await_ready();
        server.signal("-TERM");
        assert_eq!(server.wait(SECOND * 10), Some(0));
    }
}

#[test]
fn who_has_read_enough_closes_the_pipe() {
    let script = "\"$0\" check | true; echo ${PIPESTATUS[0]}";
    let out = std::process::Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_flumen")]).output().expect("bash");
    assert_eq!((String::from_utf8_lossy(&out.stdout).trim(), String::from_utf8_lossy(&out.stderr).trim()), ("0", ""));
}

#[test]
fn told_twice_to_stop_it_stops_at_once_and_once_while_it_starts_is_enough() {
    // Somebody who takes nothing is waited for; nobody waits for that who asks twice.
    let mut server = Server::start(&format!("{MP3}send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"none\"\n"));
    let _slow = stalled(&server, "/radio.mp3");
    std::thread::sleep(SECOND * 4); // until both buffers are full
    let began = Instant::now();
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND), None, "it waits for the slow one");
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 8), Some(0));
    assert!(began.elapsed() < SECOND * 9, "{:?}", began.elapsed());
    for wait in [50, 100, 200, 400] {
        let mut server = Server::spawn("", MP3, &[]);
        std::thread::sleep(Duration::from_millis(wait));
        server.signal("-TERM");
        let code = server.wait(SECOND * 10);
        // Before it has got to say that it minds signals it is ended by this one: nothing was begun that could be lost.
        assert!(matches!(code, Some(0)) || server.log().is_empty(), "{code:?} after {wait} ms:\n{}", server.log());
    }
}

/// Debian's library that lies about the time of day, if it is installed.
fn faketime() -> Option<String> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    folders.into_iter().find(|path| path.exists()).map(|path| path.display().to_string())
}

#[test]
fn a_clock_that_jumps_by_years_sends_nobody_away() {
    let Some(library) = faketime() else { return eprintln!("the package faketime is not installed") };
    let said = std::env::temp_dir().join(format!("flumen-time-{}", std::process::id()));
    std::fs::write(&said, "+0").expect("written");
    let (preload, file) = (format!("LD_PRELOAD={library}"), format!("FAKETIME_TIMESTAMP_FILE={}", said.display()));
    // The monotonic clock is what it is: only a suspended machine's stands still.
    let wrapper = ["env", &preload, &file, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1"];
    let server = Server::spawn("", &format!("{MP3}max_listener_duration = \"1h\"\nidle_timeout = \"5s\"\n"), &wrapper);
    server.await_ready();
    let mut listeners: Vec<_> = (0..10).map(|_| server.listen("/radio.mp3")).collect();
    for (jump, year) in [("+3650d", "203"), ("-7300d", "200"), ("+0", "202")] {
        std::fs::write(&said, jump).expect("written");
        assert!(until(SECOND * 5, || server.get("/healthz").header("date").is_some_and(|date| date.contains(year))), "the clock jumps");
        for listener in &mut listeners {
            listener.read(16_000);
        }
        assert_eq!(server.get("/metrics").status, 200);
        listeners.push(server.listen("/radio.mp3"));
    }
    assert_eq!(server.metric("flumen_listeners", &[]), 13.0);
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0, "{}", server.log());
    std::fs::remove_file(said).expect("removed");
}

#[test]
fn a_log_folder_that_is_deleted_is_written_into_again_once_it_is_back() {
    let folder = std::env::temp_dir().join(format!("flumen-logs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("access.log");
    let server = Server::start(&format!("[log]\naccess = \"{}\"\n{MP3}", path.display()));
    let mut listener = server.listen("/radio.mp3");
    let written = |what: &str| {
        server.try_get(what).is_ok() && until(SECOND / 2, || std::fs::read_to_string(&path).is_ok_and(|text| text.contains(what)))
    };
    assert!(until(SECOND * 5, || written("/before")));
    std::fs::remove_dir_all(&folder).expect("removed");
    for _ in 0..20 {
        server.get("/meanwhile");
        server.signal("-HUP");
    }
    listener.read(16_000);
    std::fs::create_dir_all(&folder).expect("back");
    assert!(until(SECOND * 15, || written("/after")), "{}", server.log());
    listener.read(16_000);
    assert!(server.log().matches("cannot be").count() < 30, "not a line for each visit: {}", server.log());
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn descriptors_with_numbers_beyond_65535_serve_like_any() {
    // The shell opens as many first; they are handed to the server, which gets higher ones.
    let held =
        "ulimit -n 70000 || exit 9; i=10; while [ $i -lt 66000 ]; do eval \"exec $i</dev/null\"; i=$((i+1)); done; exec \"$0\" \"$@\"";
    let mut server = Server::spawn("", MP3, &["bash", "-c", held]);
    if server.wait(SECOND) == Some(9) {
        return eprintln!("the limit of descriptors cannot be raised here");
    }
    server.await_ready();
    let mut listeners: Vec<_> = (0..5).map(|_| server.listen("/radio.mp3")).collect();
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    let most = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    assert!(most > Some(65_535), "{most:?}");
    listeners.iter_mut().for_each(|listener| drop(listener.read(16_000)));
    listeners.clear();
    assert!(until(SECOND * 5, || left(&server, "hung_up") == 5.0));
}

/// Says to a test that it runs in a network of its own.
const OWN_NETWORK: &str = "FLUMEN_TEST_OWN_NETWORK";

/// Runs one of these tests in a network of its own, which it can cut without harm to anybody; whether it is in there already.
fn in_its_own_network(test: &str) -> bool {
    if std::env::var_os(OWN_NETWORK).is_some() {
        return true;
    }
    let own = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "--"]).args(command).env(OWN_NETWORK, "1");
        unshare.status().is_ok_and(|status| status.success())
    };
    if own(&["ip", "link", "set", "lo", "up"]) {
        let program = std::env::current_exe().expect("this program");
        assert!(own(&[&program.to_string_lossy(), "--exact", test, "--nocapture"]), "{test}: see above");
    } else {
        eprintln!("{test}: nobody here may have a network of his own");
    }
    false
}

/// What is measured, asked for by a socket that no network has.
fn metrics(door: &Path) -> String {
    let mut socket = UnixStream::connect(door).expect("the unix socket");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn who_loses_power_is_noticed_in_a_minute_where_data_flows_and_where_none_does() {
    if !in_its_own_network("who_loses_power_is_noticed_in_a_minute_where_data_flows_and_where_none_does") {
        return;
    }
    let link = |state: &str| assert!(Command::new("ip").args(["link", "set", "lo", state]).status().expect("ip").success());
    link("up");
    let port = free_port();
    // No verdict of ours on the slow may come first.
    let patient = "hard_limit = \"none\"\nsoft_limit = \"none\"\n";
    let silent = format!("[[mount]]\npath = \"/silent\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\n{patient}");
    let server = Server::spawn("listen = [\"127.0.0.1:{port}\", \"unix:{dir}/door\"]", &format!("{MP3}{patient}\n{silent}"), &[]);
    let mut source = support::connect_source(port);
    source.write_all(&support::gst_output("audiotestsrc num-buffers=1 ! gdppay")).expect("sent");
    server.await_ready();
    let (mut live, quiet) = (server.listen("/radio.mp3"), server.listen("/silent"));
    live.read(10_000);
    let door = server.dir.join("door");
    let value = |of: &str| {
        let text = metrics(&door);
        text.lines().filter(|line| line.starts_with(of)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!(value("flumen_listeners{"), 2.0);
    let cut = Instant::now();
    link("down");
    assert!(until(SECOND * 80, || value("flumen_listeners{") == 0.0), "after {:?}; log:\n{}", cut.elapsed(), server.log());
    let noticed = cut.elapsed();
    assert!(noticed > SECOND * 20, "{noticed:?}: a short break is no loss");
    assert_eq!(value("flumen_listener_departures_total{mount=\"/silent\",reason=\"hung_up\"}"), 1.0, "log:\n{}", server.log());
    let lost =
        ["hung_up", "stalled"].map(|why| value(&format!("flumen_listener_departures_total{{mount=\"/radio.mp3\",reason=\"{why}\"}}")));
    assert_eq!(lost.iter().sum::<f64>(), 1.0, "{lost:?}");
    drop((live, quiet, source));
}
