//! `flumen reload`, `flumen drain` and `flumen upgrade`: an order to a running server, and what it says came of it.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

use super::remote::{Remote, RemoteError};
use crate::cli::Server;

/// How long a server may take: it builds every pipeline to check it.
const PATIENCE: Duration = Duration::from_secs(130);

/// The server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It did not answer, or not as flumen does.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It said why not.
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reloaded {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Changed>,
    sources: Vec<String>,
    opened: Vec<String>,
    closed: Vec<String>,
    settings: Vec<String>,
    needs_restart: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Changed {
    mount: String,
    keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Upgraded {
    pid: u32,
    version: String,
    listeners: u64,
    left: u64,
    stall_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Draining {
    listeners: u64,
}

/// Lets the server read its configuration anew; what changed, in lines.
pub(super) fn reload(server: &Server) -> Result<String, AskError> {
    Ok(draw(&post(server, "/api/v1/reload")?))
}

/// Lets the server let nobody in any more.
pub(super) fn drain(server: &Server) -> Result<String, AskError> {
    let Draining { listeners } = post(server, "/api/v1/drain")?;
    Ok(format!("nobody is let in any more; {listeners} listeners are sent what is queued for them, and leave\n"))
}

/// Lets another binary take over.
pub(super) fn upgrade(server: &Server) -> Result<String, AskError> {
    let Upgraded { pid, version, listeners, left, stall_ms } = post(server, "/api/v1/upgrade")?;
    let stall =
        stall_ms.map_or_else(|| "it does not say for how long they stood still".to_owned(), |ms| format!("they stood still for {ms} ms"));
    let mut text = format!("flumen {version} has taken over as process {pid}\n{listeners} listeners go on; {stall}\n");
    if left > 0 {
        let _ = writeln!(text, "{left} over TLS are sent what is queued for them, and leave"); // a string takes everything
    }
    Ok(text)
}

fn post<T: serde::de::DeserializeOwned>(server: &Server, path: &str) -> Result<T, AskError> {
    let remote = Remote::new(server, PATIENCE)?;
    let answer = remote.post(path)?;
    if answer.is_success() {
        return serde_json::from_str(&answer.text).map_err(|error| remote.silent(ureq::Error::Other(Box::new(error))).into());
    }
    Err(match serde_json::from_str::<Refusal>(&answer.text) {
        Ok(refusal) => AskError::Refused(refusal.error),
        // Who is not taken for an operator is told so in a line of text.
        Err(_) if (400..500).contains(&answer.status) => AskError::Refused(answer.text.lines().next().unwrap_or_default().to_owned()),
        Err(_) => remote.silent(ureq::Error::StatusCode(answer.status)).into(),
    })
}

fn draw(done: &Reloaded) -> String {
    let mut text = String::new();
    let mut say = |what: &str, values: &[String]| {
        for value in values {
            let _ = writeln!(text, "{what:<15} {value}"); // a string takes everything
        }
    };
    say("opened mount", &done.added);
    say("closed mount", &done.removed);
    let changed: Vec<_> = done.changed.iter().map(|change| format!("{}: {}", change.mount, change.keys.join(", "))).collect();
    say("changed mount", &changed);
    say("source anew", &done.sources);
    say("listens on", &done.opened);
    say("listens no more", &done.closed);
    say("changed", &done.settings);
    say("needs restart", &done.needs_restart);
    if text.is_empty() {
        text.push_str("nothing has changed\n");
    }
    for warning in &done.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_said_in_lines() {
        let json = r#"{"added":["/b"],"removed":[],"changed":[{"mount":"/a","keys":["burst","keep"]}],"sources":["/a"],"opened":["[::1]:1"],
            "closed":[],"settings":["server.listen"],"needs_restart":["server.shards"],"warnings":["w"]}"#;
        let want = "opened mount    /b\nchanged mount   /a: burst, keep\nsource anew     /a\nlistens on      [::1]:1\nchanged         server.listen\n\
                    needs restart   server.shards\nwarning: w\n";
        assert_eq!(draw(&serde_json::from_str(json).expect("an answer")), want);
        assert_eq!(draw(&Reloaded::default()), "nothing has changed\n");
    }
}
