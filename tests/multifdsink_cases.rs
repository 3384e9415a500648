//! The unit cases of multifdsink and multisocketsink, and the engine's own rules, through real sockets.
//!
//! The engine runs as in production: threads, epoll, `writev`. Only the source is a test that pushes exact chunks, and the
//! reports go into a list. Where GStreamer places a client at the next arrival, flumen places it at join, from what the ring
//! holds: so a client that joins after nine buffers is sent its burst at once.
//!
//! Nothing here sleeps for a fixed time: shards count their turns.

mod bench;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use bench::{Bench, PATIENCE, all_numbered, large, numbered, rules};
use flumen::engine::broadcast::Rules;
use flumen::engine::inbox::{Command, Reply};
use flumen::fanout::departure::Departure;
use flumen::fanout::placement::SyncMethod;
use flumen::fanout::recovery::{Limits, RecoverPolicy};
use flumen::units::ListenerId;

// ---- the ten cases of GStreamer ----

#[test]
fn no_clients() {
    let mut bench = Bench::new(rules());
    bench.picture("KKKK");
    bench.settle();
    assert_eq!(bench.broadcast.feed.read(|ring| ring.len()), 4);
}

#[test]
fn one_client() {
    let mut bench = Bench::new(rules());
    let mut client = bench.join();
    bench.push(b"dead");
    client.expect("dead");
    bench.push(b"beef");
    bench.settle();
    bench.drain();
    assert_eq!(client.rest(), b"beef");
    let gone = bench.departure(client.id);
    assert_eq!((gone.why, gone.tally.bytes, gone.tally.dropped_chunks), (Departure::SourceEnded, 8, 0));
}

#[test]
fn streamheaders_are_replayed_to_the_first_and_to_the_second_client() {
    let mut bench = Bench::new(rules());
    let mut first = bench.join();
    bench.caps(&["babe", "deadbeef"]);
    bench.settle();
    first.expect_nothing(); // headers come with the first chunk
    bench.push(b"f00d");
    first.expect("babedeadbeeff00d");
    let mut second = bench.join();
    second.expect("babedeadbeeff00d"); // at join, not at the next arrival
    bench.push(b"deaf");
    first.expect("deaf");
    second.expect("deaf");
    bench.settle();
    first.expect_nothing();
    second.expect_nothing();
}

#[test]
fn a_changed_streamheader_is_sent_to_old_and_new_clients() {
    for resend in [true, false] {
        let mut bench = Bench::new(Rules { resend_streamheader: resend, ..rules() });
        bench.caps(&["first"]);
        let mut old = bench.join();
        bench.push(b"f00d");
        old.expect("firstf00d");
        bench.caps(&["second"]);
        bench.push(b"deadbabe");
        old.expect(if resend { "seconddeadbabe" } else { "deadbabe" });
        let mut new = bench.join();
        new.expect("seconddeadbabe");
        bench.caps(&["second"]); // other caps, same header
        bench.push(b"deaf");
        bench.drain();
        assert_eq!((old.rest(), new.rest()), (b"deaf".to_vec(), b"deaf".to_vec()), "resend: {resend}");
    }
}

/// What is sent at join to a client placed like this when the ring holds the picture, and what follows.
fn burst(picture: &str, method: SyncMethod, min: &str, max: &str, at_join: impl IntoIterator<Item = u64>, later: &[u64]) {
    let mut bench = Bench::new(rules());
    bench.picture(picture);
    let mut client = bench.join_as(method, min, max);
    let at_join = all_numbered(at_join);
    client.expect(&at_join);
    client.expect_nothing();
    bench.picture(".K."); // the picture, then a delta, a keyframe, a delta
    bench.settle();
    bench.drain();
    let case = format!("{picture} {method:?} {min} to {max}");
    assert_eq!(client.rest(), all_numbered(later.iter().copied()), "{case}");
    assert_eq!(bench.departure(client.id).tally.dropped_chunks, 0, "{case}");
}

