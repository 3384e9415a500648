//! What is being played reaches players: between the bytes of the stream, exactly; in heads; and whoever asks oddly is one listener.

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use support::{Server, Stream, connect_source, free_port, gst_output, until};

const SECOND: Duration = Duration::from_secs(1);

/// Streams that say what they are.
const TAGGED: &str = r#"
[[mount]]
path = "/radio.mp3"
name = "Radio Grüße"
description = "All day long"
genre = "Talk"
url = "https://example.org/"
public = true
pipeline = 'audiotestsrc is-live=true samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! taginject tags="title=Title,artist=Artist" ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse'

[[mount]]
path = "/radio.ogg"
pipeline = 'audiotestsrc is-live=true ! taginject tags="title=Title,artist=Artist" ! vorbisenc ! oggmux max-delay=100000000'

[[mount]]
path = "/always.ogg"
icy_metadata = "always"
icy_metaint = 1024
pipeline = 'audiotestsrc is-live=true ! taginject tags="title=Title,artist=Artist" ! vorbisenc ! oggmux max-delay=100000000'

[[mount]]
path = "/off.mp3"
icy_metadata = "off"
pipeline = 'audiotestsrc is-live=true samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc ! mpegaudioparse'
"#;

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// A player that takes the titles out.
struct Player {
    stream: Stream,
    interval: usize,
    heard: Vec<u8>,
}

impl Player {
    fn new(server: &Server, path: &str) -> Self {
        let stream = server.listen_with(&request(path, "Icy-MetaData: 1\r\n"));
        assert_eq!(stream.head.status, 200);
        let interval = stream.head.header("icy-metaint").and_then(|number| number.parse().ok()).expect("icy-metaint");
        Self { stream, interval, heard: Vec::new() }
    }

    /// Hears up to the next block; what that says.
    fn block(&mut self) -> String {
        let heard = self.stream.read(self.interval);
        self.heard.extend(heard);
        let length = usize::from(self.stream.read(1)[0]) * 16;
        let text = String::from_utf8(self.stream.read(length)).expect("UTF-8");
        text.trim_end_matches('\0').to_owned()
    }

    /// Hears to the end of the connection; the blocks on the way.
    fn rest(mut self) -> (Vec<u8>, Vec<String>) {
        let mut body = Vec::new();
        self.stream.socket.read_to_end(&mut body).expect("an end");
        let (mut rest, mut blocks) = (&body[..], Vec::new());
        while rest.len() > self.interval {
            let (heard, more) = rest.split_at(self.interval);
            self.heard.extend_from_slice(heard);
            let end = 1 + usize::from(more[0]) * 16;
            blocks.push(String::from_utf8_lossy(&more[1..end]).trim_end_matches('\0').to_owned());
            rest = &more[end..];
        }
        self.heard.extend_from_slice(rest);
        (self.heard, blocks)
    }
}

/// An ID3v2.4 tag in UTF-8.
fn id3(artist: &str, title: &str) -> Vec<u8> {
    let frame = |name: &str, text: &str| [name.as_bytes(), &[0, 0, 0, 1 + text.len() as u8, 0, 0, 3], text.as_bytes()].concat();
    let frames = [frame("TPE1", artist), frame("TIT2", title)].concat();
    [b"ID3\x04\0\0\0\0\0".to_vec(), vec![frames.len() as u8], frames].concat()
}

fn frames() -> Vec<u8> {
    let frames = gst_output(
        "audiotestsrc num-buffers=200 samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse",
    );
    assert!(frames.len() > 60_000, "{} bytes", frames.len());
    frames
}

