//! Another binary takes over, and sources notice as little as listeners: relays and encoders go on with the very next byte, and those that
//! are silent, stopped or not there are what they were.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::line::{Line, fake};
use support::numbers::{Follower, filled, number};
use support::{Server, Stream, connect_source, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// Seconds of the streams that are pushed from files: more than the longest test takes.
const LENGTH: u32 = 100;

/// A process that takes everything and dies.
fn dies() -> String {
    fake("say({'Prepared': {'format': hello['format'], 'version': '9'}})\nhear()\nhear()\nsay('Ready')\nhear()\nos._exit(8)")
}

/// A listener that checks each number, until told to stop.
struct Ear {
    going_on: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Ear {
    fn at(server: &Server, path: &str) -> Self {
        let (going_on, mut stream) = (Arc::new(AtomicBool::new(true)), server.listen(path));
        stream.socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let (goes_on, path) = (Arc::clone(&going_on), path.to_owned());
        let thread = std::thread::spawn(move || {
            let (mut follower, mut buffer) = (Follower::default(), [0; 65536]);
            while goes_on.load(Ordering::Relaxed) {
                match stream.socket.read(&mut buffer) {
                    Ok(0) => panic!("the listener of {path} was left after {} lines", follower.lines),
                    Ok(count) => follower.take(&buffer[..count]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("the listener of {path} was left: {error}"),
                }
            }
            follower.lines
        });
        Self { going_on, thread }
    }

    fn lines(self) -> u64 {
        self.going_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("each number came once, after the one before")
    }
}

/// Ends what goes on, also when a test fails: a scope waits for its threads.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Upgrades that are done, and after the first of them one that fails.
fn upgrade(line: &mut Line, times: usize) {
    for round in 0..times {
        std::thread::sleep(SECOND);
        let (status, answer) = line.upgrade();
        assert_eq!(status, 200, "{answer}\n{}", line.server.log());
        std::thread::sleep(SECOND);
        if round == 0 {
            line.replace(Some(&dies()));
            assert_eq!(line.upgrade().0, 409);
            line.replace(None);
        }
    }
    std::thread::sleep(SECOND);
}

#[test]
fn a_framed_relay_goes_on_over_upgrades_without_a_gap_or_a_repeat() {
    let port = free_port();
    let origin = Server::spawn("", &filled("/live", port, "keep = \"30s\""), &[]);
    let (feeding, source) = (AtomicBool::new(true), connect_source(port));
    std::thread::scope(|scope| {
        let _until = Until(&feeding);
        scope.spawn(|| number(source, &feeding));
        let mut line = Line::start("", &format!("[[mount]]\npath = \"/relay\"\nrelay = \"http://127.0.0.1:{}/live\"\n", origin.port));
        line.server.await_ready();
        let ears: Vec<_> = (0..4).map(|_| Ear::at(&line.server, "/relay")).collect();
        upgrade(&mut line, 4);
        let lines: Vec<_> = ears.into_iter().map(Ear::lines).collect();
        assert!(lines.iter().all(|&lines| lines > 20_000), "{lines:?}");
        let log = line.server.log();
        assert_eq!(log.matches("goes on where it stopped").count(), 4, "once for each that was done: {log}");
        assert_eq!(origin.metric("flumen_listener_joins_total", &["/live"]), 5.0, "a failed upgrade does not break a link");
    });
}

#[test]
fn mounts_of_a_mirrored_server_go_on_over_upgrades_with_their_listeners() {
    let [port, more, silent] = [(); 3].map(|()| free_port());
    let mounts = [filled("/live", port, "keep = \"30s\""), filled("/more", more, "keep = \"30s\""), filled("/silent", silent, "")].concat();
    let origin = Server::spawn("", &mounts, &[]);
    let (feeding, sources) = (AtomicBool::new(true), [port, more].map(connect_source));
    std::thread::scope(|scope| {
        let _until = Until(&feeding);
        for source in sources {
            scope.spawn(|| number(source, &feeding));
        }
        let here = format!("[[mirror]]\nfrom = \"http://127.0.0.1:{}\"\ninterval = \"1s\"\n", origin.port);
        let mut line = Line::start("", &here);
        let is_up = |line: &Line, path: &str| line.server.metric("flumen_source_up", &[path]) == 1.0;
        let up = |line: &Line| line.server.try_get("/metrics").is_ok() && is_up(line, "/live") && is_up(line, "/more");
        assert!(until(SECOND * 20, || up(&line)), "{}", line.server.log());
        let ears: Vec<_> = (0..4).map(|i| Ear::at(&line.server, ["/live", "/more"][i % 2])).collect();
        // It may open fewer from now on than there are: these have listeners, and stay.
        line.server.rewrite("", &format!("{here}max_mounts = 1\n"));
        assert_eq!(line.server.tell("reload").0, Some(0), "{}", line.server.log());
        upgrade(&mut line, 4);
        assert!(until(SECOND * 20, || up(&line)), "{}", line.server.log());
        let lines: Vec<_> = ears.into_iter().map(Ear::lines).collect();
        assert!(lines.iter().all(|&lines| lines > 20_000), "{lines:?}");
        let log = line.server.log();
        assert_eq!(log.matches("goes on where it stopped").count(), 8, "once for each mount and each that was done: {log}");
        // It is the mirror's as before: gone there, it is closed here.
        let rest = filled("/silent", silent, "");
        origin.rewrite("", &rest);
        origin.signal("-HUP");
        assert!(until(SECOND * 20, || line.server.get("/api/v1/mounts/live").status == 404), "{}", line.server.log());
    });
}

/// How an encoder frames its stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// In chunks, and it waits to be told to go on.
    Chunked,
    /// Up to the end of the connection.
    Endless,
    /// So many bytes, more than it will send.
    Length,
    /// As Icecast's own encoders of old do.
    Source,
    Shoutcast,
}

const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";

impl Manner {
    const ALL: [Self; 5] = [Self::Chunked, Self::Endless, Self::Length, Self::Source, Self::Shoutcast];

    fn path(self) -> String {
        format!("/{self:?}").to_lowercase()
    }

    /// Connects, and sends a head.
    fn greet(self, port: u16, shoutcast: u16) -> TcpStream {
        let port = if self == Self::Shoutcast { shoutcast } else { port };
        let mut encoder = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        encoder.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
        let path = self.path();
        let put = |fields: &str| format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Type: text/plain\r\n{fields}\r\n");
        let head = match self {
            Self::Chunked => put("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"),
            Self::Endless => put("Expect: 100-continue\r\n"),
            Self::Length => put("Content-Length: 1000000000\r\n"),
            Self::Source => format!("SOURCE {path} ICE/1.0\r\n{BASIC}Content-Type: text/plain\r\n\r\n"),
            Self::Shoutcast => format!("{path}:s3cret\r\n"),
        };
        encoder.write_all(head.as_bytes()).expect("sent");
        assert_ne!(encoder.read(&mut [0; 1000]).expect("an answer"), 0);
        if self == Self::Shoutcast {
            encoder.write_all(b"content-type:text/plain\r\n\r\n").expect("sent");
        }
        encoder
    }

    /// Sends numbered lines in pieces of any size, until told to stop. That the connection is lost is the end of the test.
    fn encode(self, mut encoder: TcpStream, going_on: &AtomicBool, paused: &AtomicBool) {
        let (mut line, mut rest) = (0_u64, Vec::new());
        while going_on.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            if paused.load(Ordering::Relaxed) {
                continue;
            }
            for _ in 0..50 {
                rest.extend(format!("{line:015}\n").bytes());
                line += 1;
            }
            let piece: Vec<u8> = rest.drain(..fastrand::usize(1..=rest.len())).collect();
            let piece = if self == Self::Chunked { [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat() } else { piece };
            // Cut anywhere, also within what frames it.
            for part in piece.chunks(fastrand::usize(1..=piece.len())) {
                encoder.write_all(part).unwrap_or_else(|error| panic!("{self:?}: the encoder was left: {error}"));
            }
        }
        encoder.set_nonblocking(true).expect("set");
        match encoder.read(&mut [0; 100]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{self:?}: the encoder was told something: {other:?}"),
        }
    }
}

fn pushed(paths: impl IntoIterator<Item = String>, shoutcast: u16, keys: &str) -> String {
    let mounts: String = paths.into_iter().map(|path| format!("[[mount]]\npath = \"{path}\"\n{keys}\n")).collect();
    format!("[push]\npassword = \"s3cret\"\nshoutcast = [\"127.0.0.1:{shoutcast}\"]\n{mounts}")
}

#[test]
fn encoders_that_push_keep_their_connections_and_their_listeners_hear_each_byte_once() {
    let shoutcast = free_port();
    let mut line = Line::start("", &pushed(Manner::ALL.map(Manner::path), shoutcast, "on_source_end = \"close\""));
    assert!(until(SECOND * 20, || line.server.try_get("/healthz").is_ok()));
    let (going_on, paused, port) = (AtomicBool::new(true), AtomicBool::new(false), line.server.port);
    std::thread::scope(|scope| {
        let _until = Until(&going_on);
        let encoders = Manner::ALL.map(|manner| {
            let encoder = manner.greet(port, shoutcast);
            let (going_on, paused) = (&going_on, &paused);
            scope.spawn(move || manner.encode(encoder, going_on, paused))
        });
        assert!(until(SECOND * 10, || line.server.metric("flumen_source_up", &[]) == 5.0), "{}", line.server.log());
        let ears = Manner::ALL.map(|manner| Ear::at(&line.server, &manner.path()));
        upgrade(&mut line, 3);
        // One that says nothing meanwhile is as good.
        paused.store(true, Ordering::Relaxed);
        std::thread::sleep(SECOND / 2);
        upgrade(&mut line, 1);
        paused.store(false, Ordering::Relaxed);
        std::thread::sleep(SECOND);
        assert_eq!(line.server.metric("flumen_source_up", &[]), 5.0);
        assert_eq!(line.server.metric("flumen_source_restarts_total", &[]), 0.0, "{}", line.server.log());
        let lines = ears.map(Ear::lines);
        assert!(lines.iter().all(|&lines| lines > 10_000), "{lines:?}");
        assert_eq!(line.server.log().matches("the encoder goes on here").count(), 4 * 5);
        let second = line.server.ask(format!("PUT /length HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 9\r\n\r\n123456789"));
        assert!(second.starts_with("HTTP/1.1 409"), "the place is still theirs: {second}");
        going_on.store(false, Ordering::Relaxed);
        for encoder in encoders {
            encoder.join().expect("it noticed nothing");
        }
    });
    // What ends after that ends as ever.
    assert!(until(SECOND * 10, || line.server.metric("flumen_source_up", &[]) == 0.0), "{}", line.server.log());
}

/// A file of noise in some container.
fn noise(dir: &Path, name: &str, arguments: &str) -> PathBuf {
    let file = dir.join(name);
    let input = format!("-f lavfi -i anoisesrc=d={LENGTH}:r=48000:a=0.3:s=7");
    let all = if arguments.contains("-c:v") {
        format!("{input} -f lavfi -i testsrc2=d={LENGTH}:s=160x120:r=15,noise=alls=40:allf=t {arguments}")
    } else {
        format!("{input} {arguments}")
    };
    let made = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(all.split(' ')).arg(&file).output().expect("ffmpeg");
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    file
}

/// Containers, and how they are made.
const FORMATS: [(&str, &str, &str); 10] = [
    ("mp3", "audio/mpeg", "-c:a libmp3lame -b:a 128k -write_xing 0 -id3v2_version 0 -f mp3"),
    ("aac", "audio/aac", "-c:a aac -b:a 128k -f adts"),
    ("ogg", "application/ogg", "-c:a libvorbis -b:a 128k -f ogg"),
    ("opus", "application/ogg", "-c:a libopus -b:a 128k -page_duration 100000 -f ogg"),
    ("flac", "audio/flac", "-c:a flac -ac 1 -ar 16000 -f flac"),
    ("wav", "audio/wav", "-c:a pcm_s16le -ac 1 -ar 8000 -f wav"),
    ("webm", "video/webm", "-c:a libopus -c:v libvpx -g 30 -b:v 200k -deadline realtime -live 1 -f webm"),
    ("flv", "video/x-flv", "-c:a libmp3lame -ar 44100 -c:v flv1 -g 30 -b:v 200k -f flv"),
    ("ts", "video/mp2t", "-c:a mp2 -c:v mpeg2video -g 30 -b:v 200k -r 25 -f mpegts"),
    ("asf", "video/x-ms-asf", "-c:a wmav2 -c:v wmv2 -g 30 -b:v 200k -f asf"),
];

/// How much of what somebody heard is one run of these bytes, from its end on.
fn run(heard: &[u8], sent: &[u8]) -> usize {
    let mark = &heard[heard.len() - 200..];
    let places = sent.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark).map(|(at, _)| at + mark.len());
    let common = |end: usize| heard.iter().rev().zip(sent[..end].iter().rev()).take_while(|(a, b)| a == b).count();
    places.map(common).max().unwrap_or(0)
}

/// All that a listener hears, until it is told to stop.
fn record(mut ear: Stream, going_on: &AtomicBool) -> Vec<u8> {
    let mut heard = Vec::new();
    while going_on.load(Ordering::Relaxed) {
        heard.extend(ear.read_for(SECOND / 10));
    }
    heard
}

#[test]
fn a_stream_in_whatever_container_goes_on_in_the_middle_of_whatever_unit() {
    let dir = std::env::temp_dir().join(format!("flumen-upgrade-formats-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder");
    let streams = FORMATS.map(|(name, media, arguments)| (name, media, fs::read(noise(&dir, name, arguments)).expect("made")));
    let mut line = Line::start("", &pushed(FORMATS.map(|(name, ..)| format!("/{name}")), free_port(), "burst = \"1 chunks\""));
    assert!(until(SECOND * 20, || line.server.try_get("/healthz").is_ok()));
    let (going_on, port) = (AtomicBool::new(true), line.server.port);
    std::thread::scope(|scope| {
        let _until = Until(&going_on);
        let encoders: Vec<_> = streams
            .iter()
            .map(|(name, media, stream)| {
                let mut encoder = TcpStream::connect(("127.0.0.1", port)).expect("connected");
                let head = format!("PUT /{name} HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Type: {media}\r\nExpect: 100-continue\r\n\r\n");
                encoder.write_all(head.as_bytes()).expect("sent");
                let going_on = &going_on;
                scope.spawn(move || {
                    let mut rest = &stream[..];
                    while going_on.load(Ordering::Relaxed) && !rest.is_empty() {
                        let (piece, after) = rest.split_at(fastrand::usize(1..1400).min(rest.len()));
                        encoder.write_all(piece).unwrap_or_else(|error| panic!("{name}: the encoder was left: {error}"));
                        rest = after;
                        std::thread::sleep(Duration::from_millis(30));
                    }
                    stream.len() - rest.len()
                })
            })
            .collect();
        assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &[]) == 10.0), "{}", line.server.log());
        let ears: Vec<_> = streams
            .iter()
            .map(|(name, ..)| {
                let ear = line.server.listen(&format!("/{name}"));
                scope.spawn(|| record(ear, &going_on))
            })
            .collect();
        upgrade(&mut line, 3);
        assert_eq!(line.server.metric("flumen_source_restarts_total", &[]), 0.0, "{}", line.server.log());
        going_on.store(false, Ordering::Relaxed);
        let sent: Vec<_> = encoders.into_iter().map(|encoder| encoder.join().expect("it noticed nothing")).collect();
        for (((name, _, stream), ear), sent) in streams.iter().zip(ears).zip(sent) {
            let heard = ear.join().expect("it ends");
            let run = run(&heard, stream);
            assert!(heard.len() > sent / 2 && heard.len() > 100_000, "{name}: only {} of {sent} bytes were heard", heard.len());
            // What is no part of the run came before it: the streamheaders.
            assert!(heard.len() - run < 10_000, "{name}: {run} of {} bytes are one run", heard.len());
        }
    });
    fs::remove_dir_all(&dir).expect("removed");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait()); // it may have ended
    }
}

