//! What is heard over TLS: every byte, by the quick and by the slow, up to the end that is told.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use super::support::{self, MP3, free_port, longest_silence, until};
use super::{Client, Ground, SECOND, filled, left};

#[test]
fn every_byte_is_heard_once_and_in_order_however_slowly_it_is_read() {
    const SOURCE: &str = "audiotestsrc num-buffers=250 wave=white-noise";
    let (ground, port) = (Ground::with(&["localhost"]), free_port());
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"none\"\nkeep = \"2m\"\non_source_end = \"close\"";
    let server = ground.spawn("", "", &filled(port, rules));
    let gdp = support::gst_output(&format!("{SOURCE} ! gdppay"));
    fs::write(ground.folder.join("gdp"), &gdp).expect("written");
    let want = support::gst_output(&format!("filesrc location={}/gdp ! gdpdepay", ground.folder.display()));
    assert_eq!(want.len(), 250 * 2048);
    let mut source = support::connect_source(port);
    // They come before there is anything, so each of them gets everything.
    let mut clients: Vec<_> = [0, 4096, 2300]
        .into_iter()
        .map(|buffer| {
            let socket = ground.socket();
            if buffer > 0 {
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, buffer).expect("a small buffer");
            }
            let mut client = ground.client_on(socket).expect("a handshake");
            client.send("GET /raw HTTP/1.1\r\nHost: x\r\n\r\n");
            (client, buffer)
        })
        .collect();
    std::thread::sleep(SECOND / 2);
    let feeding = std::thread::spawn(move || source.write_all(&gdp).expect("sent"));
    let readers: Vec<_> = clients
        .drain(..)
        .map(|(mut client, buffer)| {
            std::thread::spawn(move || {
                assert_eq!(client.head().status, 200);
                let (mut body, mut piece) = (Vec::new(), vec![0; if buffer == 0 { 65_536 } else { 3000 }]);
                loop {
                    match client.0.read(&mut piece) {
                        Ok(0) => return body, // said, and not just broken off
                        Ok(count) => body.extend_from_slice(&piece[..count]),
                        Err(error) => panic!("{error} after {} bytes", body.len()),
                    }
                    if buffer > 0 && body.len() % 7 == 0 {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
            })
        })
        .collect();
    feeding.join().expect("fed");
    let bodies: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("heard")).collect();
    for body in &bodies {
        assert_eq!(body.len(), want.len(), "log:\n{}", server.log());
        assert!(*body == want, "it is not what the source sent");
    }
    assert!(until(SECOND * 5, || left(&server, "source_ended") == 3.0), "log:\n{}", server.log());
}

/// A listener with a small buffer that does not read by itself.
fn stalled(ground: &Ground, path: &str) -> Client {
    let client = ground.listen(path);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.0.sock, 4096).expect("a small buffer");
    client
}

#[test]
fn the_slow_leave_with_their_word_and_the_quick_hear_no_difference() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"2s\"\nburst = \"1s\"\n";
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", &format!("{MP3}{rules}"));
    let mut quick = ground.listen("/radio.mp3");
    let slow: Vec<_> = (0..20).map(|_| stalled(&ground, "/radio.mp3")).collect();
    let longest = longest_silence(&mut quick.0, SECOND * 15, || left(&server, "too_slow") >= 20.0);
    assert_eq!(left(&server, "too_slow"), 20.0, "log:\n{}", server.log());
    assert!(longest < SECOND, "the quick one waited {longest:?}");
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
    drop(slow);
}

#[test]
fn the_slow_are_recovered_on_a_whole_frame_and_stay() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"1s\"\nhard_limit = \"none\"\nidle_timeout = \"none\"\nburst = \"500ms\"\n";
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", &format!("{MP3}{rules}"));
    let mut slow = stalled(&ground, "/radio.mp3");
    assert!(until(SECOND * 15, || server.metric("flumen_dropped_chunks_total", &[]) > 50.0));
    let body = slow.read(60_000);
    let mut at = 0;
    while at + 4 < body.len() {
        assert_eq!((body[at], body[at + 1]), (0xFF, 0xFB), "a torn frame at {at} of {}", body.len());
        at += 417 + usize::from(body[at + 2] >> 1 & 1);
    }
    assert!(server.metric("flumen_recoveries_total", &["keyframe"]) > 0.0);
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
}