#[test]
fn between_the_titles_the_stream_is_the_same_to_the_byte() {
    let port = free_port();
    let mounts = format!(
        "[[mount]]\npath = \"/once.mp3\"\nsync = \"burst\"\nburst = \"1h\"\non_source_end = \"close\"\nicy_metaint = \"1024\"\n\
         pipeline = \"tcpserversrc host=127.0.0.1 port={port} ! audio/mpeg,mpegversion=1,layer=3\"\n"
    );
    let server = Server::spawn("", &mounts, &[]);
    let (first, second) = ([id3("A", "One"), frames()].concat(), [id3("B", "Zwölf '; 音"), frames()].concat());
    let mut source = connect_source(port);
    source.write_all(&first).expect("sent");
    server.await_ready();
    assert!(until(SECOND * 5, || server.metric("flumen_received_bytes_total", &[]) == first.len() as f64), "log:\n{}", server.log());
    let mut plain = server.listen("/once.mp3");
    assert!(plain.head.header("icy-metaint").is_none(), "it did not ask");
    let mut player = Player::new(&server, "/once.mp3");
    assert_eq!(player.interval, 1024);
    assert_eq!(player.block(), "StreamTitle='A - One';");
    for i in 0..20 {
        assert_eq!(player.block(), "", "block {i}: nothing has changed");
    }
    let mut curious = Player::new(&server, "/once.mp3");
    assert_eq!(curious.block(), "StreamTitle='A - One';", "each has its own place in the stream");
    drop(curious);
    source.write_all(&second).expect("sent");
    assert!(until(SECOND * 5, || server.metric("flumen_metadata_updates_total", &["once"]) == 2.0));
    drop(source);
    let (heard, blocks) = player.rest();
    let mut body = Vec::new();
    plain.socket.read_to_end(&mut body).expect("an end");
    assert!(body == [first, second].concat(), "the plain listener got what the source sent");
    assert!(heard == body, "and so did the other: {} of {} bytes", heard.len(), body.len());
    let told: Vec<_> = blocks.iter().filter(|block| !block.is_empty()).collect();
    assert_eq!(told, ["StreamTitle='B - Zwölf ' ; 音';"], "once");
    assert!(until(SECOND * 5, || server.metric("flumen_listener_departures_total", &[]) == 3.0));
    let sent = server.metric("flumen_sent_bytes_total", &[]);
    let curious = sent - 2.0 * body.len() as f64;
    assert!((1024.0..=body.len() as f64).contains(&curious), "titles are no stream bytes: {sent}");
}

#[test]
fn ogg_comments_are_told_and_a_chained_stream_tells_anew() {
    let port = free_port();
    let mounts = format!(
        "[[mount]]\npath = \"/chain.ogg\"\nsync = \"burst\"\nburst = \"1h\"\nicy_metadata = \"always\"\nicy_metaint = 1024\n\
         pipeline = \"tcpserversrc host=127.0.0.1 port={port} ! application/ogg\"\n"
    );
    let song =
        |title: &str| gst_output(&format!("audiotestsrc num-buffers=400 ! taginject tags=title={title},artist=A ! vorbisenc ! oggmux"));
    let server = Server::spawn("", &mounts, &[]);
    let mut source = connect_source(port);
    source.write_all(&song("One")).expect("sent");
    server.await_ready();
    assert!(until(SECOND * 5, || server.metric("flumen_metadata_updates_total", &[]) == 1.0), "log:\n{}", server.log());
    let mut player = Player::new(&server, "/chain.ogg");
    assert_eq!(player.block(), "StreamTitle='A - One';");
    source.write_all(&song("Two")).expect("sent");
    assert!(until(SECOND * 5, || server.metric("flumen_metadata_updates_total", &[]) == 2.0), "log:\n{}", server.log());
    let told = (0..50).map(|_| player.block()).find(|block| !block.is_empty());
    assert_eq!(told.as_deref(), Some("StreamTitle='A - Two';"));
    assert!(player.heard.starts_with(b"OggS"));
}

