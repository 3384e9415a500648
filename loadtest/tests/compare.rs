//! The `compare` command against real servers: the workspace's own flumen, the floor, and whatever peers are installed.
//!
//! It fails when the tool fails: no result, a process left behind, a directory left behind. Never for a figure, so never for a slow machine.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PEERS: [&str; 5] = ["floor", "icecast2", "multifdsink", "multisocketsink", "cubemap"];

/// A tool that is killed if a test ends before it does.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tool {
    fn start(line: &str, home: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(line.split_whitespace()).env("TMPDIR", home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self(command.spawn().expect("the tool starts"))
    }

    /// Its exit code and what it printed.
    fn finish(mut self, most: Duration) -> (Option<i32>, String) {
        let mut stdout = self.0.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let end = Instant::now() + most;
        let code = loop {
            match self.0.try_wait().expect("waits") {
                Some(status) => break status.code(),
                None => assert!(Instant::now() < end, "it goes on for more than {most:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        (code, reader.join().expect("joins").expect("reads"))
    }
}

/// A directory for what the tool writes.
fn home(name: &str) -> PathBuf {
    let home = std::env::temp_dir().join(format!("loadtest-test-{name}-{}", std::process::id()));
    fs::create_dir_all(&home).expect("a directory");
    home
}

/// Processes of this machine with `home` in their arguments: whatever the tool started and configured.
fn left_behind(home: &Path) -> Vec<String> {
    let home = home.to_str().expect("text");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter_map(|words| {
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            words.contains(home).then_some(words)
        })
        .collect()
}

#[test]
fn the_quick_preset_measures_whoever_is_here_and_says_who_is_not() {
    let home = home("quick");
    let (json, report) = (home.join("result.json"), home.join("report.html"));
    let line = format!("compare --preset quick --ports 24700 --format json --json {} --report {}", json.display(), report.display());
    let (code, text) = Tool::start(&line, &home).finish(Duration::from_secs(300));
    assert_eq!(code, Some(0), "{text}");

    let result: Value = serde_json::from_str(&fs::read_to_string(&json).expect("a result")).expect("JSON");
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the last line is the result");
    assert_eq!((&last["type"], &last["rows"]), (&Value::from("result"), &result["rows"]));
    let contestants = result["rows"][0]["peers"].as_array().expect("a row");
    let names: Vec<&str> = contestants.iter().filter_map(|peer| peer["name"].as_str()).collect();
    for peer in PEERS.iter().chain(&["flumen"]) {
        assert_ne!(names.contains(peer), result["skipped"][peer].is_string(), "{peer} is either measured or skipped");
    }
    assert!(names.contains(&"floor"));
    assert!(names.contains(&"flumen"), "not built: cargo build --bin flumen, or cargo test --workspace");
    for peer in contestants {
        let figures = &peer["rounds"][0];
        for figure in ["cpu_percent", "us_per_listener_second", "first_byte_p99_ms", "delivered_percent", "corrupt"] {
            assert!(figures[figure].is_number(), "{figure}: {peer}");
        }
        assert!(figures["units_verified"].as_f64().is_some_and(|n| n > 0.0), "somebody's content was checked: {peer}");
        let ratios = peer["flumen_over_this"].as_object().expect("ratios");
        assert_eq!(ratios.is_empty(), peer["name"] == "flumen", "{peer}");
    }
    assert!(fs::read_to_string(&report).expect("a page").contains("<svg"));

    for file in [json, report] {
        fs::remove_file(file).expect("removed");
    }
    assert_eq!(left_behind(&home), [""; 0]);
    fs::remove_dir(&home).expect("the tool cleans up after itself");
}

#[test]
fn every_preset_runs_to_its_end_with_a_few_listeners() {
    let presets = [("audio", 2), ("video", 4), ("scale", 4), ("latency", 2), ("join", 2), ("stalled", 2)];
    let ports = (24_900..).step_by(200);
    let tools: Vec<_> = presets
        .into_iter()
        .zip(ports)
        .map(|((preset, rows), ports)| {
            let home = home(preset);
            let short = "--peers floor --rounds 1 --shrink 500 --settle 300ms --duration 1s --format json";
            let line = format!("compare --preset {preset} {short} --ports {ports}");
            (Tool::start(&line, &home), home, preset, rows)
        })
        .collect();
    for (tool, home, preset, rows) in tools {
        let (code, text) = tool.finish(Duration::from_secs(300));
        assert_eq!(code, Some(0), "{preset}: {text}");
        let result: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the last line is the result");
        let measured = result["rows"].as_array().expect("rows");
        assert_eq!(measured.len(), rows, "{preset}");
        for row in measured {
            for peer in row["peers"].as_array().expect("a row") {
                let verified = peer["rounds"][0]["units_verified"].as_f64();
                assert!(verified.is_some_and(|count| count > 0.0), "somebody's content was checked: {row}");
            }
        }
        assert_eq!(left_behind(&home), [""; 0]);
        fs::remove_dir(&home).expect("the tool cleans up after itself");
    }
}

#[test]
fn an_interrupted_comparison_ends_all_it_has_started() {
    let home = home("interrupted");
    let line = "compare --work 20x128kbit/s --peers floor --flumen /nowhere --duration 60s --ports 24800 --format json";
    let tool = Tool::start(line, &home);
    let end = Instant::now() + Duration::from_secs(60);
    // The listeners' result has a place in the home of their measurement.
    while left_behind(&home).is_empty() {
        assert!(Instant::now() < end, "nobody listens");
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupted = Command::new("kill").args(["-INT", &tool.0.id().to_string()]).status().expect("kill");
    assert!(interrupted.success());
    let (code, _) = tool.finish(Duration::from_secs(30));
    assert_eq!(code, Some(1));
    assert_eq!(left_behind(&home), [""; 0]);
    fs::remove_dir(&home).expect("the tool cleans up after itself");
}

#[test]
fn a_comparison_with_nobody_is_refused() {
    let home = home("nobody");
    let (code, _) = Tool::start("compare --preset quick --flumen /nowhere --peers flumen", &home).finish(Duration::from_secs(30));
    assert_eq!(code, Some(1));
    let (code, _) = Tool::start("compare", &home).finish(Duration::from_secs(30));
    assert_eq!(code, Some(64));
    fs::remove_dir(&home).expect("nothing was written");
}
