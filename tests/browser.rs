//! A real browser plays the mounts: an `<audio>` and a `<video>` element whose clocks advance.
//!
//! The page is served by the test itself and reports to it; the streams come from the server, across origins.
#![expect(clippy::print_stdout, reason = "what the browser measured is worth seeing")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Server, until};

const MOUNTS: &str = r#"
[push]
password = "s3cret"

[[mount]]
path = "/pushed.ogg"

[[mount]]
path = "/pushed.webm"

[[mount]]
path = "/a.mp3"
pipeline = "audiotestsrc is-live=true ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse"

[[mount]]
path = "/b.ogg"
pipeline = "audiotestsrc is-live=true ! opusenc ! oggmux"

[[mount]]
path = "/c.webm"
pipeline = '''webmmux streamable=true name=m
    videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=15/1 ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 ! queue ! m.
    audiotestsrc is-live=true ! opusenc ! queue ! m.'''
"#;

/// Plays each stream, and tells how far its clock has come and how long the first second of play took to begin.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><body><script>
const base = "BASE";
async function play(kind, path) {
  const element = document.createElement(kind);
  element.muted = true;
  element.src = base + path;
  document.body.append(element);
  const began = performance.now();
  let playing = 0;
  element.addEventListener("playing", () => { playing ||= performance.now() - began; });
  await element.play().catch(() => {});
  const start = element.currentTime;
  await new Promise(done => setTimeout(done, 3000));
  const error = element.error ? element.error.code : 0;
  const advanced = element.currentTime - start;
  element.removeAttribute("src");
  element.load();
  await fetch(`/result?path=${path}&advanced=${advanced}&playing=${playing}&error=${error}`);
}
// A browser opens six connections to a server at the most, and may want two for a stream.
(async () => {
  await Promise.all([play("audio", "/a.mp3"), play("audio", "/b.ogg"), play("video", "/c.webm")]);
  await Promise.all([play("audio", "/pushed.ogg"), play("video", "/pushed.webm")]);
})();
</script>"#;
const STREAMS: usize = 5;

/// Encoders; ended when dropped.
struct Encoders(Vec<Child>);

impl Encoders {
    fn start(server: &Server) -> Self {
        let sound = ["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"];
        let picture = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=15"];
        let ogg = ["-c:a", "libvorbis", "-content_type", "application/ogg", "-f", "ogg"];
        let webm = [
            "-content_type",
            "video/webm",
            "-c:v",
            "libvpx",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-g",
            "15",
            "-c:a",
            "libopus",
            "-f",
            "webm",
            "-cluster_time_limit",
            "1000",
        ];
        let push = |path: &str, arguments: &[&[&str]]| {
            let url = format!("icecast://source:s3cret@127.0.0.1:{}{path}", server.port);
            Command::new("ffmpeg").args(arguments.concat()).arg(url).spawn().expect("ffmpeg")
        };
        Self(vec![push("/pushed.ogg", &[&sound, &ogg]), push("/pushed.webm", &[&sound, &picture, &webm])])
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        for encoder in &mut self.0 {
            let _ = encoder.kill();
            let _ = encoder.wait();
        }
    }
}

#[test]
fn chromium_plays_mp3_ogg_and_webm_of_pipelines_and_encoders() {
    let server = Server::spawn("", MOUNTS, &[]);
    assert!(until(Duration::from_secs(20), || server.try_get("/healthz").is_ok()), "{}", server.log());
    let _encoders = Encoders::start(&server);
    let up = || {
        ["/a.mp3", "/b.ogg", "/c.webm", "/pushed.ogg", "/pushed.webm"].iter().all(|path| server.metric("flumen_source_up", &[*path]) == 1.0)
    };
    assert!(until(Duration::from_secs(30), up), "{}", server.log());
    std::thread::sleep(Duration::from_secs(4)); // a burst is there
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let page_url = format!("http://{}/", listener.local_addr().expect("an address"));
    let profile = server.dir.join("profile");
    let mut chromium = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(&page_url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium");
    let page = PAGE.replace("BASE", &server.url(""));
    let mut results = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    while results.len() < STREAMS && Instant::now() < end {
        let Ok((mut socket, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let mut request = [0; 4096];
        let count = socket.read(&mut request).unwrap_or(0);
        let line = String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_owned();
        let body = if line.starts_with("GET / ") { page.as_str() } else { "" };
        let _ = write!(
            socket,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        results.extend(line.split(' ').nth(1).and_then(|path| path.strip_prefix("/result?")).map(str::to_owned));
    }
    let _ = chromium.kill();
    let _ = chromium.wait();
    assert_eq!(results.len(), STREAMS, "chromium reported only {results:?}");
    for result in results {
        let field = |name: &str| {
            result.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok()).expect("a number")
        };
        assert!(field("error") == 0.0 && field("advanced") > 1.5 && field("playing") > 0.0, "{result}");
        println!("{result}");
    }
}