#[test]
fn a_hang_up_is_noticed_on_a_silent_mount_and_a_source_that_is_silent_costs_nobody_the_place() {
    let (ground, port) = (Ground::with(&["localhost"]), free_port());
    let server = ground.spawn("", "", &filled(port, "idle_timeout = \"1s\""));
    let mut source = support::connect_source(port);
    source.write_all(&support::gst_output("audiotestsrc num-buffers=1 ! gdppay")).expect("sent");
    server.await_ready();
    let (mut polite, rude, mut patient) = (ground.listen("/raw"), ground.listen("/raw"), ground.listen("/raw"));
    assert!(until(SECOND * 5, || server.metric("flumen_listeners", &[]) == 3.0));
    polite.0.conn.send_close_notify();
    polite.0.flush().expect("said");
    assert!(until(SECOND * 2, || left(&server, "hung_up") == 1.0), "it said goodbye and its connection is still there");
    drop(rude);
    assert!(until(SECOND * 2, || left(&server, "hung_up") == 2.0));
    std::thread::sleep(SECOND * 2);
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
    patient.read(2048);
    drop(polite);
}

#[test]
fn who_is_left_when_the_server_stops_is_sent_what_is_queued_and_told_the_end() {
    let ground = Ground::with(&["localhost"]);
    let mut server = ground.serve("", "", MP3);
    let mut clients: Vec<_> = (0..5).map(|_| ground.listen("/radio.mp3")).collect();
    std::thread::sleep(SECOND * 2); // nobody reads; it lies in buffers
    server.signal("-TERM");
    for client in &mut clients {
        let (body, said) = client.hear_out();
        assert!(said && body.len() > 30_000, "{} bytes, and the end was {}", body.len(), if said { "said" } else { "not said" });
    }
    assert_eq!(server.wait(SECOND * 10), Some(0), "log:\n{}", server.log());
}

#[test]
fn encoders_push_over_tls_and_what_they_send_is_heard_byte_for_byte() {
    let ground = Ground::with(&["localhost"]);
    let body = support::gst_output(
        "audiotestsrc num-buffers=400 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse",
    );
    fs::write(ground.folder.join("pushed.mp3"), &body).expect("written");
    let mount = "[push]\npassword = \"s3cret\"\n[[mount]]\npath = \"/live\"\nsync = \"latest\"\nkeep = \"1m\"\nsoft_limit = \"none\"\nhard_limit = \"none\"\n";
    for framing in [&[] as &[&str], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
        let server = ground.spawn("", "", mount);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
        let mut early = ground.client();
        early.send("GET /live HTTP/1.1\r\nHost: x\r\n\r\n");
        std::thread::sleep(SECOND / 2);
        let pushed = Command::new("curl")
            .args(["-sS", "-i", "-H", "Content-Type: audio/mpeg", "--cacert", &ground.folder.join("0.pem").to_string_lossy()])
            .args(framing)
            .args(["-T", &ground.folder.join("pushed.mp3").to_string_lossy()])
            .arg(format!("https://source:s3cret@localhost:{}/live", ground.port))
            .output()
            .expect("curl");
        let answer = String::from_utf8_lossy(&pushed.stdout).into_owned() + &String::from_utf8_lossy(&pushed.stderr);
        assert!(pushed.status.success() && answer.contains("200 OK"), "{framing:?}\n{answer}\n{}", server.log());
        assert_eq!(early.head().status, 200, "{framing:?}");
        assert!(early.read(body.len()) == body, "{framing:?}: something else is heard than was pushed");
    }
}