/// The samples of an Ogg stream of 44.1 or 48 kHz, as ffmpeg decodes it.
fn decoded(body: &[u8], file: &std::path::Path) -> usize {
    std::fs::write(file, body).expect("written");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-xerror", "-i"])
        .arg(file)
        .args(["-f", "s16le", "-ac", "1", "-"])
        .output()
        .expect("ffmpeg");
    // Where links were joined the decoder goes on, and has a block for which the new link's encoder counted no time.
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = complaints.lines().filter(|line| !line.contains("non monotonically increasing dts")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    output.stdout.len() / 2
}

#[test]
fn a_chained_stream_can_be_joined_for_players_that_stutter() {
    let samples = 200 * 1024;
    for encoder in ["vorbisenc", "opusenc"] {
        let port = free_port();
        let mounts = format!(
            "[[mount]]\npath = \"/joined.ogg\"\nsync = \"burst\"\nburst = \"1h\"\non_source_end = \"close\"\nogg_chaining = \"hide\"\n\
             pipeline = \"tcpserversrc host=127.0.0.1 port={port} ! application/ogg\"\n"
        );
        let song = |title: &str| {
            gst_output(&format!(
                "audiotestsrc num-buffers=200 ! audio/x-raw,rate=48000,channels=1 ! taginject tags=title={title} ! {encoder} ! oggmux"
            ))
        };
        let server = Server::spawn("", &mounts, &[]);
        let mut source = connect_source(port);
        source.write_all(&song("One")).expect("sent");
        server.await_ready();
        let mut first = server.listen("/joined.ogg");
        source.write_all(&[song("Two"), song("Three")].concat()).expect("sent");
        assert!(until(SECOND * 5, || server.metric("flumen_metadata_updates_total", &[]) == 3.0), "log:\n{}", server.log());
        let mut late = server.listen("/joined.ogg");
        drop(source);
        let mut heard = [Vec::new(), Vec::new()];
        first.socket.read_to_end(&mut heard[0]).expect("an end");
        late.socket.read_to_end(&mut heard[1]).expect("an end");
        for body in &heard {
            let beginnings = body.windows(6).filter(|page| page.starts_with(b"OggS\0") && page[5] & 2 != 0).count();
            assert_eq!(beginnings, 1, "{encoder}: it is one stream");
            let found = decoded(body, &server.dir.join("body.ogg"));
            assert!(found.abs_diff(3 * samples) < 5000, "{encoder}: {found} samples of {}", 3 * samples);
        }
    }
}

#[test]
fn heads_say_what_a_mount_is_and_titles_go_where_players_look_for_them() {
    let server = Server::start(TAGGED);
    std::thread::sleep(SECOND);
    for method in ["GET", "HEAD"] {
        for asks in [true, false] {
            let icy = if asks { "Icy-MetaData: 1\r\n" } else { "" };
            let stream = server.listen_with(&request("/radio.mp3", icy).replacen("GET", method, 1));
            for (name, want) in [
                ("icy-name", Some("Radio Grüße")),
                ("icy-description", Some("All day long")),
                ("icy-genre", Some("Talk")),
                ("icy-url", Some("https://example.org/")),
                ("icy-pub", Some("1")),
                ("icy-br", Some("128")),
                ("icy-metaint", asks.then_some("16000")),
            ] {
                assert_eq!(stream.head.header(name), want, "{method} {asks}: {}", stream.head.head);
            }
        }
    }
    for (path, want) in [("/radio.ogg", None), ("/always.ogg", Some("1024")), ("/off.mp3", None)] {
        let stream = server.listen_with(&request(path, "Icy-MetaData: 1\r\n"));
        assert_eq!(stream.head.header("icy-metaint"), want, "{path}");
        assert_eq!((stream.head.header("icy-pub"), stream.head.header("icy-name")), (Some("0"), None), "{path}");
    }
    for no in ["Icy-MetaData: 0\r\n", "Icy-MetaData: yes\r\n"] {
        assert_eq!(server.listen_with(&request("/radio.mp3", no)).head.header("icy-metaint"), None, "{no}");
    }
}

#[test]
fn players_show_the_title() {
    let server = Server::start(TAGGED);
    std::thread::sleep(SECOND);
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let (mp3, ogg) = (server.url("/radio.mp3"), server.url("/radio.ogg"));
    let probe = said("ffprobe", &["-v", "error", "-show_entries", "format_tags", "-of", "default=nw=1", &mp3]);
    for want in ["TAG:StreamTitle=Artist - Title", "TAG:icy-name=Radio Grüße", "TAG:icy-br=128"] {
        assert!(probe.contains(want), "{want}: {probe}");
    }
    let probe = said("ffprobe", &["-v", "error", "-show_entries", "stream_tags", "-of", "default=nw=1", &ogg]);
    assert!(probe.to_lowercase().contains("tag:title=title"), "an Ogg stream speaks for itself: {probe}");
    let mpv = said("mpv", &["--no-config", "--ao=null", "--vo=null", "--length=2", &mp3]);
    assert!(mpv.contains("icy-title: Artist - Title"), "{mpv}");
    let soup = format!("souphttpsrc iradio-mode=true location={mp3} ! icydemux ! decodebin ! audioconvert ! fakesink num-buffers=100");
    let gst = said("gst-launch-1.0", &[&["-t"], &soup.split_whitespace().collect::<Vec<_>>()[..]].concat());
    assert!(gst.contains("title: Artist - Title"), "{gst}");
}

/// Stops what it runs when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn titles_come_with_an_encoder_that_pushes_and_through_a_relay() {
    let upstream = Server::start(TAGGED);
    let server = Server::start(&format!(
        "[push]\npassword = \"word\"\n[[mount]]\npath = \"/relay.mp3\"\nrelay = [\"{}\"]\n\
         [[mount]]\npath = \"/pushed.ogg\"\nicy_metadata = \"always\"\nicy_metaint = 1024\n",
        upstream.url("/radio.mp3")
    ));
    let to = format!("icecast://source:word@127.0.0.1:{}/pushed.ogg", server.port);
    let _encoder = Running(
        Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "sine", "-metadata", "title=Pushed"])
            .args(["-c:a", "libopus", "-page_duration", "100000", "-content_type", "audio/ogg", "-f", "ogg", &to])
            .spawn()
            .expect("ffmpeg"),
    );
    for (path, want) in [("/relay.mp3", "StreamTitle='Artist - Title';"), ("/pushed.ogg", "StreamTitle='Pushed';")] {
        let told = || server.metric("flumen_metadata_updates_total", &[path]) == 1.0;
        assert!(until(SECOND * 15, told), "{path}; log:\n{}", server.log());
        assert_eq!(Player::new(&server, path).block(), want);
    }
    let mut relay = server.listen("/relay.mp3");
    assert!(!String::from_utf8_lossy(&relay.read(40_000)).contains("StreamTitle"), "the upstream's blocks are taken out");
    assert_eq!(relay.head.header("icy-name"), Some("Radio Grüße"), "what the upstream says of itself");
}

