//! Streams that are pulled from other servers: flumen's own, Icecast's and SHOUTcast's; failing over, coming back, in circles.

#[path = "relays/role.rs"]
mod role;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Server, Stream, free_port, gst_output, until};

const SECOND: Duration = Duration::from_secs(1);
const OGG: &str = "audiotestsrc is-live=true ! audio/x-raw,rate=48000 ! opusenc ! oggmux max-delay=100000000";

fn mp3() -> Vec<u8> {
    gst_output(
        "audiotestsrc num-buffers=200 samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=64 cbr=true ! mpegaudioparse",
    )
}

fn relay(more: &str, upstreams: &[String]) -> String {
    let list: Vec<_> = upstreams.iter().map(|upstream| format!("\"{upstream}\"")).collect();
    format!("[[mount]]\npath = \"/relay\"\nsync = \"latest\"\nrelay = [{}]\n{more}\n", list.join(", "))
}

/// A server that answers each connection in turn with these bytes, and waits for the last to be let go.
fn upstream(answers: Vec<Vec<u8>>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = door.local_addr().expect("an address").port();
    let serve = move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut peer, _) = door.accept().expect("somebody");
            asked.push(head(&mut peer));
            peer.write_all(&answer).expect("sent");
            std::thread::sleep(SECOND / 2);
        }
        asked
    };
    (port, std::thread::spawn(serve))
}

fn head(peer: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(peer.read(&mut byte).expect("a request"), 1);
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).expect("text")
}

/// The bytes with a block of metadata after each `metaint` of them.
fn interleaved(body: &[u8], metaint: usize) -> Vec<u8> {
    let mut mixed = Vec::new();
    for (i, part) in body.chunks(metaint).enumerate() {
        mixed.extend_from_slice(part);
        if part.len() == metaint {
            if i == 0 {
                let mut block = b"StreamTitle='Somebody - Something';".to_vec();
                block.resize(48, 0);
                mixed.push(3);
                mixed.extend_from_slice(&block);
            } else {
                mixed.push(0);
            }
        }
    }
    mixed
}

