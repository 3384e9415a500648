//! `flumen status`: what a running server says of itself, as a table.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

use super::remote::{Remote, RemoteError};
use crate::cli::Server;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Mount {
    path: String,
    content_type: Option<String>,
    bitrate_bps: Option<f64>,
    listeners: u64,
    listeners_peak: u64,
    lag_seconds_max: f64,
    source: Source,
    ring: Ring,
}

#[derive(Debug, Deserialize)]
struct Source {
    up: bool,
    lacking: bool,
    restarts: u64,
    fault: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ring {
    seconds: f64,
}

#[derive(Debug, Default, Deserialize)]
struct Health {
    advice: Vec<Advice>,
}

#[derive(Debug, Deserialize)]
struct Advice {
    severity: String,
    mount: Option<String>,
    subject: Option<String>,
    says: String,
    remedy: String,
}

/// Asks a server and draws a table: mounts, listeners, history; and what needs attention, where operators ask.
///
/// # Errors
/// When it does not answer.
pub(super) fn table(server: &Server) -> Result<String, RemoteError> {
    let remote = Remote::new(server, PATIENCE)?;
    let mounts = remote.get("/api/v1/mounts")?;
    if !mounts.is_success() {
        return Err(remote.silent(ureq::Error::StatusCode(mounts.status)));
    }
    let mounts: Vec<Mount> = serde_json::from_str(&mounts.text).map_err(|error| remote.silent(ureq::Error::Other(Box::new(error))))?;
    let ready = remote.get("/readyz")?.is_success();
    // Who is no operator is not told; an older server has nothing to tell.
    let health = remote.get("/api/v1/health")?;
    let health = if health.is_success() { serde_json::from_str(&health.text).unwrap_or_default() } else { Health::default() };
    Ok(draw(&mounts, ready, &health))
}

fn draw(mounts: &[Mount], ready: bool, health: &Health) -> String {
    let mut rows = vec![["MOUNT", "SOURCE", "TYPE", "KBIT/S", "LISTENERS", "PEAK", "LAG", "HISTORY", "RESTARTS"].map(str::to_owned)];
    for mount in mounts {
        let source = match (&mount.source, mount.source.up) {
            (_, true) => "up".to_owned(),
            (source, false) if source.lacking => {
                source.fault.as_ref().map_or("down".to_owned(), |fault| format!("down: {}", fault.chars().take(40).collect::<String>()))
            }
            _ => "waiting".to_owned(),
        };
        rows.push([
            mount.path.clone(),
            source,
            mount.content_type.clone().unwrap_or_else(|| "-".to_owned()),
            mount.bitrate_bps.map_or("-".to_owned(), |rate| format!("{:.0}", rate / 1000.0)),
            mount.listeners.to_string(),
            mount.listeners_peak.to_string(),
            format!("{:.1}s", mount.lag_seconds_max),
            format!("{:.1}s", mount.ring.seconds),
            mount.source.restarts.to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(table, "{}", line.join("  ").trim_end()); // a string takes everything
    }
    let listeners: u64 = mounts.iter().map(|mount| mount.listeners).sum();
    let _ = writeln!(table, "\n{listeners} listeners on {} mounts; {}", mounts.len(), if ready { "ready" } else { "not ready" });
    for Advice { severity, mount, subject, says, remedy } in &health.advice {
        let about = mount.as_deref().or(subject.as_deref()).unwrap_or("server");
        let _ = writeln!(table, "\n{severity}: {about}: {says}\n    {remedy}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_is_on_air_and_what_is_not() {
        let json = r#"[
            {"path":"/a.mp3","content_type":"audio/mpeg","bitrate_bps":128000.0,"listeners":3,"listeners_peak":5,"lag_seconds_max":0.32,
             "source":{"up":true,"lacking":false,"restarts":0,"fault":null},"ring":{"seconds":10.04}},
            {"path":"/b.ogg","content_type":null,"bitrate_bps":null,"listeners":0,"listeners_peak":0,"lag_seconds_max":0.0,
             "source":{"up":false,"lacking":true,"restarts":7,"fault":"no signal"},"ring":{"seconds":0.0}}]"#;
        let mounts: Vec<Mount> = serde_json::from_str(json).expect("mounts");
        let table = draw(&mounts, false, &Health::default());
        assert!(table.contains("/a.mp3  up               audio/mpeg  128     3          5     0.3s  10.0s    0\n"), "{table}");
        assert!(table.contains("down: no signal") && table.ends_with("3 listeners on 2 mounts; not ready\n"), "{table}");
        let health = r#"{"status":"critical","advice":[{"about":"source_missing","severity":"critical","mount":"/b.ogg","subject":null,
            "says":"there is no source: no signal","remedy":"mend it"}]}"#;
        let table = draw(&mounts, false, &serde_json::from_str(health).expect("health"));
        assert!(table.ends_with("\ncritical: /b.ogg: there is no source: no signal\n    mend it\n"), "{table}");
    }
}
