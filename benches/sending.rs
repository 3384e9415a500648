//! What one send to the kernel costs by how many slices it is given: `make bench-time`, or `cargo bench --bench sending`.
//!
//! A window of MP3 is ten to twenty frames. They are sent to thousands of connections as they are (`sendmsg`), and laid out in one piece as
//! `fanout::tape` does it (`send`); rounds take turns on the same connections, every second one backwards, and what is told is the ratio
//! within each pair: from minute to minute a shared machine's figures differ by more than that.
#![expect(clippy::print_stdout, reason = "it is a program that prints figures")]

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flumen::engine::socket::{Socket, Wire};

/// Connections: far more than what a processor keeps at hand.
const CONNECTIONS: usize = 4000;
/// Bytes of a frame of MP3 at 128 kbit/s.
const FRAME: usize = 417;
/// Listeners are served so many at a time, with a pause in which they read.
const AT_ONCE: usize = 80;
const PAUSE: Duration = Duration::from_micros(300);
const PAIRS: usize = 40;

fn main() {
    // As one of the benches it is run among the tests: that it works is seen by a few.
    let tested = !std::env::args().any(|argument| argument == "--bench");
    let (connections, pairs) = if tested { (AT_ONCE, 1) } else { (CONNECTIONS, PAIRS) };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        readers.push(TcpStream::connect(address).expect("connected: more than 8,000 descriptors are needed"));
        let mut socket = Socket::new(listener.accept().expect("it was connected").0).expect("a socket");
        socket.set_send_buffer(64 * 1024).expect("a connection");
        senders.push(socket);
    }
    let ends = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ends);
    let reading = std::thread::spawn(move || read(&readers, &told));
    for frames in [2, 10, 19] {
        let mut ratios = Vec::new();
        for pair in 0..pairs {
            let order = if pair % 2 == 0 { [frames, 1] } else { [1, frames] };
            let spent = order.map(|slices| round(&mut senders, frames, slices));
            let [apart, together] = if pair % 2 == 0 { spent } else { [spent[1], spent[0]] };
            ratios.push(together.as_secs_f64() / apart.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        let at = |quarter: usize| ratios[(ratios.len() - 1) * quarter / 4];
        println!("{frames} frames: one slice takes {:.3} of {frames} (quartiles {:.3} and {:.3})", at(2), at(1), at(3));
    }
    ends.store(true, Ordering::Relaxed);
    reading.join().expect("the reader ends");
}

/// Sends a window's frames to everybody; the time that the calls took.
fn round(senders: &mut [Socket], frames: usize, slices: usize) -> Duration {
    let payload = vec![0; frames * FRAME];
    let pieces: Vec<IoSlice<'_>> = payload.chunks(payload.len() / slices).map(IoSlice::new).collect();
    let mut spent = Duration::ZERO;
    for some in senders.chunks_mut(AT_ONCE) {
        let began = Instant::now();
        for socket in some {
            assert_eq!(socket.send(&pieces).ok(), Some(payload.len()), "the reader does not keep up");
        }
        spent += began.elapsed();
        std::thread::sleep(PAUSE);
    }
    spent
}

/// Reads whatever comes, until it is over.
fn read(readers: &[TcpStream], ends: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    readers.iter().for_each(|reader| reader.set_nonblocking(true).expect("a connection"));
    while !ends.load(Ordering::Relaxed) {
        for mut reader in readers {
            let _ = std::io::Read::read(&mut reader, &mut buffer); // nothing there, most of the time
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
