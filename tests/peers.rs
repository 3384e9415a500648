//! GStreamer's own elements and other players work unmodified: as listeners, and as what feeds a mount.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{MP3, Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

/// Stops what it runs when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gst(pipeline: &str) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(pipeline.split_whitespace());
    command
}

fn run_gst(pipeline: &str) -> Running {
    Running(gst(pipeline).stdout(Stdio::null()).spawn().expect("gst-launch"))
}

/// Runs a pipeline to its end, which must come in time and without an error.
fn finishes(pipeline: &str, most: Duration) {
    let mut child = Running(gst(pipeline).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("gst-launch"));
    let mut status = None;
    until(most, || {
        status = child.0.try_wait().expect("wait");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{pipeline}: {status:?}");
}

#[test]
fn souphttpsrc_and_decodebin_play_a_mount() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    finishes(
        &format!("souphttpsrc location={} ! decodebin ! audioconvert ! fakesink num-buffers=50", server.url("/radio.mp3")),
        SECOND * 15,
    );
    finishes(
        &format!("souphttpsrc iradio-mode=true location={} ! icydemux ! decodebin ! fakesink num-buffers=50", server.url("/radio.mp3"))
            .replace("icydemux ! ", ""),
        SECOND * 15,
    );
}

#[test]
fn mpv_and_ffprobe_play_a_mount() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    let mpv =
        Command::new("mpv").args(["--no-config", "--ao=null", "--vo=null", "--length=2", &server.url("/radio.mp3")]).output().expect("mpv");
    assert!(mpv.status.success(), "{}", String::from_utf8_lossy(&mpv.stdout));
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=format_name", "-of", "csv=p=0", &server.url("/radio.mp3")])
        .output()
        .expect("ffprobe");
    assert_eq!(String::from_utf8_lossy(&probe.stdout).trim(), "mp3");
    assert!(until(SECOND * 5, || server.log().contains("Lavf")), "their names are in the log");
}

#[test]
fn vlc_plays_a_mount() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    // It will not be run by root.
    let unprivileged = "if [ \"$(id -u)\" = 0 ]; then exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; else exec \"$@\"; fi";
    let vlc = Command::new("sh")
        .args(["-c", unprivileged, "vlc", "env", "HOME=/nonexistent", "timeout", "60", "cvlc", "-q", "--no-video", "--run-time=3"])
        .args(["--play-and-exit", "--sout", "#transcode{acodec=s16l,channels=2,samplerate=44100}:std{access=file,mux=wav,dst=-}"])
        .args([&server.url("/radio.mp3"), "vlc://quit"])
        .output()
        .expect("vlc");
    let said = String::from_utf8_lossy(&vlc.stderr);
    assert!(vlc.status.success(), "{said}");
    let samples = vlc.stdout.get(44..).unwrap_or_default().chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]]));
    let (heard, loudest) = samples.fold((0, 0), |(heard, loudest), sample| (heard + 1, sample.unsigned_abs().max(loudest)));
    assert!(heard > 2 * 2 * 44_100, "two seconds in two channels: {heard} samples\n{said}");
    assert!(loudest > 1000, "there is something to hear: {loudest}");
    assert!(until(SECOND * 5, || server.log().contains("LibVLC")), "its name is in the log");
}

#[test]
fn a_gdp_stream_goes_in_and_out_between_gstreamers_own_peers() {
    let (into, out) = (free_port(), free_port());
    let mounts = format!(
        "[[mount]]\npath = \"/in.ogg\"\npipeline = \"tcpserversrc host=127.0.0.1 port={into} ! gdpdepay\"\n\n\
         [[mount]]\npath = \"/out.gdp\"\nsync = \"latest\"\ntcp = [\"127.0.0.1:{out}\"]\n\
         pipeline = \"audiotestsrc is-live=true ! vorbisenc ! oggmux max-delay=100000000 ! gdppay\"\n"
    );
    let server = Server::spawn("", &mounts, &[]);
    assert!(until(SECOND * 10, || TcpStream::connect(("127.0.0.1", into)).is_ok()), "log:\n{}", server.log());
    // That probe was the source's first client; GStreamer's server source ends with it and is started anew.
    std::thread::sleep(SECOND);
    let _source = run_gst(&format!(
        "audiotestsrc is-live=true ! vorbisenc ! oggmux max-delay=100000000 ! gdppay ! tcpclientsink host=127.0.0.1 port={into}"
    ));
    server.await_ready();
    finishes(&format!("souphttpsrc location={} ! oggdemux ! vorbisdec ! fakesink num-buffers=100", server.url("/in.ogg")), SECOND * 20);
    finishes(&format!("tcpclientsrc host=127.0.0.1 port={out} ! gdpdepay ! oggdemux ! vorbisdec ! fakesink num-buffers=50"), SECOND * 20);
}