#[test]
fn what_shoutcast_and_chunked_servers_send_is_relayed_byte_for_byte() {
    let body = mp3();
    let mut chunked = Vec::new();
    for part in interleaved(&body, 700).chunks(999) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    for (head, stream) in [
        ("ICY 200 OK\r\nicy-name:Shouted\r\ncontent-type:audio/mpeg\r\nicy-metaint:1000\r\n\r\n", interleaved(&body, 1000)),
        ("HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n", body.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nicy-metaint: 700\r\nTransfer-Encoding: chunked\r\n\r\n", chunked),
    ] {
        let (port, served) = upstream(vec![[head.as_bytes(), &stream].concat()]);
        // On demand, so that who waits for the first chunk is there when it comes.
        let server = Server::spawn("", &relay("relay_on_demand = true", &[format!("http://us:er@127.0.0.1:{port}/x?y")]), &[]);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
        let mut listener = server.listen_with("GET /relay HTTP/1.0\r\n\r\n");
        assert_eq!(listener.head.header("content-type"), Some("audio/mpeg"));
        assert!(listener.read(body.len()) == body, "{head}");
        let asked = served.join().expect("served").remove(0);
        assert!(
            asked.starts_with("GET /x?y HTTP/1.1\r\n") && asked.contains("Icy-MetaData: 1") && asked.contains("Basic dXM6ZXI="),
            "{asked}"
        );
        assert!(!server.log().contains("us:er"), "no password in the log");
    }
}

#[test]
fn an_upstreams_titles_are_read_in_the_charset_of_the_mount() {
    let mut stream = interleaved(&mp3(), 1000);
    let title = b"\xcc\xf3\xe7\xfb\xea\xe0 - windows-1251"; // as long as the one it takes the place of
    let at = stream.windows(20).position(|window| window == b"Somebody - Something").expect("a title");
    stream[at..at + 20].copy_from_slice(&title[..20]);
    let head = b"ICY 200 OK\r\ncontent-type:audio/mpeg\r\nicy-metaint:1000\r\n\r\n";
    let (port, _served) = upstream(vec![[head.as_slice(), &stream].concat()]);
    let server = Server::spawn("", &relay("charset = \"windows-1251\"", &[format!("http://127.0.0.1:{port}/x")]), &[]);
    let told = || server.try_get("/api/v1/mounts/relay").is_ok_and(|answer| answer.body_text().contains("Музыка - windows-125"));
    assert!(until(SECOND * 10, told), "{}", server.log());
}

#[test]
fn a_flumen_relays_a_flumen_and_keeps_its_listeners_when_the_link_is_cut() {
    let port = free_port();
    let origin = |port: u16| {
        Server::spawn(&format!("listen = [\"127.0.0.1:{port}\"]"), &format!("[[mount]]\npath = \"/live\"\npipeline = \"{OGG}\"\n"), &[])
    };
    let first = origin(port);
    let edge = Server::start(&relay("", &[format!("http://127.0.0.1:{port}/live")]));
    let mut listener = edge.listen("/relay");
    assert_eq!(listener.head.header("content-type"), Some("application/ogg"));
    assert!(listener.read_for(SECOND).starts_with(b"OggS"));
    drop(first);
    assert!(until(SECOND * 10, || edge.metric("flumen_source_up", &[]) == 0.0));
    let _second = origin(port);
    assert!(until(SECOND * 30, || edge.metric("flumen_source_up", &[]) == 1.0), "{}", edge.log());
    let more = listener.read_for(SECOND * 2);
    assert!(more.windows(8).any(|window| window == b"OpusHead"), "the headers of the new stream");
    assert_eq!(edge.metric("flumen_listener_departures_total", &[]), 0.0);
}

#[test]
fn the_next_upstream_is_tried_when_the_preferred_one_fails() {
    let body = mp3();
    let answer = [b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n".to_vec(), body.clone()].concat();
    let (redirecting, _first) = upstream(vec![b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()]);
    let (port, _second) = upstream(vec![b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n".to_vec(), answer]);
    let dead = free_port();
    let upstreams: Vec<_> = [dead, redirecting, port].iter().map(|port| format!("http://127.0.0.1:{port}/a")).collect();
    let server = Server::spawn("", &relay("relay_on_demand = true", &upstreams), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let mut listener = server.listen_with("GET /relay HTTP/1.0\r\n\r\n");
    assert!(listener.read(body.len()) == body);
    let told = |what: &str| until(SECOND * 5, || server.log().contains(what));
    assert!(told("Connection refused") && told("it answers 404"), "{}", server.log());
}

/// A server that says this again and again to whoever asks. Returns to how many it does so at present.
fn talker(port: u16, word: &'static str) -> Arc<AtomicUsize> {
    let door = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let listening = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&listening);
    std::thread::spawn(move || {
        for peer in door.incoming() {
            let (mut peer, count) = (peer.expect("a peer"), Arc::clone(&count));
            std::thread::spawn(move || {
                head(&mut peer);
                count.fetch_add(1, Ordering::Relaxed);
                let mut said = peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n");
                while said.is_ok() {
                    said = peer.write_all(word.as_bytes());
                    std::thread::sleep(SECOND / 50);
                }
                count.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    listening
}

#[test]
fn a_preferred_upstream_that_is_back_is_gone_back_to_and_who_listens_stays() {
    let [preferred, other] = [(); 2].map(|()| free_port());
    let to_other = talker(other, "the other one\n");
    let upstreams = [preferred, other].map(|port| format!("http://127.0.0.1:{port}/a"));
    let server = Server::start(&relay("on_source_end = \"close\"", &upstreams));
    let mut listener = server.listen("/relay");
    let mut hears = |word: &str| String::from_utf8_lossy(&listener.read_for(SECOND)).contains(word);
    assert!(hears("the other one"));
    let restarts = || server.metric("flumen_source_restarts_total", &[]);
    let before = restarts();
    // What accepts, sends what it has kept and then nothing is no reason to leave one that delivers.
    let door = TcpListener::bind(("127.0.0.1", preferred)).expect("the port");
    let (mut peer, _) = door.accept().expect("it is tried");
    head(&mut peer);
    peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nthe first one\n").expect("sent");
    assert!(hears("the other one") && !hears("the first one"));
    drop((peer, door));
    assert!(until(SECOND * 10, || server.log().contains("is not gone back to yet")), "{}", server.log());
    let to_preferred = talker(preferred, "the first one\n");
    assert!(until(SECOND * 100, || hears("the first one")), "{}", server.log());
    assert!(until(SECOND * 10, || to_other.load(Ordering::Relaxed) == 0), "the other is hung up on");
    assert!(hears("the first one") && !hears("the other one"));
    assert_eq!(to_preferred.load(Ordering::Relaxed), 1);
    assert_eq!((restarts(), server.metric("flumen_source_up", &[])), (before, 1.0), "the mount has had a source all the time");
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    assert!(server.log().contains("the relay goes back to an upstream that is preferred"), "{}", server.log());
}

/// A certificate for localhost that vouches for itself, and its key, in files of this name.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let path = |ending| format!("{}/flumen-relays-{}-{name}.{ending}", std::env::temp_dir().display(), std::process::id());
    let (cert, key) = (path("pem"), path("key"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (cert, key)
}

#[test]
fn a_relay_pulls_by_tls_from_whom_its_certificates_vouch_for_and_says_why_it_does_not() {
    let (cert, key) = certificate("own");
    let (other, _) = certificate("other");
    let (secure, plain) = (free_port(), free_port());
    let tls = format!("[[server.tls]]\nlisten = [\"127.0.0.1:{secure}\"]\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n");
    let mount = format!("[[mount]]\npath = \"/live\"\npipeline = \"{OGG}\"\n");
    let _origin = Server::start_with(&format!("listen = [\"127.0.0.1:{{port}}\", \"127.0.0.1:{plain}\"]"), &format!("{tls}{mount}"));
    let (redirecting, asked) =
        upstream(vec![format!("HTTP/1.1 302 Found\r\nLocation: https://localhost:{secure}/live\r\n\r\n").into_bytes()]);
    let from = |path: &str, url: String, ca: &str| {
        format!(
            "[[mount]]\npath = \"{path}\"\nrelay = \"{url}\"\n{}\n",
            if ca.is_empty() { String::new() } else { format!("relay_ca = \"{ca}\"") }
        )
    };
    let mounts = [
        from("/good", format!("https://us:er@localhost:{secure}/live"), &cert),
        from("/redirected", format!("http://us:er@localhost:{redirecting}/"), &cert),
        from("/unknown", format!("https://localhost:{secure}/live"), ""),
        from("/other", format!("https://localhost:{secure}/live"), &other),
        from("/misnamed", format!("https://127.0.0.1:{secure}/live"), &cert),
        from("/plain", format!("https://localhost:{plain}/live"), &cert),
    ];
    let edge = Server::spawn("", &mounts.concat(), &[]);
    assert!(until(SECOND * 10, || edge.try_get("/healthz").is_ok()), "{}", edge.log());
    for path in ["/good", "/redirected"] {
        let mut listener = edge.listen(path);
        assert_eq!(listener.head.header("content-type"), Some("application/ogg"));
        assert!(listener.read_for(SECOND).starts_with(b"OggS"), "{path}");
    }
    assert!(asked.join().expect("served")[0].contains("Basic dXM6ZXI="));
    for (mount, why) in [
        ("/unknown", "vouches for its certificate"),
        ("/other", "vouches for its certificate"),
        ("/misnamed", "its certificate is for another name"),
        ("/plain", "does not speak TLS at this port"),
    ] {
        let said = |line: &str| line.contains(mount) && line.contains(why);
        assert!(until(SECOND * 5, || edge.log().lines().any(said)), "{mount}: {why}: {}", edge.log());
    }
    assert!(!edge.log().contains("us:er") && !edge.log().contains("dXM6ZXI"), "no password in the log");
    for file in [cert, key, other] {
        std::fs::remove_file(file).expect("removed");
    }
}

#[test]
fn a_password_with_a_key_of_its_own_is_sent_and_not_logged() {
    let (port, asked) = upstream(vec![b"HTTP/1.1 401 Unauthorized\r\n\r\n".to_vec()]);
    let server = Server::spawn("", &relay("relay_user = \"me\"\nrelay_password = \"w0rd\"", &[format!("http://127.0.0.1:{port}/a")]), &[]);
    assert!(asked.join().expect("served")[0].contains("Authorization: Basic bWU6dzByZA=="));
    assert!(until(SECOND * 5, || server.log().contains("it answers 401: who asks has to be known there")), "{}", server.log());
    assert!(!server.log().contains("w0rd"));
}

#[test]
fn a_relay_is_stopped_started_and_begun_anew_by_operators() {
    let origin = Server::start(&format!("[[mount]]\npath = \"/live\"\npipeline = \"{OGG}\"\n"));
    let edge = Server::start(&relay("", &[origin.url("/live")]));
    let mut listener = edge.listen("/relay");
    let act =
        |word: &str| edge.ask(format!("POST /api/v1/mounts/relay/source/{word} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
    let up = |want: f64| until(SECOND * 10, || edge.metric("flumen_source_up", &[]) == want);
    for (word, want, listeners) in [("stop", 0.0, 0.0), ("start", 1.0, 1.0), ("restart", 1.0, 1.0)] {
        let answer = act(word);
        assert!(answer.starts_with("HTTP/1.1 204"), "{word}: {answer}");
        assert!(up(want), "{word}: {}", edge.log());
        assert!(until(SECOND * 10, || origin.metric("flumen_listeners", &[]) == listeners), "{word}");
    }
    assert!(!listener.read_for(SECOND).is_empty(), "who listened is still here");
    assert_eq!(edge.metric("flumen_listener_departures_total", &[]), 0.0);
}

#[test]
fn a_relay_on_demand_pulls_only_while_somebody_listens() {
    let origin = Server::start(&format!("[[mount]]\npath = \"/live\"\npipeline = \"{OGG}\"\n"));
    let edge = Server::spawn("", &relay("relay_on_demand = true", &[origin.url("/live")]), &[]);
    assert!(until(SECOND * 10, || edge.try_get("/readyz").is_ok_and(|answer| answer.status == 200)), "nobody needs a source yet");
    std::thread::sleep(SECOND);
    assert_eq!(origin.metric("flumen_listeners", &[]), 0.0);
    let mut listener = edge.listen("/relay");
    assert!(!listener.read_for(SECOND).is_empty());
    assert_eq!(origin.metric("flumen_listeners", &[]), 1.0);
}

#[test]
fn a_circle_of_relays_is_not_closed() {
    let port = free_port();
    // Without its encoder the first would hear itself, by way of the second.
    let mounts = format!(
        "[[mount]]\npath = \"/a\"\nrelay = [\"http://127.0.0.1:{dead}/x\", \"http://127.0.0.1:{port}/b\"]\n\n\
         [[mount]]\npath = \"/b\"\nrelay = \"http://127.0.0.1:{port}/c\"\n\n\
         [[mount]]\npath = \"/c\"\nrelay = \"http://127.0.0.1:{port}/b\"\n\n\
         [[mount]]\npath = \"/self\"\nrelay = \"http://127.0.0.1:{port}/sound\"\n\n\
         [[mount]]\npath = \"/sound\"\npipeline = \"{OGG}\"\n",
        dead = free_port()
    );
    let server = Server::spawn(&format!("listen = [\"127.0.0.1:{{port}}\", \"127.0.0.1:{port}\"]\nheader_timeout = \"1s\""), &mounts, &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    assert!(until(SECOND * 20, || server.metric("flumen_source_up", &["/self"]) == 1.0), "another mount of the same server is no circle");
    let mut listener = Stream::open({
        let mut peer = server.connect();
        peer.write_all(b"GET /self HTTP/1.1\r\nHost: x\r\nVia: 1.1 flumen-0\r\n\r\n").expect("sent");
        peer
    });
    let via = listener.head.header("via").expect("where it came through").to_owned();
    assert!(via.contains("(/sound)") && via.contains("(/self)"), "{via}");
    assert!(!listener.read_for(SECOND).is_empty());
    for mount in ["/a", "/b", "/c"] {
        assert_eq!(server.metric("flumen_source_up", &[&format!("\"{mount}\"")]), 0.0);
    }
}
