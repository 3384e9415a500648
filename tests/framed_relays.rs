//! A flumen that pulls a flumen: what its listeners hear is what the origin's hear, byte for byte, whatever becomes of the link.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// Noise, so that no two frames are the same and a gap cannot hide.
const NOISE: &str = "audiotestsrc is-live=true wave=white-noise samplesperbuffer=1152 ! audio/x-raw,rate=44100";

fn mp3(path: &str) -> String {
    format!(
        "[[mount]]\npath = \"{path}\"\nkeep = \"30s\"\npipeline = \"{NOISE} ! lamemp3enc target=bitrate bitrate=64 cbr=true ! mpegaudioparse\"\n"
    )
}

fn ogg(path: &str) -> String {
    let sound = NOISE.replace("rate=44100", "rate=48000");
    format!("[[mount]]\npath = \"{path}\"\nkeep = \"30s\"\npipeline = \"{sound} ! opusenc ! oggmux max-delay=100000000\"\n")
}

fn edge(more: &str, port: u16) -> String {
    format!("[[mount]]\npath = \"/relay\"\nrelay = \"http://127.0.0.1:{port}/live\"\n{more}\n")
}

/// A link that can be cut: a door of its own that leads to the origin.
struct Link {
    port: u16,
    open: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
    /// Connections that were let through.
    passed: Arc<AtomicU64>,
    /// Bytes that still go through before it breaks by itself; below zero: it does not.
    left: Arc<AtomicI64>,
}