#[test]
fn ffmpeg_and_curl_push_on_over_upgrades_and_do_not_notice() {
    let dir = std::env::temp_dir().join(format!("flumen-upgrade-push-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder");
    let file = noise(&dir, "noise.mp3", FORMATS[0].2);
    let stream = fs::read(&file).expect("made");
    let mut line = Line::start("", &pushed(["/ffmpeg", "/curl"].map(str::to_owned), free_port(), "burst = \"1 chunks\""));
    assert!(until(SECOND * 20, || line.server.try_get("/healthz").is_ok()));
    let to = format!("icecast://source:s3cret@127.0.0.1:{}/ffmpeg", line.server.port);
    let copies = "-c copy -write_xing 0 -id3v2_version 0 -f mp3 -content_type audio/mpeg";
    let said = fs::File::create(dir.join("ffmpeg.log")).expect("a log");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&file).args(copies.split(' ')).arg(to).stderr(said);
    let mut ffmpeg = Killed(ffmpeg.spawn().expect("ffmpeg"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-N", "-T", "-", "-u", "source:s3cret", "-H", "Content-Type: audio/mpeg"]).arg(line.server.url("/curl"));
    let mut curl = Killed(curl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("curl"));
    let (mut pipe, going_on) = (curl.0.stdin.take().expect("a pipe"), AtomicBool::new(true));
    std::thread::scope(|scope| {
        let _until = Until(&going_on);
        scope.spawn(|| {
            // 128 kbit/s are 16 bytes a millisecond.
            for part in stream.chunks(800).take_while(|_| going_on.load(Ordering::Relaxed)) {
                pipe.write_all(part).expect("curl goes on");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &[]) == 2.0), "{}", line.server.log());
        let begun = Instant::now();
        let ears = ["/ffmpeg", "/curl"].map(|path| {
            let ear = line.server.listen(path);
            (path, scope.spawn(|| record(ear, &going_on)))
        });
        upgrade(&mut line, 3);
        assert_eq!(line.server.metric("flumen_source_restarts_total", &[]), 0.0, "{}", line.server.log());
        for (name, program) in [("ffmpeg", &mut ffmpeg), ("curl", &mut curl)] {
            assert!(program.0.try_wait().expect("it can be asked").is_none(), "{name} has ended");
        }
        going_on.store(false, Ordering::Relaxed);
        let lasted = begun.elapsed().as_secs() as usize;
        for (path, ear) in ears {
            let heard = ear.join().expect("it ends");
            let run = run(&heard, &stream);
            assert!(heard.len() - run < 1000, "{path}: {run} of {} bytes are one run", heard.len());
            assert!(run > lasted * 10_000, "{path}: only {run} bytes in {lasted} s");
        }
    });
    drop((ffmpeg, curl));
    let told = fs::read_to_string(dir.join("ffmpeg.log")).expect("a log");
    assert!(!told.contains("rror"), "{told}");
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn sources_that_are_silent_stopped_or_not_there_are_what_they_were() {
    let [never, stalled, upstream, shoutcast] = [(); 4].map(|()| free_port());
    let origin = Server::spawn("", &filled("/live", upstream, "keep = \"30s\""), &[]);
    let mounts = [
        filled("/never", never, ""),
        filled("/stalled", stalled, ""),
        format!("[[mount]]\npath = \"/nowhere\"\nrelay = \"http://127.0.0.1:{}/live\"\n", free_port()),
        format!("[[mount]]\npath = \"/silent\"\nrelay = \"http://127.0.0.1:{}/live\"\n", origin.port),
        "[[mount]]\npath = \"/stopped\"\npipeline = \"audiotestsrc is-live=true ! lamemp3enc ! mpegaudioparse\"\n".to_owned(),
        pushed(["/endless".to_owned()], shoutcast, ""),
    ];
    let mut line = Line::start("", &mounts.concat());
    assert!(until(SECOND * 20, || line.server.try_get("/healthz").is_ok()));
    let mut stalls = connect_source(stalled);
    let mut silent = connect_source(upstream);
    let (paused, going_on, port) = (AtomicBool::new(false), AtomicBool::new(true), line.server.port);
    let lines = |from: u64| (from..from + 1000).map(|number| format!("{number:015}\n")).collect::<String>();
    std::thread::scope(|scope| {
        let _until = Until(&going_on);
        let encoder = Manner::Endless.greet(port, shoutcast);
        scope.spawn(|| Manner::Endless.encode(encoder, &going_on, &paused));
        for source in [&mut stalls, &mut silent] {
            source.write_all(lines(0).as_bytes()).expect("sent");
        }
        assert!(until(SECOND * 20, || line.server.metric("flumen_source_up", &[]) == 4.0), "{}", line.server.log());
        let (mut stays, stopped) = (line.server.listen("/stalled"), line.server.listen("/stopped"));
        let ears = [Ear::at(&line.server, "/silent"), Ear::at(&line.server, "/endless")];
        let act = |line: &Line, act: &str| {
            let answer = line.server.request("POST", &format!("/api/v1/mounts/stopped/source/{act}")).expect("an answer");
            assert_eq!(answer.status / 100, 2, "{}", answer.body_text());
        };
        act(&line, "stop");
        paused.store(true, Ordering::Relaxed);
        std::thread::sleep(SECOND);
        upgrade(&mut line, 2);
        let up = |line: &Line, path: &str| line.server.metric("flumen_source_up", &[path]);
        assert_eq!(up(&line, "/stopped"), 0.0, "nobody has started it");
        assert_eq!(up(&line, "/endless"), 1.0, "it is silent, and there");
        assert_eq!(line.server.metric("flumen_listeners", &[]), 4.0);
        assert_eq!(line.server.metric("flumen_listener_departures_total", &[]), 0.0);
        // Then they are heard again.
        paused.store(false, Ordering::Relaxed);
        act(&line, "start");
        let mut comes = connect_source(never);
        comes.write_all(lines(0).as_bytes()).expect("sent");
        silent.write_all(lines(1000).as_bytes()).expect("the origin has noticed nothing");
        assert!(until(SECOND * 20, || up(&line, "/never") == 1.0 && up(&line, "/stopped") == 1.0), "{}", line.server.log());
        stays.read_for(SECOND / 10);
        let mut again = connect_source(stalled);
        again.write_all(lines(5000).as_bytes()).expect("sent");
        let heard = String::from_utf8(stays.read(16_000)).expect("digits");
        assert!(heard.starts_with(&lines(5000)[..16_000]), "{heard}");
        std::thread::sleep(SECOND);
        drop(stopped);
        let [silence, push] = ears.map(Ear::lines);
        assert_eq!(silence, 1999, "all but the first, at which a follower begins");
        assert!(push > 5000, "{push}");
        going_on.store(false, Ordering::Relaxed);
    });
}
