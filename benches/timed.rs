//! Every scenario by the clock: `make bench-time`, or `cargo bench --bench timed -- turn` for some of them.
//!
//! The figures are those of one machine in one mood. What is compared from change to change is counted (`instructions`).

mod scenario;

use std::io::{IoSlice, Read};
use std::net::{TcpListener, TcpStream};

use divan::Bencher;
use divan::counter::ItemsCount;
use flumen::engine::socket::{Socket, Wire};

use scenario::{ALL, Scenario};

fn main() {
    divan::main();
}

/// Items are the scenario's units.
#[divan::bench(args = ALL, sample_count = 20, max_time = 2)]
fn run(bencher: Bencher, scenario: &Scenario) {
    let mut run = (scenario.prepare)();
    bencher.counter(ItemsCount::new(scenario.units)).bench_local(&mut run);
}

/// Sends in one run.
const SENDS: usize = 64;
/// Bytes of a frame of MP3 at 128 kbit/s.
const FRAME: usize = 417;

/// A window's frames to one real listener, in so many slices for the kernel: what a tape (`fanout::tape`) is for.
#[divan::bench(args = [("10 frames", 10, 10), ("10 frames laid out", 10, 1), ("19 frames", 19, 19), ("19 frames laid out", 19, 1)], sample_count = 200, max_time = 5)]
fn send(bencher: Bencher, &(_, frames, slices): &(&str, usize, usize)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut reader = TcpStream::connect(listener.local_addr().expect("it has one")).expect("connected");
    let mut socket = Socket::new(listener.accept().expect("it was connected").0).expect("a socket");
    let (payload, mut read) = (vec![0; frames * FRAME], vec![0; SENDS * frames * FRAME]);
    socket.set_send_buffer(4 << 20).expect("a connection");
    let pieces: Vec<IoSlice<'_>> = payload.chunks(payload.len() / slices).map(IoSlice::new).collect();
    bencher.counter(ItemsCount::new(SENDS)).bench_local(|| {
        for _ in 0..SENDS {
            let sent = socket.send(&pieces).expect("there is room");
            reader.read_exact(&mut read[..sent]).expect("it comes");
        }
    });
}