impl Link {
    fn to(origin: u16) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = door.local_addr().expect("an address").port();
        let link = Self {
            port,
            open: Arc::new(AtomicBool::new(true)),
            ends: Arc::default(),
            passed: Arc::default(),
            left: Arc::new(AtomicI64::new(-1)),
        };
        let (open, ends, passed, left) = (Arc::clone(&link.open), Arc::clone(&link.ends), Arc::clone(&link.passed), Arc::clone(&link.left));
        std::thread::spawn(move || {
            for near in door.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", origin)) else { continue };
                if !open.load(Ordering::SeqCst) {
                    continue;
                }
                passed.fetch_add(1, Ordering::SeqCst);
                let clone = |stream: &TcpStream| stream.try_clone().expect("another handle");
                ends.lock().expect("no panic").extend([clone(&near), clone(&far)]);
                let (asks, answers, left) = ((clone(&near), clone(&far)), (far, near), Arc::clone(&left));
                std::thread::spawn(move || carry(asks.0, asks.1, &AtomicI64::new(-1)));
                std::thread::spawn(move || carry(answers.0, answers.1, &left));
            }
        });
        link
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for end in self.ends.lock().expect("no panic").drain(..) {
            let _ = end.shutdown(Shutdown::Both); // it may have ended by itself
        }
    }

    fn restore(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

/// Carries bytes from one to the other, until one of them ends or no more may pass.
fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
    let mut bytes = [0; 1500];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let may = left.load(Ordering::SeqCst);
        let count = if may < 0 { count } else { count.min(may as usize) };
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
        if may >= 0 && left.fetch_sub(count as i64, Ordering::SeqCst) - count as i64 <= 0 {
            left.store(-1, Ordering::SeqCst);
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Where the pages of an Ogg stream begin; all of it has to be pages, but for the last, which may be cut off.
fn pages(stream: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at + 27 <= stream.len() {
        assert_eq!(&stream[at..at + 4], b"OggS", "at {at} of {} there is no page", stream.len());
        starts.push(at);
        let segments = usize::from(stream[at + 26]);
        let Some(table) = stream.get(at + 27..at + 27 + segments) else { break };
        at += 27 + segments + table.iter().map(|&size| usize::from(size)).sum::<usize>();
    }
    starts
}

/// How many bytes two listeners of one stream have in common: the one who came later has to have heard what the other heard, from
/// where it came in up to where one of them left.
fn common(earlier: &[u8], later: &[u8]) -> usize {
    let mark = &later[..256];
    let at = earlier.windows(mark.len()).position(|window| window == mark).expect("where the second came in");
    let length = (earlier.len() - at).min(later.len());
    let differs = (0..length).find(|&i| earlier[at + i] != later[i]);
    assert_eq!(differs, None, "they hear something else, of {length} bytes");
    length
}

#[test]
fn a_link_cut_for_five_seconds_and_restored_costs_the_edges_listeners_no_byte() {
    let origin = Server::start(&ogg("/live"));
    let link = Link::to(origin.port);
    let edge = Server::start(&edge("burst = \"1s\"", link.port));
    let mut there = origin.listen("/live");
    let there = std::thread::spawn(move || there.read_for(SECOND * 21));
    std::thread::sleep(SECOND);
    let mut here = edge.listen("/relay");
    assert_eq!(here.head.header("content-type"), Some("application/ogg"));
    let here = std::thread::spawn(move || here.read_for(SECOND * 19));
    std::thread::sleep(SECOND * 4);
    link.cut();
    std::thread::sleep(SECOND * 5);
    assert_eq!(edge.metric("flumen_source_up", &[]), 0.0);
    link.restore();
    let (there, here) = (there.join().expect("read"), here.join().expect("read"));
    assert!(until(SECOND * 5, || edge.log().contains("goes on where it stopped")), "{}", edge.log());
    let [heads, headers] = [&there, &here].map(|heard| pages(heard)[2]); // who it is, and comments
    assert_eq!(there[..heads], here[..headers], "streamheaders");
    let length = common(&there[heads..], &here[headers..]);
    // Some 12 kB a second: what came after the cut is among it.
    assert!(length > here.len() * 9 / 10 && here.len() > 80_000, "{length} of {} bytes", here.len());
    assert_eq!(edge.metric("flumen_listener_departures_total", &["reason=\"too_slow\""]), 0.0);
    assert_eq!(edge.metric("flumen_recoveries_total", &[]), 0.0);
    let later = "GET /live HTTP/1.1\r\nHost: x\r\nflumen-relay: 99\r\n\r\n";
    assert_eq!(origin.listen_with(later).head.header("content-type"), Some("application/ogg"), "another version gets the stream");
}

#[test]
fn cuts_in_the_middle_of_frames_cost_no_byte_either() {
    let origin = Server::start(&mp3("/live"));
    let link = Link::to(origin.port);
    let edge = Server::start(&edge("burst = \"1s\"\nname = \"Edge\"", link.port));
    let mut there = origin.listen("/live");
    let there = std::thread::spawn(move || there.read_for(SECOND * 18));
    std::thread::sleep(SECOND / 2);
    let mut here = edge.listen("/relay");
    let here = std::thread::spawn(move || here.read_for(SECOND * 16));
    // Heads of answers take some hundred bytes, frames of this stream 256.
    for _ in 0..5 {
        let before = link.passed.load(Ordering::SeqCst);
        link.left.store(fastrand::i64(1..9000), Ordering::SeqCst);
        assert!(until(SECOND * 15, || link.passed.load(Ordering::SeqCst) > before), "{}", edge.log());
    }
    let (there, here) = (there.join().expect("read"), here.join().expect("read"));
    let length = common(&there, &here);
    assert!(length > 70_000, "{length} of {} bytes", here.len());
    assert!(edge.log().matches("goes on where it stopped").count() >= 4, "{}", edge.log());
}

#[test]
fn a_newborn_edge_has_what_its_newcomers_are_given_at_once() {
    let origin = Server::start(&mp3("/live"));
    std::thread::sleep(SECOND * 6);
    let edge = Server::spawn("", &edge("relay_on_demand = true\nburst = \"4s\"", origin.port), &[]);
    assert!(until(SECOND * 10, || edge.try_get("/healthz").is_ok()));
    let mut listener = edge.listen("/relay");
    assert_eq!(listener.head.header("content-type"), Some("audio/mpeg"));
    let begun = std::time::Instant::now();
    listener.read(8000 * 7 / 2); // half a second less than was asked for, at 8 kB a second
    assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    assert!(edge.metric("flumen_ring_seconds", &[]) > 3.0, "the times are those of the origin, not of its arrival");
}

#[test]
fn titles_and_what_the_stream_is_called_come_along_through_two_edges() {
    let origin = Server::start(&format!("{}name = \"The origin\"\n", mp3("/live")));
    let first = Server::start(&edge("", origin.port));
    let second = Server::start(&edge("", first.port).replace("/live", "/relay"));
    let answer = origin.get("/admin/metadata?mount=/live&mode=updinfo&artist=Somebody&title=Something");
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let told = |server: &Server| server.get("/status-json.xsl").body_text();
    for server in [&first, &second] {
        assert!(until(SECOND * 10, || told(server).contains("Something") && told(server).contains("The origin")), "{}", told(server));
    }
}

#[test]
fn an_origin_that_begins_anew_is_recognised_and_nothing_is_torn() {
    let port = free_port();
    let origin = || Server::spawn(&format!("listen = [\"127.0.0.1:{port}\"]"), &ogg("/live"), &[]);
    let first = origin();
    let edge = Server::spawn("", &edge("burst = \"1s\"", port), &[]);
    assert!(until(SECOND * 15, || edge.try_get("/readyz").is_ok_and(|answer| answer.status == 200)), "{}", edge.log());
    let mut listener = edge.listen("/relay");
    let reading = std::thread::spawn(move || listener.read_for(SECOND * 12));
    std::thread::sleep(SECOND * 3);
    drop(first);
    assert!(until(SECOND * 10, || edge.metric("flumen_source_up", &[]) == 0.0));
    let _second = origin();
    assert!(until(SECOND * 30, || edge.metric("flumen_source_up", &[]) == 1.0), "{}", edge.log());
    let heard = reading.join().expect("read");
    let begins = pages(&heard).into_iter().filter(|&at| heard[at + 5] & 2 != 0).count();
    assert_eq!(begins, 2, "one stream after the other, each with its headers once");
    assert!(!edge.log().contains("goes on where it stopped"));
    assert!(edge.metric("flumen_listener_departures_total", &[]) <= edge.metric("flumen_listener_departures_total", &["hung_up"]));
}