#[test]
fn a_burst_in_bytes_is_exact_between_its_minimum_and_its_maximum() {
    let later = [9, 10, 11];
    burst("K........", SyncMethod::Latest, "none", "none", [8], &later);
    burst("K........", SyncMethod::Burst, "80B", "none", 4..9, &later);
    burst("K........", SyncMethod::Burst, "50B", "200B", 5..9, &later);
    burst("K........", SyncMethod::Burst, "50B", "50B", 6..9, &later); // a maximum wins: 48 bytes
    burst("K........", SyncMethod::Burst, "800B", "none", 0..9, &later); // all there is, the oldest keyframe not lost
    burst("K........", SyncMethod::Burst, "60ms", "none", 5..9, &later);
    burst("K........", SyncMethod::Burst, "5 chunks", "none", 4..9, &later);
}

#[test]
fn a_burst_on_a_keyframe_starts_on_one_or_waits_for_the_next() {
    let later = [10, 11, 12];
    burst("K....K....", SyncMethod::BurstKeyframe, "50B", "90B", 5..10, &later);
    burst("K....K....", SyncMethod::BurstKeyframe, "96B", "160B", 0..10, &later); // a maximum is inclusive
    burst("K....K....", SyncMethod::BurstKeyframe, "96B", "159B", 5..10, &later); // too far back: nearer
    burst("K.........", SyncMethod::BurstKeyframe, "50B", "159B", [], &[11, 12]); // none allowed: the next
}

#[test]
fn a_burst_with_a_keyframe_starts_on_one_if_the_maximum_allows_it() {
    let later = [10, 11, 12];
    burst("K....K....", SyncMethod::BurstWithKeyframe, "50B", "90B", 5..10, &later);
    burst("K....K....", SyncMethod::BurstWithKeyframe, "96B", "none", 0..10, &later);
    burst("K.........", SyncMethod::BurstWithKeyframe, "50B", "90B", 6..10, &later); // else where the burst is
}

#[test]
fn a_client_that_asks_for_the_next_keyframe_gets_nothing_older() {
    burst("K....K....", SyncMethod::NextKeyframe, "none", "none", [], &[11, 12]);
    burst("K....K...K", SyncMethod::NextKeyframe, "none", "none", [], &[11, 12]);
    burst("K....K....", SyncMethod::LatestKeyframe, "none", "none", 5..10, &[10, 11, 12]);
    burst("..........", SyncMethod::LatestKeyframe, "none", "none", [], &[11, 12]);
}

#[test]
fn a_slow_client_is_kicked_at_three_buffers_while_others_are_byte_complete() {
    let limits = Limits { soft: "none".parse().expect("none"), hard: "3 chunks".parse().expect("three") };
    let mut bench = Bench::new(Rules { limits, ..rules() });
    let mut slow = bench.join();
    let mut fast = [bench.join(), bench.join()];
    for number in 0..5 {
        let payload = large(bench.pushed);
        bench.push(&payload);
        fast.iter_mut().for_each(|client| client.expect(large(number)));
        bench.settle();
        // Chunk 0 is in flight, so behind it wait as many as `number`; a limit acts when it is passed.
        assert_eq!(bench.list().len(), if number <= 3 { 3 } else { 2 }, "after chunk {number}");
    }
    let gone = bench.departure(slow.id);
    assert_eq!((gone.why, gone.tally.dropped_chunks), (Departure::TooSlow, 0));
    let heard = slow.rest();
    assert_eq!(heard.len() as u64, gone.tally.bytes);
    assert!(large(0).starts_with(&heard), "what it got is the beginning of what there was");
    bench.push(b"end");
    fast.iter_mut().for_each(|client| client.expect("end"));
}

