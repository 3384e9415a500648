//! Relays both ways with icecast2 itself, and a whole server mirrored: what comes out is decoded by ffmpeg without an error.
//!
//! It needs the package icecast2 (`make test` installs it); where it is missing the tests say so.

mod support;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::icecast::{Icecast, PASSWORD, installed};
use support::{MP3, Server, until};

const SECOND: Duration = Duration::from_secs(1);

/// Listens with ffmpeg for three seconds, and says what it complains of.
fn decodes(url: &str) {
    let output =
        Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-i", url, "-t", "3", "-f", "framecrc", "-"]).output().expect("ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty() && !output.stdout.is_empty(), "{url}: {said}");
}

/// One icecast2 at a time: of several on a busy machine one may go away. `None`: it is not installed, and that is said.
fn icecast_alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    if !installed() {
        eprintln!("icecast2 is not installed: nothing is relayed");
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn icecast_pulls_from_flumen() {
    let Some(_alone) = icecast_alone() else { return };
    let origin = Server::start(&MP3.replace("is-live=true", "is-live=true wave=pink-noise"));
    let relay = format!(
        "<relay><server>127.0.0.1</server><port>{}</port><mount>/radio.mp3</mount><local-mount>/relayed.mp3</local-mount>\
         <on-demand>0</on-demand><relay-shoutcast-metadata>1</relay-shoutcast-metadata></relay>",
        origin.port
    );
    let icecast = Icecast::start(&relay);
    assert!(until(SECOND * 20, || origin.metric("flumen_listeners", &[]) == 1.0), "icecast2 does not pull");
    decodes(&icecast.url("/relayed.mp3"));
}

#[test]
fn flumen_pulls_from_icecast_and_from_flumen_in_turn() {
    let Some(_alone) = icecast_alone() else { return };
    let mut icecast = Icecast::start("");
    icecast.encode("/live.mp3");
    let first = Server::start(&format!("[[mount]]\npath = \"/first\"\nrelay = \"{}\"\n", icecast.url("/live.mp3")));
    let second = Server::start(&format!("[[mount]]\npath = \"/second\"\nrelay = \"{}\"\n", first.url("/first")));
    decodes(&first.url("/first"));
    decodes(&second.url("/second"));
    assert!(second.get("/status-json.xsl").body_text().contains("All day"), "what it is called comes along");
}

#[test]
fn icecast_mirrors_a_flumen_by_the_password_of_relays() {
    let Some(_alone) = icecast_alone() else { return };
    let origin = Server::start(&format!("[relay]\npassword = \"{PASSWORD}\"\n[admin]\npassword = \"s3cret\"\n{MP3}"));
    let icecast = Icecast::start(&format!(
        "<master-server>127.0.0.1</master-server><master-server-port>{}</master-server-port><master-update-interval>2</master-update-interval>\
         <master-username>relay</master-username><master-password>{PASSWORD}</master-password>",
        origin.port
    ));
    assert!(until(SECOND * 30, || origin.metric("flumen_listeners", &[]) == 1.0), "icecast2 does not pull; {}", origin.log());
    decodes(&icecast.url("/radio.mp3"));
}

#[test]
fn all_mounts_of_an_icecast_are_mounts_here_as_long_as_they_are_there() {
    let Some(_alone) = icecast_alone() else { return };
    let mut icecast = Icecast::start("");
    icecast.encode("/a.mp3");
    let mirror = format!(
        "[mount_defaults]\nburst = \"1s\"\n\n[[mirror]]\nfrom = \"http://127.0.0.1:{}\"\nuser = \"relay\"\npassword = \"{PASSWORD}\"\ninterval = \"1s\"\n",
        icecast.port
    );
    let here = Server::spawn("", &mirror, &[]);
    assert!(until(SECOND * 20, || here.try_get("/healthz").is_ok()), "{}", here.log());
    let on_air = |path: &str| here.metric("flumen_source_up", &[&format!("\"{path}\"")]) == 1.0;
    assert!(until(SECOND * 20, || on_air("/a.mp3")), "{}", here.log());
    decodes(&here.url("/a.mp3"));
    let mut listener = here.listen("/a.mp3");
    icecast.encode("/b.mp3");
    assert!(until(SECOND * 20, || on_air("/b.mp3")), "{}", here.log());
    icecast.silence();
    let gone = || here.get("/api/v1/mounts").body_text().matches("\"path\"").count() == 0;
    assert!(until(SECOND * 30, gone), "{}", here.get("/api/v1/mounts").body_text());
    assert!(listener.ends_within(SECOND * 10), "who listened leaves with the mount");
}