#[test]
fn a_player_that_asks_for_two_bytes_first_is_one_listener() {
    let mount = TAGGED.split("[[mount]]").nth(1).expect("a mount");
    let server = Server::start(&format!("[[mount]]{mount}\nmax_listeners = 1\n"));
    std::thread::sleep(SECOND);
    let apple = "User-Agent: AppleCoreMedia/1.0.0.21A (iPhone)\r\nIcy-MetaData: 1\r\n";
    let mut first = server.listen_with(&request("/radio.mp3", &format!("{apple}Range: bytes=0-1\r\n")));
    assert_eq!((first.head.status, first.head.header("accept-ranges")), (200, Some("none")));
    assert!(first.head.header("content-range").is_none());
    first.read(2);
    let mut second = server.listen_with(&request("/radio.mp3", apple));
    assert_eq!(second.head.status, 200, "there is one place, and it is this player's");
    assert_eq!(second.head.header("icy-metaint"), Some("16000"));
    second.read(20_000);
    assert!(first.ends_within(SECOND * 5));
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
    assert_eq!(server.metric("flumen_listener_departures_total", &["moved"]), 1.0);
    let other = server.ask(request("/radio.mp3", "User-Agent: VLC\r\n"));
    assert!(other.starts_with("HTTP/1.1 503 "), "another player is another listener: {other}");
}

#[test]
fn pages_of_other_origins_may_read_what_the_mount_allows() {
    let mounts: String = [("any", "\"*\""), ("none", "\"none\""), ("some", "[\"https://a.example\"]")]
        .map(|(name, cors)| {
            format!(
                "[[mount]]\npath = \"/{name}\"\ncors = {cors}\npipeline = \"audiotestsrc is-live=true samplesperbuffer=1152 ! lamemp3enc ! mpegaudioparse\"\n"
            )
        })
        .concat();
    let server = Server::start(&mounts);
    for (path, origin, want) in [
        ("/any", "https://x.example", Some("*")),
        ("/none", "https://x.example", None),
        ("/some", "https://a.example", Some("https://a.example")),
        ("/some", "https://x.example", None),
    ] {
        let head = server.listen_with(&request(path, &format!("Origin: {origin}\r\n"))).head;
        assert_eq!(head.header("access-control-allow-origin"), want, "{path} {origin}");
        assert_eq!(head.header("access-control-expose-headers").is_some_and(|names| names.contains("icy-metaint")), want.is_some());
        let asks = format!("Origin: {origin}\r\nAccess-Control-Request-Headers: icy-metadata\r\nConnection: close\r\n");
        for (method, path) in [("OPTIONS", path.to_owned()), ("GET", format!("{path}.m3u")), ("DELETE", path.to_owned())] {
            let answer = server.ask(request(&path, &asks).replacen("GET", method, 1));
            let answer = support::Response::parse(answer.as_bytes()).expect("HTTP");
            assert_eq!(answer.header("access-control-allow-origin"), want, "{method} {path} {origin}");
            if method == "OPTIONS" {
                let allowed = answer.header("access-control-allow-headers").is_some_and(|names| names.contains("Icy-MetaData"));
                assert_eq!(allowed, want.is_some(), "{path} {origin}");
            }
        }
    }
}
