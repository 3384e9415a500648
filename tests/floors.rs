//! The house checks itself: imports look down only, siblings do not see each other, and heavy dependencies stay in their rooms.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; rooms on one floor are siblings.
const FLOORS: &[&[&str]] = &[
    &["units", "handover"],
    &["wire", "access", "journal", "webhook"],
    &["fanout", "bouncer"],
    &["engine"],
    &["mount", "door"],
    &["ingest", "delivery", "chronicle"],
    &["acme", "admin", "directory", "metrics", "supervisor"],
    &["config"],
    &["cli"],
    &["app", "fuzzing"],
];

/// A crate (or a module of one), and the rooms that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("gstreamer", &["ingest"]),
    ("gstreamer_app", &["ingest"]),
    ("prometheus", &["metrics"]),
    ("dashmap", &["mount"]),
    ("mio", &["engine", "door"]),
    ("rustix", &["engine", "door", "app"]),
    ("socket2", &["door"]),
    ("listenfd", &["door"]),
    ("nix", &["config", "app"]),
    ("rustls", &["engine", "door", "ingest", "webhook"]),
    ("tokio_rustls", &["door", "ingest"]),
    ("x509_cert", &["door"]),
    ("actix_http", &["door", "delivery"]),
    ("instant_acme", &["acme"]),
    ("actix_web", &["acme", "door", "ingest", "delivery", "admin", "metrics", "app"]),
    ("actix", &["mount", "ingest", "supervisor", "app"]),
    ("toml", &["config"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("loom", &["engine"]),
    ("ureq", &["cli", "app", "webhook", "directory", "bouncer"]),
    ("httpdate", &["journal"]),
    ("sd_notify", &["app"]),
    ("argon2", &["access"]),
    ("ring", &["access", "door", "ingest"]),
    ("bcrypt", &["access"]),
    ("encoding_rs", &["wire"]),
    ("roxmltree", &["config", "fuzzing"]),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Every file of `src`, with its room and its code without comments.
fn house() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut house = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).expect("under src").to_string_lossy().into_owned();
        let room = name.split('/').next().expect("a first part").trim_end_matches(".rs").to_string();
        if room == "lib" || room == "main" {
            continue; // the doors of the house: they name everybody
        }
        let text = fs::read_to_string(&path).expect("a source file");
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        house.push((name, room, code));
    }
    assert!(house.len() > 20, "the house is larger than {} files", house.len());
    house
}

/// What follows each `prefix` in the code, up to the end of the word.
fn words_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |at: usize| code[at..].split(|c| !is_word(c)).next().unwrap_or_default();
    code.match_indices(prefix).filter(|(i, _)| !code[..*i].ends_with(is_word)).map(|(i, _)| word(i + prefix.len())).collect()
}

#[test]
fn imports_only_look_down() {
    for (file, room, code) in house() {
        let own = floor(&room).unwrap_or_else(|| panic!("{file}: the room {room} has no floor"));
        for used in words_after(&code, "crate::") {
            if used == room || used.is_empty() {
                continue;
            }
            let Some(other) = floor(used) else { continue };
            assert!(other < own, "{file}: {room} (floor {own}) reaches for {used} (floor {other})");
        }
        assert!(!code.contains("use crate::{"), "{file}: one `use` per room, so that this test can read it");
    }
}

#[test]
fn heavy_dependencies_stay_in_their_rooms() {
    for (file, room, code) in house() {
        for (dependency, homes) in HOMES {
            let named = code.contains(&format!("use {dependency}::"))
                || code.contains(&format!(" {dependency}::"))
                || code.contains(&format!("({dependency}::"));
            assert!(!named || homes.contains(&room.as_str()), "{file}: {dependency} belongs to {homes:?}");
        }
    }
}

#[test]
fn the_pure_floors_know_no_clock_lock_or_socket() {
    const WORLDLY: &[&str] = &[
        "Instant::now",
        "SystemTime",
        "Mutex",
        "RwLock",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs", // an address is a value, a name is asked for
        "std::fs",
        "std::thread",
        "tokio",
        "async fn",
        "println!",
    ];
    for (file, room, code) in house() {
        if ["units", "handover", "wire", "fanout"].contains(&room.as_str()) {
            for word in WORLDLY {
                assert!(!code.contains(word), "{file}: {word} in a pure room");
            }
        }
    }
}

#[test]
fn no_shell_is_ever_started_and_programs_only_by_the_app() {
    for (file, room, code) in house() {
        let tested = code.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(room == "app" || !tested.contains("process::Command"), "{file}: starts a program");
        for shell in ["\"sh\"", "\"bash\"", "\"/bin/sh\"", "\"/bin/bash\""] {
            assert!(!tested.contains(shell), "{file}: names a shell");
        }
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    for (file, _, _) in house() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file)).expect("a source file");
        let lines = text.lines().count();
        assert!(lines <= 620, "{file} has {lines} lines: it is asking to become two");
        assert!(text.starts_with("//!"), "{file} has no head that tells its purpose");
    }
}
