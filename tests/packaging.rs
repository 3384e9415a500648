//! The files for those who install: the unit against systemd's own checker, and what the server tells a service manager.

mod support;

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use support::MP3;

fn packaging(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let dir = std::env::temp_dir().join(format!("flumen-unit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let unit = std::fs::read_to_string(packaging("flumen.service")).expect("the unit");
    // What is not installed here cannot be started from there.
    let here = unit.replace("/usr/bin/flumen", env!("CARGO_BIN_EXE_flumen"));
    std::fs::write(dir.join("flumen.service"), here).expect("written");
    let Ok(told) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(dir.join("flumen.service")).output() else {
        return; // no systemd on this machine
    };
    let text = String::from_utf8_lossy(&told.stderr);
    let ours: Vec<_> = text.lines().filter(|line| line.contains("flumen.service")).collect();
    assert!(told.status.success() && ours.is_empty(), "{text}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_reloads_stops_and_is_alive() {
    let dir = std::env::temp_dir().join(format!("flumen-notify-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let socket = UnixDatagram::bind(dir.join("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let heard = || {
        let mut buffer = [0; 1024];
        let count = socket.recv(&mut buffer).expect("something is said");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let config = dir.join("flumen.toml");
    std::fs::write(&config, format!("[server]\nlisten = [\"127.0.0.1:{}\"]\n{MP3}", support::free_port())).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_flumen"))
        .arg("-c")
        .arg(&config)
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .env("WATCHDOG_USEC", "600000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let tell = |signal: &str| {
        let told = Command::new("kill").arg(signal).arg(child.id().to_string()).status().expect("kill");
        assert!(told.success());
    };
    let next = |except: &str| loop {
        let said = heard();
        if !said.contains(except) {
            return said;
        }
    };
    assert!(next("WATCHDOG").contains("READY=1"));
    assert!((0..3).all(|_| heard().contains("WATCHDOG=1")), "it is fed");
    tell("-HUP");
    let reloading = next("WATCHDOG");
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(next("WATCHDOG").contains("READY=1"));
    tell("-TERM");
    assert!(next("WATCHDOG").contains("STOPPING=1"));
    assert!(child.wait().expect("ended").success());
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// A service manager that keeps what it is given, by its names.
struct Manager {
    notified: UnixDatagram,
    kept: BTreeMap<String, OwnedFd>,
    ready: u32,
}

impl Manager {
    /// Hears what is said, until it holds.
    fn hear_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}: {:?} are kept", self.kept.keys());
            self.hear();
        }
    }

    fn hear(&mut self) {
        let (mut text, mut space) = ([0; 1024], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))]);
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let heard = rustix::net::recvmsg(&self.notified, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let Ok(heard) = heard else { return }; // nothing is said
        let mut given = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(given) => Some(given),
            _ => None,
        });
        let socket = given.next().and_then(|mut given| given.next());
        let text = String::from_utf8_lossy(&text[..heard.bytes]).into_owned();
        let name = || text.lines().find_map(|line| line.strip_prefix("FDNAME=")).expect("a name").to_owned();
        if text.contains("FDSTORE=1") {
            assert!(name().len() < 256 && !name().contains(':'), "{text}");
            self.kept.insert(name(), socket.expect("a socket"));
        } else if text.contains("FDSTOREREMOVE=1") {
            self.kept.remove(&name());
        }
        self.ready += u32::from(text.contains("READY=1"));
    }

    /// Starts a server with what is kept, as systemd would.
    fn start(&self, config: &Path) -> Child {
        const START: &str = "import fcntl, os, sys\nfds = [int(fd) for fd in sys.argv[1].split(',') if fd]\n\
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]\n[os.dup2(fd, 3 + i) for i, fd in enumerate(moved)]\n\
            os.environ['LISTEN_PID'] = str(os.getpid())\nos.closerange(3 + len(fds), 1000)\nos.execv(sys.argv[2], sys.argv[2:])\n";
        let copies: Vec<_> = self.kept.values().map(|socket| rustix::io::dup(socket).expect("another handle")).collect();
        let numbers: Vec<_> = copies.iter().map(|copy| std::os::fd::AsRawFd::as_raw_fd(copy).to_string()).collect();
        let names: Vec<_> = self.kept.keys().cloned().collect();
        let mut command = Command::new("python3");
        command.args(["-c", START, &numbers.join(","), env!("CARGO_BIN_EXE_flumen"), "-c"]).arg(config);
        command.env("NOTIFY_SOCKET", config.with_file_name("notify")).env("FDSTORE", "16").env("FLUMEN_LOG", "info");
        if !numbers.is_empty() {
            command.env("LISTEN_FDS", numbers.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_file_name("log")).expect("a log");
        command.stdout(Stdio::null()).stderr(log).spawn().expect("started")
    }
}

#[test]
fn a_server_that_is_killed_loses_nobody_who_connects_before_it_is_back() {
    let dir = std::env::temp_dir().join(format!("flumen-store-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let notified = UnixDatagram::bind(dir.join("notify")).expect("a socket");
    notified.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    let mut manager = Manager { notified, kept: BTreeMap::new(), ready: 0 };
    let [http, tls, raw, shoutcast, late] = [(); 5].map(|()| support::free_port());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("c.pem"), made.cert.pem()).expect("written");
    std::fs::write(dir.join("k.pem"), made.signing_key.serialize_pem()).expect("written");
    let (config, door) = (dir.join("flumen.toml"), dir.join("door"));
    let write = |more: &str| {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:{http}\", \"unix:{}\"{more}]\n[log]\naccess = \"none\"\n[[server.tls]]\n\
             listen = [\"127.0.0.1:{tls}\"]\ncertificates = [{{ cert = \"{1}/c.pem\", key = \"{1}/k.pem\" }}]\n\
             [push]\npassword = \"s3cret\"\nshoutcast = [\"127.0.0.1:{shoutcast}\"]\n{MP3}tcp = [\"127.0.0.1:{raw}\"]\n",
            door.display(),
            dir.display(),
        );
        std::fs::write(&config, text).expect("written");
    };
    write("");
    let mut child = manager.start(&config);
    manager.hear_until("at the start", |manager| manager.ready == 1);
    let names: Vec<_> = manager.kept.keys().cloned().collect();
    assert_eq!(names.len(), 5, "each socket of whatever kind: {names:?}");
    // A reload gives one more, and another takes it back.
    for (more, count) in [(format!(", \"127.0.0.1:{late}\""), 6), (String::new(), 5)] {
        write(&more);
        assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().expect("kill").success());
        manager.hear_until("at a reload", |manager| manager.kept.len() == count);
    }
    manager.hear_until("after two reloads", |manager| manager.ready == 3);
    child.kill().and_then(|()| child.wait()).expect("killed");
    // Nobody is there, and nobody is refused.
    let connect = |port: u16| {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it waits");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    };
    let (mut plain, mut bytes, mut encoder) = (connect(http), connect(raw), connect(shoutcast));
    plain.write_all(b"GET /radio.mp3 HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is written down");
    encoder.write_all(b"wrong\r\n").expect("as well");
    let mut inside = UnixStream::connect(&door).expect("it waits");
    inside.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("as well");
    let mut secure = Command::new("curl");
    secure.args(["-sk", "--max-time", "60", &format!("https://localhost:{tls}/healthz")]).stdout(Stdio::piped());
    let secure = secure.spawn().expect("curl");
    let mut child = manager.start(&config);
    let mut stream = support::Stream::open(plain);
    assert_eq!(stream.head.status, 200);
    stream.read(4000);
    bytes.read_exact(&mut [0; 4000]).expect("the stream");
    let mut answer = Vec::new();
    encoder.read_to_end(&mut answer).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), "invalid password\r\n");
    answer.clear();
    inside.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let told = secure.wait_with_output().expect("curl");
    assert!(told.status.success() && !told.stdout.is_empty());
    manager.hear_until("once more", |manager| manager.ready == 4);
    assert!(manager.kept.keys().eq(&names), "the same once more: {:?}", manager.kept.keys());
    let log = || std::fs::read_to_string(dir.join("log")).expect("a log");
    assert!(!log().contains("is closed"), "{}", log());
    // One that the configuration does not name any more is given up, and its port is free.
    child.kill().and_then(|()| child.wait()).expect("killed");
    std::fs::write(&config, format!("[server]\nlisten = [\"127.0.0.1:{tls}\"]\n{MP3}")).expect("written");
    let mut child = manager.start(&config);
    manager.hear_until("with less", |manager| manager.ready == 5);
    assert_eq!(manager.kept.len(), 1);
    assert!(TcpStream::connect(("127.0.0.1", raw)).is_err(), "nobody listens there");
    child.kill().and_then(|()| child.wait()).expect("killed");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn the_unit_leaves_little_to_somebody_who_gets_in() {
    let told = Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager"]).arg(packaging("flumen.service")).output();
    let Ok(told) = told else { return }; // no systemd on this machine
    let text = String::from_utf8_lossy(&told.stdout);
    let exposure = text.lines().find_map(|line| line.split("flumen.service: ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
    assert!(exposure.is_some_and(|exposure| exposure < 2.5), "{text}");
}

/// The package as it would be built for a release, of the binary under test.
#[test]
fn a_package_has_all_its_files_and_says_what_it_needs() {
    let folder = std::env::temp_dir().join(format!("flumen-deb-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let made =
        Command::new("sh").arg(packaging("make-deb")).arg(env!("CARGO_BIN_EXE_flumen")).arg(&folder).env("DEB_COMPRESS", "none").output();
    let made = made.expect("sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let package = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let ask = |what: &str| {
        let told = Command::new("dpkg-deb").args([what, &package]).output().expect("dpkg-deb");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    let (facts, files) = (ask("--info"), ask("--contents"));
    for part in ["Depends: ", "libgstreamer1.0-0", "libc6", "Version: 0."] {
        assert!(facts.contains(part), "{part}: {facts}");
    }
    for file in [
        "usr/bin/flumen",
        "usr/lib/systemd/system/flumen.service",
        "usr/lib/systemd/system/flumen.socket",
        "usr/lib/sysusers.d/flumen.conf",
        "usr/lib/tmpfiles.d/flumen.conf",
        "etc/flumen/flumen.toml",
        "etc/logrotate.d/flumen",
        "usr/share/man/man8/flumen.8.gz",
        "usr/share/bash-completion/completions/flumen",
        "usr/share/zsh/vendor-completions/_flumen",
        "usr/share/fish/vendor_completions.d/flumen.fish",
        "usr/share/doc/flumen/README.md",
        "usr/share/doc/flumen/docs/limits.md",
        "usr/share/doc/flumen/docs/runbook.md",
        "usr/share/doc/flumen/flumen.example.toml",
        "usr/share/doc/flumen/copyright",
        "usr/share/flumen/dashboards/alerts.yml",
    ] {
        assert!(files.contains(&format!("./{file}\n")), "{file}: {files}");
    }
    let unpacked = folder.join("unpacked");
    assert!(Command::new("dpkg-deb").args(["-R", &package]).arg(&unpacked).status().expect("dpkg-deb").success());
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        assert!(Command::new("sh").arg("-n").arg(unpacked.join("DEBIAN").join(script)).status().expect("sh").success(), "{script}");
    }
    let checked = Command::new(unpacked.join("usr/bin/flumen")).args(["check", "-c"]).arg(unpacked.join("etc/flumen/flumen.toml")).output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn the_files_name_what_is_there() {
    let docker = std::fs::read_to_string(packaging("Dockerfile")).expect("the Dockerfile");
    for line in
        docker.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from") && !line.starts_with('.'))
    {
        let source = line.split(' ').next().expect("a source");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists(), "{source}");
    }
    for part in ["USER 10001", "HEALTHCHECK", "STOPSIGNAL SIGTERM", "EXPOSE 8000"] {
        assert!(docker.contains(part), "{part}");
    }
    let (unit, rotate) = (std::fs::read_to_string(packaging("flumen.service")), std::fs::read_to_string(packaging("flumen.logrotate")));
    let (unit, rotate) = (unit.expect("the unit"), rotate.expect("logrotate's file"));
    assert!(unit.contains("FileDescriptorStoreMax=512\nEnvironment=FDSTORE=512\n"), "it says what it keeps");
    assert!(unit.contains("Type=notify") && unit.contains("WatchdogSec=") && unit.contains("LogsDirectory=flumen"));
    assert!(rotate.contains("/var/log/flumen/*.log") && rotate.contains("HUP"));
}
