//! The soak in its short form, against the real server: proves that the tool works, on any machine. Figures are not looked at.
//!
//! The server is the workspace's own, built by the same `cargo test --workspace`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The server beside the tool.
fn flumen() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("flumen");
    assert!(beside.exists(), "{} has not been built: cargo build --bin flumen, or cargo test --workspace", beside.display());
    beside
}

/// A folder that goes when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("loadtest-soak-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A few listeners of every kind, and faults as often as can be.
fn soak(flumen: &Path, folder: &Folder, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("soak").arg("--flumen").arg(flumen).arg("--dir").arg(&folder.0);
    command.args(["-n", "30", "--interval", "500ms", "--faults-every", "2s", "--kicks-every", "1s", "--reload-every", "2s"]);
    command.args(["--visits", "10/s", "--churn", "4/s", "--slow", "10%@4KiB/s", "--stalled", "10%", "--format", "json"]).args(more);
    command
}

fn result(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    let result: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}\n{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(result["type"], "result");
    result
}

#[test]
fn a_short_soak_finds_nothing_and_leaves_its_report() {
    let flumen = flumen();
    let folder = Folder::new("short");
    let output = soak(&flumen, &folder, &["--duration", "10s"]).output().expect("runs");
    let result = result(&output);
    assert_eq!((&result["verdict"], &result["reasons"]), (&"good".into(), &Value::Array(Vec::new())), "{result:#}");
    assert!(output.status.success());
    let (totals, n) = (&result["totals"], |name: &str| result["totals"][name].as_u64().unwrap_or_else(|| panic!("{name}")));
    assert!(n("joined") > 30 && n("units") > 1_000 && n("runs") > 3 && n("answers") > 10, "{totals}");
    assert!(n("kicks") > 0 && n("reloads") > 0 && !totals["faults"].as_object().expect("by kind").is_empty(), "{totals}");
    assert_eq!(n("joined"), n("left") + n("kicked") + n("removed") + n("lost"), "the tool's own books close");
    for line in folder.text("samples.jsonl").lines() {
        let sample: Value = serde_json::from_str(line).expect("a sample a line");
        assert!(sample["weight"]["rss_kib"].as_u64() > Some(0) && sample["server"]["joins"].is_u64(), "{sample}");
    }
    let page = folder.text("report.html");
    assert!(page.contains("loadtest soak: good") && page.matches("<svg").count() >= 8);
    assert_eq!(serde_json::from_str::<Value>(&folder.text("result.json")).expect("JSON")["verdict"], "good");
}

#[test]
fn a_soak_that_is_stopped_can_be_gone_on_with() {
    let flumen = flumen();
    let folder = Folder::new("resumed");
    let child = soak(&flumen, &folder, &["--duration", "6s"]).stdout(std::process::Stdio::piped()).spawn().expect("runs");
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.0.join("state.json").exists() {
        assert!(Instant::now() < patience, "no sample was taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().expect("told to stop");
    let first = result(&child.wait_with_output().expect("ends"));
    assert_eq!((&first["stopped"], &first["reasons"]), (&true.into(), &Value::Array(Vec::new())), "{first:#}");

    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["soak", "--format", "json", "--resume"])
        .arg(&folder.0)
        .output()
        .expect("goes on");
    let second = result(&output);
    assert_eq!((&second["verdict"], &second["sessions"], &second["stopped"]), (&"good".into(), &2.into(), &false.into()), "{second:#}");
    assert!(second["seconds"].as_f64() >= Some(6.0) && second["totals"]["joined"].as_u64() >= Some(60), "{second:#}");
}

#[test]
fn a_server_that_dies_is_told_and_ends_the_soak() {
    let flumen = flumen();
    let folder = Folder::new("killed");
    let child = soak(&flumen, &folder, &["--duration", "60s"]).stdout(std::process::Stdio::piped()).spawn().expect("runs");
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.0.join("state.json").exists() {
        assert!(Instant::now() < patience, "no sample was taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    let server = server_of(child.id()).expect("the tool has a child");
    Command::new("kill").arg("-KILL").arg(server.to_string()).status().expect("killed");
    let killed = Instant::now();
    let output = child.wait_with_output().expect("ends");
    let result = result(&output);
    assert!(result["reasons"].as_array().expect("a list").contains(&"died".into()), "{result:#}");
    assert_eq!(output.status.code(), Some(1));
    assert!(killed.elapsed() < Duration::from_secs(55), "not before its time");
}

/// The child of a process.
fn server_of(parent: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
