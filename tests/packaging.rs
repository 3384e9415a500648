//! The files for those who install: the unit against systemd's own checker, and what the server tells a service manager.

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
        "usr/share/doc/flumen/flumen.example.toml",
        "usr/share/doc/flumen/copyright",
        "usr/share/flumen/dashboards/alerts.yml",
    ] {
        assert!(files.contains(&format!("./{file}\n")), "{file}: {files}");
    }
    let unpacked = folder.join("unpacked");
    assert!(Command::new("dpkg-deb").args(["-R", &package]).arg(&unpacked).status().expect("dpkg-deb").success());
    for script in ["postinst", "prerm", "postrm"] {
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
    assert!(unit.contains("Type=notify") && unit.contains("WatchdogSec=") && unit.contains("LogsDirectory=flumen"));
    assert!(rotate.contains("/var/log/flumen/*.log") && rotate.contains("HUP"));
}
