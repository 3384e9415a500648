//! The encoder of many listeners dies and returns, again and again, or is relieved by another: nobody is lost, and everybody goes on where
//! a decoder can.
//!
//! Two hundred listeners as the tests run; `make deaths LISTENERS=10000` for as many as the machine has room for.

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::{Server, Stream, until};

const SECOND: Duration = Duration::from_secs(1);
const DEATHS: u32 = 10;
const HEAD: &str = "PUT /live HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c291cmNlOnMzY3JldA==\r\nContent-Type: audio/ogg\r\n\r\n";

/// The checksum of a page of Ogg: polynomial 0x04c11db7, not reflected.
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| if crc & 1 << 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04C1_1DB7 })
    })
}

fn page(flags: u8, granule: u64, serial: u32, number: u32, packet: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    page.extend([1, packet.len() as u8]);
    page.extend(packet);
    let sum = checksum(&page).to_le_bytes();
    page[22..26].copy_from_slice(&sum);
    page
}

/// The headers of one life of the encoder.
fn headers(life: u32) -> Vec<u8> {
    let head = b"OpusHead\x01\x02\x38\x01\x80\xBB\0\0\0\0\0";
    let mut tags = b"OpusTags".to_vec();
    tags.extend([0; 8]);
    [page(2, 0, life, 0, head), page(0, 0, life, 1, &tags)].concat()
}

/// One packet: which, and of which life.
fn data(life: u32, number: u32) -> Vec<u8> {
    page(0, u64::from(number + 1) * 960, life, number + 2, format!("life {life:03} packet {number:07}").repeat(6).as_bytes())
}