#[test]
fn a_mount_fed_by_tcpclientsrc_survives_its_peers_restart_with_its_listeners() {
    let port = free_port();
    let serve = || {
        run_gst(&format!(
            "audiotestsrc is-live=true ! vorbisenc ! oggmux max-delay=100000000 ! gdppay ! tcpserversink host=127.0.0.1 port={port} sync-method=2"
        ))
    };
    let mounts = format!("[[mount]]\npath = \"/relay.ogg\"\npipeline = \"tcpclientsrc host=127.0.0.1 port={port} ! gdpdepay\"\n");
    let first = serve();
    let server = Server::start(&mounts);
    let mut listener = server.listen("/relay.ogg");
    assert!(!listener.read_for(SECOND).is_empty());
    drop(first);
    assert!(until(SECOND * 10, || server.metric("flumen_source_up", &[]) == 0.0));
    let _second = serve();
    assert!(until(SECOND * 30, || server.metric("flumen_source_up", &[]) == 1.0), "log:\n{}", server.log());
    let more = listener.read_for(SECOND * 2);
    assert!(more.windows(4).any(|window| window == b"OggS"), "the same listener hears the new source");
    assert!(more.windows(7).any(|window| window == b"\x01vorbis"), "and got its streamheaders");
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    assert!(server.metric("flumen_source_restarts_total", &[]) >= 1.0);
}

#[test]
fn a_plugin_that_crashes_in_a_process_of_its_own_takes_nobody_along() {
    let port = free_port();
    let work = || {
        run_gst(&format!(
            "--no-fault audiotestsrc is-live=true ! vorbisenc ! oggmux max-delay=100000000 ! gdppay ! tcpserversink host=127.0.0.1 port={port} sync-method=2"
        ))
    };
    let mounts = format!(
        "[[mount]]\npath = \"/worker.ogg\"\npipeline = \"tcpclientsrc host=127.0.0.1 port={port} ! gdpdepay\"\n\
         [[mount]]\npath = \"/other\"\npipeline = \"audiotestsrc is-live=true ! lamemp3enc ! mpegaudioparse\"\n"
    );
    let mut worker = work();
    let server = Server::start(&mounts);
    let (mut listener, mut other) = (server.listen("/worker.ogg"), server.listen("/other"));
    for round in 0..2 {
        assert!(!listener.read_for(SECOND).is_empty(), "round {round}");
        let killed = Command::new("kill").args(["-SEGV", &worker.0.id().to_string()]).status().expect("kill is there");
        assert!(killed.success());
        assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["mount=\"/worker.ogg\""]) == 0.0));
        assert!(!other.read_for(SECOND).is_empty(), "the server and its other mounts go on");
        worker = work();
        assert!(until(SECOND * 30, || server.metric("flumen_source_up", &["mount=\"/worker.ogg\""]) == 1.0), "log:\n{}", server.log());
        let more = listener.read_for(SECOND * 2);
        assert!(more.windows(7).any(|window| window == b"\x01vorbis"), "the same listener hears the next one from its streamheaders");
    }
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
}

#[test]
fn who_waits_for_the_first_chunk_is_placed_by_it_and_gets_it() {
    for sync in ["latest", "next-keyframe", "latest-keyframe", "burst", "burst-keyframe", "burst-with-keyframe"] {
        let port = free_port();
        let mounts =
            format!("[[mount]]\npath = \"/first\"\nsync = \"{sync}\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\n");
        let server = Server::spawn("", &mounts, &[]);
        let gdp = support::gst_output("audiotestsrc num-buffers=20 samplesperbuffer=441 ! audio/x-raw,rate=44100,channels=1 ! gdppay");
        let mut source = support::connect_source(port);
        let mut early = server.connect();
        early.write_all(b"GET /first HTTP/1.0\r\n\r\n").expect("sent");
        std::thread::sleep(SECOND / 2);
        source.write_all(&gdp).expect("sent");
        let heard = support::Stream::open(early).read(20 * 882);
        assert!(!heard.is_empty(), "{sync}");
        // The last bytes are heard before they are counted.
        assert!(until(SECOND * 5, || server.metric("flumen_sent_bytes_total", &[]) == 20.0 * 882.0), "{sync}");
    }
}

#[test]
fn on_source_end_close_sends_what_is_queued_and_then_closes() {
    let port = free_port();
    let mounts = format!(
        "[[mount]]\npath = \"/once\"\nsync = \"burst\"\nburst = \"1h\"\non_source_end = \"close\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\n"
    );
    let server = Server::spawn("header_timeout = \"1s\"", &mounts, &[]);
    let gdp = support::gst_output("audiotestsrc num-buffers=50 samplesperbuffer=441 ! audio/x-raw,rate=44100,channels=1 ! gdppay");
    let mut source = support::connect_source(port);
    source.write_all(&gdp).expect("sent");
    server.await_ready();
    let mut listener = server.listen("/once");
    listener.socket.set_read_timeout(Some(SECOND)).expect("a timeout");
    drop(source);
    assert!(listener.ends_within(SECOND * 5));
    assert!(until(SECOND * 3, || server.metric("flumen_listener_departures_total", &["source_ended"]) == 1.0));
    assert_eq!(server.get("/once").status, 503, "nobody is let in to what an ended source left behind");
    assert_eq!(server.metric("flumen_received_chunks_total", &[]), 50.0);
    assert_eq!(server.metric("flumen_sent_bytes_total", &[]), 50.0 * 882.0);
}
