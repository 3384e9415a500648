//! Every scenario by the instructions it takes, counted by valgrind: the same on a busy machine as on an idle one.
//!
//! ```text
//!   cargo bench --bench instructions [-- NAME…]      compare with what is recorded: `make bench`
//!   cargo bench --bench instructions -- --record     record anew: `make bench-record`
//! ```
//! - Each scenario is run in a process of its own, without an environment: prepared, run once to warm up, and counted once.
//!   Callgrind counts within one function ([`counted_from_here`]), so what a scenario needs first costs time and no figure.
//! - What callgrind saw stays in a file for `callgrind_annotate`.
//! - Figures are those of one compiler and one libc; a new toolchain is a reason to record anew.
//! - Nobody fails on a figure. What `cargo test` does here is to see that the machinery works.

mod scenario;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use scenario::{ALL, Scenario};

/// Differences up to this are not worth a look.
const WORTH_A_LOOK: f64 = 0.02;
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/recorded.toml");

/// Instructions per unit of work, by scenario.
type Figures = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &words[..]
        && flag == "--counted"
    {
        run_counted(find(name));
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if !has("--bench") {
        return try_the_machinery(); // `cargo test` says `--bench` to nobody
    }
    let chosen: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let scenarios: Vec<_> = ALL.iter().filter(|one| chosen.is_empty() || chosen.iter().any(|part| one.name.contains(*part))).collect();
    let counted = match count_all(&scenarios) {
        Ok(counted) => counted,
        Err(problem) => return fail(&problem),
    };
    if has("--record") {
        let mut figures = recorded().unwrap_or_default();
        figures.extend(counted);
        figures.retain(|name, _| ALL.iter().any(|scenario| scenario.name == name));
        return match std::fs::write(RECORDED, file_of(&figures)) {
            Ok(()) => say(&format!("recorded in {RECORDED}\n")),
            Err(error) => fail(&format!("{RECORDED}: {error}")),
        };
    }
    match recorded() {
        Ok(figures) => say(&table(&scenarios, &figures, &counted)),
        Err(problem) => fail(&problem),
    }
}

/// Callgrind counts what happens in here, and nothing else of the process.
#[inline(never)]
fn counted_from_here(run: &mut dyn FnMut()) {
    run();
    std::hint::black_box(()); // keeps the call from becoming a jump that leaves this function
}

fn run_counted(scenario: &Scenario) {
    let mut run = (scenario.prepare)();
    run();
    counted_from_here(&mut run);
}

fn find(name: &str) -> &'static Scenario {
    ALL.iter().find(|scenario| scenario.name == name).unwrap_or_else(|| panic!("there is no scenario {name:?}"))
}

/// Where callgrind's files go.
fn out_file(scenario: &Scenario) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{}.out", scenario.name))
}

/// Instructions per unit of each scenario. Other processes do not change a count, so as many run as there are cores.
fn count_all(scenarios: &[&Scenario]) -> Result<Figures, String> {
    let (next, figures) = (AtomicUsize::new(0), Mutex::new(Ok(Figures::new())));
    let work = || {
        while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
            let counted = count(scenario);
            let mut figures = figures.lock().expect("no panic");
            match (counted, &mut *figures) {
                (Ok(figure), Ok(figures)) => drop(figures.insert(scenario.name.into(), figure)),
                (Err(problem), figures) => *figures = Err(problem),
                (Ok(_), Err(_)) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    figures.into_inner().expect("no panic")
}

/// Instructions per unit of one scenario.
fn count(scenario: &Scenario) -> Result<f64, String> {
    let (me, out) = (std::env::current_exe().map_err(|error| error.to_string())?, out_file(scenario));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted_from_here*", "--dump-line=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(me)
        .args(["--counted", scenario.name]);
    // The environment lies on the stack, and a longer one moves everything above it.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ended = command.env_clear().env("PATH", path).output().map_err(|error| format!("valgrind: {error}"))?;
    if !ended.status.success() {
        return Err(format!("{}: {}\n{}", scenario.name, ended.status, String::from_utf8_lossy(&ended.stderr)));
    }
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    match total {
        Some(instructions) if instructions > 0 => Ok(instructions as f64 / scenario.units as f64),
        _ => Err(format!("{}: callgrind counted nothing", scenario.name)),
    }
}

fn recorded() -> Result<Figures, String> {
    let text = std::fs::read_to_string(RECORDED).map_err(|error| format!("{RECORDED}: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("{RECORDED}: {error}"))
}

/// The file of figures, in the order of the scenarios.
fn file_of(figures: &Figures) -> String {
    let compiler = Command::new("rustc").arg("--version").output().map(|ended| String::from_utf8_lossy(&ended.stdout).trim().to_owned());
    let mut text = format!(
        "# Instructions per unit of work, by scenario (benches/scenario/mod.rs). Written by `make bench-record`.\n# {}, {}\n\n",
        compiler.unwrap_or_default(),
        std::env::consts::ARCH
    );
    for scenario in ALL {
        if let Some(figure) = figures.get(scenario.name) {
            writeln!(text, "{} = {figure:.1} # per {}", scenario.name, scenario.unit).expect("a string takes everything");
        }
    }
    text
}

/// What was recorded, what is now, and whether that is worth a look.
fn table(scenarios: &[&Scenario], recorded: &Figures, counted: &Figures) -> String {
    let mut text = format!("{:<24}{:>14}{:>14}{:>9}  instructions per\n", "", "recorded", "now", "ratio");
    for scenario in scenarios {
        let now = counted[scenario.name];
        let Some(&before) = recorded.get(scenario.name) else {
            writeln!(text, "{:<24}{:>14}{now:>14.1}{:>9}  {}", scenario.name, "-", "-", scenario.unit).expect("a string takes everything");
            continue;
        };
        let ratio = now / before;
        let verdict = match ratio - 1.0 {
            more if more > WORTH_A_LOOK => "  <- more",
            less if less < -WORTH_A_LOOK => "  <- less",
            _ => "",
        };
        writeln!(text, "{:<24}{before:>14.1}{now:>14.1}{ratio:>9.3}  {}{verdict}", scenario.name, scenario.unit)
            .expect("a string takes everything");
    }
    writeln!(text, "callgrind_annotate reads {}/callgrind.*.out", env!("CARGO_TARGET_TMPDIR")).expect("a string takes everything");
    text
}

/// What `cargo test` runs: one scenario, once; and the recorded figures fit the scenarios.
fn try_the_machinery() -> ExitCode {
    run_counted(find("gather_mp3_250ms"));
    let figures = recorded().expect("recorded figures");
    let names: Vec<_> = ALL.iter().map(|scenario| scenario.name.to_owned()).collect();
    assert_eq!(figures.len(), names.len(), "`make bench-record` records what is missing and drops what is gone");
    assert!(names.iter().all(|name| figures[name] > 0.0));
    let scenarios: Vec<_> = ALL.iter().collect();
    assert!(!table(&scenarios, &figures, &figures).contains("<-"), "what is the same is not worth a look");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "a command that prints")]
fn say(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::FAILURE
}