#[test]
fn buffers_of_many_parts_arrive_whole_however_they_are_cut() {
    let mut bench = Bench::new(rules());
    let parts: Vec<String> = (0..40).map(|i| format!("part {i:04};").repeat(100)).collect();
    bench.caps(&parts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut want = parts.concat().into_bytes();
    let mut client = bench.join_as(SyncMethod::Burst, "1000 chunks", "none");
    for number in 0..300_u64 {
        let payload = numbered(number).repeat(1 + number as usize % 50);
        want.extend(&payload);
        bench.push(&payload);
    }
    bench.drain();
    let mut got: Vec<u8> = Vec::new();
    for size in [1, 7, 100, 4096, 33].into_iter().cycle() {
        let mut piece = vec![0; size];
        match client.stream.read(&mut piece).expect("bytes or the end") {
            0 => break,
            taken => got.extend(&piece[..taken]),
        }
    }
    assert_eq!(got.len(), want.len());
    assert!(got == want, "some bytes are not where they should be");
    assert_eq!(bench.departure(client.id).tally.bytes, want.len() as u64);
}

// ---- rules of our own ----

#[test]
fn a_lagging_client_gets_the_old_data_then_the_new_header_then_the_new_data() {
    for (resend, between) in [(true, "second"), (false, "")] {
        let mut bench = Bench::new(Rules { resend_streamheader: resend, ..rules() });
        bench.caps(&["first"]);
        let mut client = bench.join();
        let mut want = b"first".to_vec();
        for number in 0..4 {
            if number == 2 {
                bench.caps(&["second"]);
                want.extend(between.as_bytes());
            }
            bench.push(&large(number));
            want.extend(large(number));
        }
        bench.settle();
        assert_eq!(bench.view(client.id).lag.chunks, 3, "it is in the middle of the first");
        bench.drain();
        assert!(client.rest() == want, "resend: {resend}");
    }
}

#[test]
fn a_drain_of_a_client_that_is_caught_up_is_complete_at_once() {
    let mut bench = Bench::new(rules());
    bench.picture("K");
    let mut caught_up = bench.join();
    let mut waiting = bench.join_as(SyncMethod::NextKeyframe, "none", "none");
    caught_up.expect(numbered(0));
    bench.drain();
    assert_eq!((caught_up.rest(), waiting.rest()), (vec![], vec![]), "no next buffer is needed for that");
    assert_eq!(bench.departure(caught_up.id).why, Departure::SourceEnded);
    assert_eq!(bench.departure(waiting.id).why, Departure::SourceEnded);
}

#[test]
fn a_removed_client_is_gone_at_once_in_the_middle_of_a_buffer() {
    let mut bench = Bench::new(rules());
    let mut client = bench.join();
    let mut other = bench.join();
    bench.push(&large(0));
    other.expect(large(0));
    bench.settle();
    assert!(bench.kick(client.id));
    let heard = client.rest();
    assert!(heard.len() < large(0).len() && large(0).starts_with(&heard));
    assert_eq!(bench.departure(client.id).why, Departure::Kicked);
    assert!(!bench.kick(client.id), "nobody is there any more");
    assert!(!bench.kick(ListenerId(4711)));
    bench.push(b"on");
    other.expect("on");
}

#[test]
fn a_half_close_is_a_hang_up_unless_the_mount_keeps_it() {
    for keep in [false, true] {
        let mut bench = Bench::new(Rules { keep_half_closed: keep, ..rules() });
        bench.push(b"dead");
        let mut client = bench.join();
        client.expect("dead");
        client.stream.shutdown(Shutdown::Write).expect("a half-close");
        if keep {
            bench.settle();
            bench.push(b"beef");
            client.expect("beef");
            bench.settle();
            assert_eq!(bench.list().len(), 1);
        } else {
            assert_eq!(bench.departure(client.id).why, Departure::HungUp, "at once, and nothing was pushed meanwhile");
        }
    }
}

#[test]
fn a_client_that_goes_is_noticed_without_a_push_and_what_it_says_is_thrown_away() {
    let mut bench = Bench::new(rules());
    let mut chatty = bench.join();
    let flood = bench.join();
    let gone = bench.join();
    chatty.stream.write_all(&[b'x'; 5000]).expect("it may talk");
    drop(gone.stream);
    assert_eq!(bench.departure(gone.id).why, Departure::HungUp);
    let _ = (&flood.stream).write_all(&[b'x'; 200_000]); // fails as soon as the engine has had enough
    assert_eq!(bench.departure(flood.id).why, Departure::Kicked);
    bench.push(b"dead");
    chatty.expect("dead");
}

#[test]
fn a_stalled_client_is_recovered_as_the_policy_says() {
    // Soft limit 5, twenty buffers, keyframes at 0, 7 and 14; the first is in flight all the time.
    for (recover, heard, dropped) in [
        (RecoverPolicy::None, (0..20).collect::<Vec<_>>(), 0),
        (RecoverPolicy::Latest, vec![0, 16, 17, 18, 19], 15),
        (RecoverPolicy::SoftLimit, vec![0, 15, 16, 17, 18, 19], 14),
        (RecoverPolicy::Keyframe, vec![0], 19),
    ] {
        let limits = Limits { soft: "5 chunks".parse().expect("five"), hard: "none".parse().expect("none") };
        let mut bench = Bench::new(Rules { limits, recover, ..rules() });
        let mut client = bench.join();
        for number in 0..20_u64 {
            bench.push_as(&large(number), number % 7 == 0);
            bench.settle();
        }
        assert_eq!(bench.view(client.id).tally.dropped_chunks, dropped, "{recover:?}");
        bench.drain();
        let want: Vec<u8> = heard.into_iter().flat_map(large).collect();
        assert!(client.rest() == want, "{recover:?}: whole chunks, and only these");
    }
}

#[test]
fn after_a_keyframe_recovery_without_keyframe_it_goes_on_at_the_next_one() {
    let limits = Limits { soft: "5 chunks".parse().expect("five"), hard: "8 chunks".parse().expect("eight") };
    let mut bench = Bench::new(Rules { limits, recover: RecoverPolicy::Keyframe, ..rules() });
    let mut client = bench.join();
    for number in 0..30 {
        bench.push_as(&large(number), number == 0);
        bench.settle();
    }
    client.expect(large(0));
    bench.settle();
    client.expect_nothing();
    bench.picture(".K.");
    bench.drain();
    assert_eq!(client.rest(), all_numbered([31, 32]));
    assert_eq!(bench.departure(client.id).tally.dropped_chunks, 30, "those it waited through are among them");
}

#[test]
fn the_head_of_a_response_goes_first_over_tcp_as_well() {
    let mut bench = Bench::new(Rules { dscp: Some(46), idle_timeout: Some(Duration::from_secs(60)), ..rules() });
    bench.caps(&["header;"]);
    bench.push(b"dead");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (accepted, _) = listener.accept().expect("a connection");
    let id = bench.join_on(accepted, None, b"HTTP/1.1 200 OK\r\n\r\n");
    bench.push(b"beef");
    bench.settle();
    bench.drain();
    let mut got = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.read_to_string(&mut got).expect("an end");
    assert!(got == "HTTP/1.1 200 OK\r\n\r\nheader;deadbeef" || got == "HTTP/1.1 200 OK\r\n\r\nheader;beef", "{got}");
    let head = "HTTP/1.1 200 OK\r\n\r\n".len() as u64;
    assert_eq!(bench.departure(id).tally.bytes, got.len() as u64 - head, "heads are no stream bytes");
}

#[test]
fn a_flush_voids_what_waits_and_costs_nobody_the_place() {
    let mut bench = Bench::new(rules());
    let mut client = bench.join();
    for number in 0..4 {
        bench.push(&large(number));
    }
    bench.settle();
    bench.broadcast.feed.write(|ring| bench.history.flush(ring));
    bench.settle();
    bench.picture(".K.");
    bench.settle();
    client.expect(large(0)); // what has begun is finished
    bench.drain();
    assert_eq!(client.rest(), all_numbered([5, 6]), "then it goes on behind the flush, on a keyframe");
    assert_eq!(bench.departure(client.id).tally.dropped_chunks, 4);
}

#[test]
fn a_shard_that_panics_begins_anew_and_every_listener_it_lost_has_its_departure() {
    let mut bench = Bench::new(rules());
    let mut clients: Vec<_> = (0..3).map(|_| bench.join()).collect();
    bench.push(b"dead");
    clients.iter_mut().for_each(|client| client.expect("dead"));
    let panics = Reply::new(|_| panic!("for the test"));
    let told = bench.crew.hands()[0].inbox.tell(Command::Kick { slot: 0, id: ListenerId(99), why: Departure::Kicked, reply: panics });
    assert!(told);
    for mut client in clients {
        assert!(client.rest().is_empty(), "closed");
        assert_eq!(bench.departure(client.id).why, Departure::IoError);
    }
    let mut newcomer = bench.join();
    newcomer.expect("dead");
    bench.push(b"beef");
    newcomer.expect("beef");
    assert_eq!(bench.broadcast.counters.listeners(), 1);
}
