//! What the process is to its machine: who it runs as, what it hands on, what it is handed, and what it says of a machine that is not fit.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::{MP3, Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
const FLUMEN: &str = env!("CARGO_BIN_EXE_flumen");

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flumen-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn flumen(arguments: &[&str], config: &str) -> Output {
    let folder = folder(&format!("hardening-{:x}", fastrand::u64(..)));
    fs::write(folder.join("flumen.toml"), config).expect("written");
    let told = Command::new(FLUMEN).args(arguments).arg("-c").arg(folder.join("flumen.toml")).output().expect("flumen runs");
    fs::remove_dir_all(folder).expect("removed");
    told
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A line of a thread's status, by its name.
fn status(task: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(task.join("status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_server_that_root_starts_becomes_its_user_for_good_and_can_do_its_work() {
    if !is_root() {
        return eprintln!("only root can become somebody else");
    }
    // A port that only root may bind, if one is free.
    let port = (700..1023).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port");
    let logs = folder("logs");
    chown(&logs, Some(65_534), Some(65_534)).expect("given away");
    let log = logs.join("access.log");
    let server = Server::spawn(
        &format!("listen = [\"127.0.0.1:{{port}}\", \"127.0.0.1:{port}\", \"unix:{}/sock\"]\nuser = \"nobody\"", logs.display()),
        &format!("[log]\naccess = \"{}\"\n{MP3}", log.display()),
        &[],
    );
    server.await_ready();
    let tasks: Vec<_> =
        fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").map(|task| task.expect("a task").path()).collect();
    assert!(tasks.len() > 4);
    for task in &tasks {
        assert_eq!(status(task, "Uid:"), ["65534"; 4], "{}", task.display());
        assert_eq!(status(task, "Gid:"), ["65534"; 4]);
        assert_eq!(status(task, "Groups:"), ["65534"]);
        assert_eq!((status(task, "CapEff:"), status(task, "CapPrm:")), (vec!["0".repeat(16)], vec!["0".repeat(16)]));
        assert_eq!(status(task, "NoNewPrivs:"), ["1"]);
    }
    assert!(server.log().contains("privileges are dropped"), "{}", server.log());
    let mut listener = TcpStream::connect(("127.0.0.1", port)).expect("it was bound as root");
    listener.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent");
    assert!(!Stream::open(listener).read(2000).is_empty());
    assert_eq!(fs::metadata(logs.join("sock")).expect("a socket").uid(), 65_534);
    // A log that is moved away is begun again: it was never root's.
    fs::rename(&log, logs.join("old.log")).expect("moved");
    server.signal("-HUP");
    assert!(until(SECOND * 5, || log.exists()), "{}", server.log());
    assert_eq!(fs::metadata(&log).expect("a log").uid(), 65_534);
    drop(server);
    fs::remove_dir_all(logs).expect("removed");
}

#[test]
fn a_user_that_cannot_be_is_refused_with_line_and_remedy() {
    for (lines, parts) in [
        ("user = \"no-such-user\"", &["flumen.toml:2: server.user = \"no-such-user\": is no user of this machine", "useradd"] as &[_]),
        ("user = \"root\"", &["server.user = \"root\"", "gives nothing up"]),
        ("user = \"nobody\"\ngroup = \"no-such-group\"", &["flumen.toml:3: server.group", "groupadd"]),
        ("group = \"nogroup\"", &["server.group", "without a user"]),
        ("usr = \"nobody\"", &["did you mean \"server.user\"?"]),
    ] {
        let told = flumen(&["check"], &format!("[server]\n{lines}\n[[mount]]\npath = \"/a\"\n"));
        let said = text(&told.stderr);
        assert!(!told.status.success() && parts.iter().all(|part| said.contains(part)), "{lines}: {said}");
    }
    let told = flumen(&["check"], "[server]\nuser = \"nobody\"\ngroup = \"nogroup\"\n[[mount]]\npath = \"/a\"\n");
    let said = text(&told.stdout);
    assert!(said.contains("user = \"nobody\"\ngroup = \"nogroup\""), "{said}{}", text(&told.stderr));
}

#[test]
fn no_descriptor_would_be_handed_to_a_program_that_is_started() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (place, tls, raw) = (folder("cloexec"), free_port(), free_port());
    fs::write(place.join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(place.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let shown = place.display();
    let more = format!(
        "[log]\naccess = \"{shown}/log\"\n[[server.tls]]\nlisten = [\"127.0.0.1:{tls}\"]\ncertificates = [{{ cert = \"{shown}/cert.pem\", key = \"{shown}/key.pem\" }}]\n\
         [push]\npassword = \"s3cretively\"\n{MP3}tcp = [\"127.0.0.1:{raw}\"]\n[[mount]]\npath = \"/live\"\n"
    );
    let server = Server::spawn("listen = [\"127.0.0.1:{port}\", \"unix:{dir}/sock\"]", &more, &[]);
    server.await_ready();
    let _listeners: Vec<_> = (0..5).map(|_| server.listen("/radio.mp3")).collect();
    let _raw = TcpStream::connect(("127.0.0.1", raw)).expect("connected");
    let _idle = server.connect();
    let mut encoder = server.connect();
    encoder.write_all(b"PUT /live HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c291cmNlOnMzY3JldGl2ZWx5\r\n\r\nOggS").expect("sent");
    std::thread::sleep(SECOND);
    let of = |kind: &str, number: &str| format!("/proc/{}/{kind}/{number}", server.pid());
    let (mut seen, mut open) = (0, Vec::new());
    for entry in fs::read_dir(of("fdinfo", "")).expect("it runs") {
        let number = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if ["0", "1", "2"].contains(&number.as_str()) {
            continue;
        }
        // Gone in between is fine.
        let Ok(facts) = fs::read_to_string(of("fdinfo", &number)) else { continue };
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim().to_owned();
        seen += 1;
        if u32::from_str_radix(&flags, 8).expect("octal") & 0o2_000_000 == 0 {
            let link = fs::read_link(of("fd", &number)).unwrap_or_default().to_string_lossy().into_owned();
            open.push((number, link));
        }
    }
    assert!(seen > 20, "{seen} descriptors");
    // Pairs without a name are GStreamer's, and lead nowhere; some things were open before the server began, here as there.
    let tables: String = ["tcp", "tcp6", "unix"].iter().map(|table| fs::read_to_string(of("net", table)).unwrap_or_default()).collect();
    let leads_somewhere = |link: &str| match link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
        Some(inode) => tables.lines().any(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            cells.get(9) == Some(&inode) || cells.get(6) == Some(&inode) && cells.len() > 7
        }),
        None => link.starts_with(&*place.to_string_lossy()) || link.starts_with(&*server.dir.to_string_lossy()),
    };
    open.retain(|(_, link)| leads_somewhere(link));
    assert!(open.is_empty(), "not closed on exec: {open:?}");
    fs::remove_dir_all(place).expect("removed");
}

#[test]
fn sockets_of_a_service_manager_are_taken_over_by_their_addresses() {
    let (ours, strange, place) = (free_port(), free_port(), folder("activated"));
    let config = place.join("flumen.toml");
    // One is handed over, one is bound by ourselves, and one that is handed over is for nobody.
    let own = free_port();
    fs::write(&config, format!("[server]\nlisten = [\"127.0.0.1:{ours}\", \"127.0.0.1:{own}\"]\n[log]\naccess = \"none\"\n{MP3}"))
        .expect("written");
    let log = fs::File::create(place.join("log")).expect("a log");
    let started = Command::new("systemd-socket-activate")
        .args(["-l", &format!("127.0.0.1:{ours}"), "-l", &format!("127.0.0.1:{strange}"), FLUMEN, "serve", "-c"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let Ok(mut child) = started else { return eprintln!("no systemd on this machine") };
    let mut first = None;
    assert!(until(SECOND * 10, || {
        first = TcpStream::connect(("127.0.0.1", ours)).ok();
        first.is_some()
    }));
    // The first connection starts the server, and is answered by it.
    let mut first = first.expect("connected");
    first.set_read_timeout(Some(SECOND * 30)).expect("a timeout");
    first.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent");
    let mut stream = Stream::open(first);
    assert_eq!(stream.head.status, 200);
    assert!(!stream.read(2000).is_empty());
    assert!(TcpStream::connect(("127.0.0.1", own)).is_ok(), "the other one it binds itself");
    let said = || fs::read_to_string(place.join("log")).unwrap_or_default();
    assert!(until(SECOND * 5, || said().contains(&format!("127.0.0.1:{strange} is closed"))), "{}", said());
    assert!(TcpStream::connect(("127.0.0.1", strange)).is_err(), "nobody waits there for ever");
    child.kill().expect("killed");
    child.wait().expect("ended");
    fs::remove_dir_all(place).expect("removed");
}

#[test]
fn variables_that_name_no_key_are_told_and_change_nothing() {
    let server =
        Server::spawn("", MP3, &["env", "FLUMEN_SERVERS_LISTEN=0.0.0.0:1", "FLUMEN_PORT=tcp://10.0.0.1:80", "FLUMEN_SERVER__SHARDS=1"]);
    server.await_ready();
    let said = || server.log().lines().filter(|line| line.contains("name no key")).map(str::to_owned).collect::<Vec<_>>();
    assert!(until(SECOND * 5, || said().len() == 1), "{}", server.log());
    assert!(
        said()[0].contains("FLUMEN_SERVERS_LISTEN") && said()[0].contains("FLUMEN_PORT") && !said()[0].contains("SHARDS"),
        "{:?}",
        said()
    );
}

#[test]
fn a_doctor_says_what_is_not_fit_and_what_would_help() {
    let port = free_port();
    let small = format!("[server]\nlisten = [\"127.0.0.1:{port}\"]\nmax_listeners = 50\nmax_connections = 100\n");
    let told = flumen(&["doctor"], &format!("{small}{MP3}"));
    let said = text(&told.stdout);
    assert!(told.status.success(), "{said}{}", text(&told.stderr));
    for line in ["ok    configuration", "ok    clock", "ok    descriptors", "ok    address          127.0.0.1"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // A certificate that has expired, a folder that is not there, more connections than descriptors, an address that is taken.
    let place = folder("doctor");
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    (parameters.not_before, parameters.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(place.join("cert.pem"), parameters.self_signed(&key).expect("a certificate").pem()).expect("written");
    fs::write(place.join("key.pem"), key.serialize_pem()).expect("written");
    let shown = place.display();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bound");
    let [tls, raw, shoutcast, proxied] = std::array::from_fn(|_| free_port());
    let also_taken = [raw, proxied].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).expect("bound"));
    let told = flumen(
        &["doctor"],
        &format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nproxy_protocol = [\"127.0.0.1:{proxied}\"]\nmax_listeners = 1000000\n\
             [log]\naccess = \"{shown}/no/such/log\"\n[push]\nshoutcast = [\"127.0.0.1:{shoutcast}\"]\n\
             [[server.tls]]\nlisten = [\"127.0.0.1:{tls}\"]\ncertificates = [{{ cert = \"{shown}/cert.pem\", key = \"{shown}/key.pem\" }}]\n\
             {MP3}tcp = [\"127.0.0.1:{raw}\"]\n"
        ),
    );
    let said = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{said}");
    for part in
        ["BAD   certificate", "has expired", "BAD   access log", "BAD   descriptors", "-> LimitNOFILE=", "is in use", "-> by a flumen"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    for line in [
        format!("127.0.0.1:{port} (HTTP) is in use"),
        format!("127.0.0.1:{tls} (TLS) is free"),
        format!("127.0.0.1:{raw} (raw, /radio.mp3) is in use"),
        format!("127.0.0.1:{shoutcast} (SHOUTcast) is free"),
        format!("127.0.0.1:{proxied} (HTTP, behind a proxy) is in use"),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    for kernel in ["kernel: queue", "kernel: backlog", "kernel: buffers", "kernel: probes"] {
        assert!(said.contains(kernel), "{kernel}: {said}");
    }
    drop(also_taken);
    assert!(text(&told.stderr).contains("3 of these"), "{}", text(&told.stderr));
    drop(taken);
    let told = flumen(&["doctor"], "[server]\nlisten = 5\n");
    assert!(told.status.code() == Some(1) && text(&told.stdout).contains("BAD   configuration"), "{}", text(&told.stdout));
    fs::remove_dir_all(place).expect("removed");
}

#[test]
fn completions_are_scripts_and_the_manual_is_a_page() {
    let print = |words: &[&str]| {
        let told = Command::new(FLUMEN).args(words).output().expect("flumen runs");
        assert!(told.status.success());
        text(&told.stdout)
    };
    let script = folder("completions").join("bash");
    fs::write(&script, print(&["completions", "bash"])).expect("written");
    assert!(Command::new("bash").arg("-n").arg(&script).status().expect("bash").success());
    fs::remove_dir_all(script.parent().expect("a folder")).expect("removed");
    assert!(print(&["completions", "zsh"]).starts_with("#compdef flumen"));
    assert!(print(&["manual"]).contains(".SH SYNOPSIS"));
    assert_eq!(Command::new(FLUMEN).args(["completions", "tcsh"]).output().expect("flumen runs").status.code(), Some(64));
}