/// An encoder that sends some packets a second until it is told to die, in the middle of one.
struct Encoder {
    dies: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Encoder {
    fn start(server: &Server, life: u32) -> Self {
        let mut socket = server.connect();
        socket.write_all(HEAD.as_bytes()).expect("sent");
        let Stream { mut socket, head } = Stream::open(socket);
        assert_eq!(head.status, 200, "{}", head.head);
        let dies = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&dies);
        let thread = std::thread::spawn(move || {
            let mut sent = socket.write_all(&headers(life));
            for number in 0.. {
                let packet = data(life, number);
                if sent.is_err() {
                    return; // relieved
                }
                if told.load(Ordering::Relaxed) {
                    let _ = socket.write_all(&packet[..50]);
                    return;
                }
                sent = socket.write_all(&packet);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { dies, thread }
    }

    fn die(self) {
        self.dies.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
    }
}

/// What all pages are to be, made once for each thread: ten thousand listeners hear the same.
#[derive(Default)]
struct Score(HashMap<(u32, u32), Vec<u8>>);

impl Score {
    fn page(&mut self, life: u32, number: u32) -> &[u8] {
        self.0.entry((life, number)).or_insert_with(|| match number {
            0 | 1 => page_of(life, number as usize),
            _ => data(life, number - 2),
        })
    }
}

/// What one listener has heard so far, page by page.
struct Ear {
    socket: TcpStream,
    rest: Vec<u8>,
    /// The life whose headers were heard last, and the packet of it.
    life: u32,
    packet: Option<u32>,
}

impl Ear {
    /// Listens to what there is. Whatever is not as it should be is a panic.
    fn listen(&mut self, score: &mut Score, buffer: &mut [u8]) {
        match self.socket.read(buffer) {
            Ok(0) => panic!("a listener was sent away in life {}", self.life),
            Ok(count) => self.rest.extend(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(error) => panic!("a listener was lost: {error}"),
        }
        let mut at = 0;
        while let Some(length) = whole(&self.rest[at..]) {
            let word = |from: usize| u32::from_le_bytes(self.rest[at + from..at + from + 4].try_into().expect("four bytes"));
            let (serial, number) = (word(14), word(18));
            assert!(self.rest[at..at + length] == *score.page(serial, number), "a page of life {serial} that is not whole");
            self.hear(serial, number);
            at += length;
        }
        self.rest.drain(..at);
    }

    fn hear(&mut self, serial: u32, number: u32) {
        match number {
            0 => {
                assert!(serial >= self.life, "headers of {serial} in life {}", self.life);
                (self.life, self.packet) = (serial, None);
            }
            1 => assert!(serial == self.life && self.packet.is_none()),
            _ => {
                assert!(serial == self.life, "a packet of {serial} without its headers");
                if let Some(before) = self.packet {
                    assert_eq!(number - 2, before + 1, "a gap or a repeat in life {serial}");
                }
                self.packet = Some(number - 2);
            }
        }
    }
}

/// One of the two pages of headers.
fn page_of(life: u32, which: usize) -> Vec<u8> {
    let both = headers(life);
    let first = whole(&both).expect("a page");
    if which == 0 { both[..first].to_vec() } else { both[first..].to_vec() }
}

/// The length of the page at the front, if it is whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(27)?;
    assert!(bytes.starts_with(b"OggS"), "no page: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
    let length = 28 + usize::from(*length);
    (bytes.len() >= length).then_some(length)
}

/// Many who listen, on a few threads; how many have come as far as a packet of some life.
struct Crowd {
    reached: Vec<Arc<AtomicUsize>>,
    ends: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

const THREADS: usize = 2;

impl Crowd {
    fn gather(server: &Server, count: usize) -> Self {
        let reached: Vec<_> = (0..=DEATHS * 2 + 1).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let ends = Arc::new(AtomicBool::new(false));
        let ear = |_| {
            let Stream { socket, head } = server.listen("/live");
            assert_eq!(head.status, 200);
            socket.set_nonblocking(true).expect("nonblocking");
            Ear { socket, rest: Vec::new(), life: 0, packet: None }
        };
        let mut ears: Vec<_> = (0..count).map(ear).collect();
        let threads = (0..THREADS)
            .map(|i| {
                let mut mine = ears.split_off(ears.len() - if i + 1 == THREADS { ears.len() } else { count / THREADS });
                let (reached, ends) = (reached.clone(), Arc::clone(&ends));
                std::thread::spawn(move || {
                    let (mut score, mut buffer) = (Score::default(), vec![0; 65536]);
                    let mut counted: Vec<Vec<bool>> = vec![vec![false; reached.len()]; mine.len()];
                    while !ends.load(Ordering::Relaxed) {
                        for (ear, counted) in mine.iter_mut().zip(&mut counted) {
                            ear.listen(&mut score, &mut buffer);
                            let life = ear.life as usize;
                            if ear.packet.is_some_and(|packet| packet >= 5) && !std::mem::replace(&mut counted[life], true) {
                                reached[life].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                })
            })
            .collect();
        Self { reached, ends, threads }
    }

    /// Waits until everybody hears this life.
    fn await_life(&self, life: u32, count: usize) {
        let reached = &self.reached[life as usize];
        assert!(
            until(SECOND * 60, || reached.load(Ordering::Relaxed) == count),
            "{} of {count} hear life {life}",
            reached.load(Ordering::Relaxed)
        );
    }

    fn leave(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("nobody was lost, and all was as it should be"));
    }
}

fn count() -> usize {
    std::env::var("LISTENERS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

fn server(more: &str) -> Server {
    let most = count() + 100;
    let mount = format!("[push]\npassword = \"s3cret\"\n[[mount]]\npath = \"/live\"\nsync = \"latest\"\n{more}\n");
    let server = Server::spawn(&format!("max_listeners = {most}\nmax_connections = {}\n", most * 2), &mount, &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
    server
}

#[test]
fn the_encoder_of_many_dies_and_returns_ten_times_and_nobody_is_lost() {
    let server = server("linger = \"60s\"");
    let mut encoder = Encoder::start(&server, 1);
    let crowd = Crowd::gather(&server, count());
    for life in 2..=DEATHS + 1 {
        crowd.await_life(life - 1, count());
        encoder.die();
        assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["/live"]) == 0.0));
        encoder = Encoder::start(&server, life);
    }
    crowd.await_life(DEATHS + 1, count());
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    assert_eq!(server.metric("flumen_dropped_chunks_total", &[]), 0.0);
    crowd.leave();
    encoder.die();
}

#[test]
fn an_encoder_is_relieved_by_another_ten_times_under_load_and_nobody_is_lost() {
    let server = server("takeover = true");
    let mut encoder = Encoder::start(&server, 1);
    let crowd = Crowd::gather(&server, count());
    for life in 2..=DEATHS + 1 {
        crowd.await_life(life - 1, count());
        let next = Encoder::start(&server, life);
        crowd.await_life(life, count());
        std::mem::replace(&mut encoder, next).die();
    }
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    assert!(until(SECOND * 5, || server.metric("flumen_source_restarts_total", &["/live"]) == f64::from(DEATHS)));
    crowd.leave();
    encoder.die();
}
