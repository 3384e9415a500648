//! What listeners hear while a source is away: other mounts and recordings, there and back, over real sockets.

mod support;

use std::time::{Duration, Instant};

use support::frames::{
    BASIC, Encoder, FRAME, PUSH, alive, check_runs, frame, frames, hear, knock, known, listeners, names, recording, with_fallback,
};
use support::{Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn listeners_go_on_with_the_fallback_and_those_who_came_from_there_are_brought_back() {
    let mounts = with_fallback("/live", "fallback = \"/backup\"\noverride = true") + &with_fallback("/backup", "");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _backup = Encoder::start(&server, "/backup", 'b');
    let live = Encoder::start(&server, "/live", 'l');
    let (mut one, mut own) = (server.listen("/live"), server.listen("/backup"));
    let (mut heard, mut heard_own) = (Vec::new(), Vec::new());
    hear(&mut one, &mut heard, 'l', 20);
    drop(live);
    hear(&mut one, &mut heard, 'b', 20);
    assert!(until(SECOND * 5, || (listeners(&server, "/live"), listeners(&server, "/backup")) == (0.0, 2.0)));
    // Who comes now is served at once.
    let mut newcomer = server.listen("/live");
    let mut heard_newcomer = Vec::new();
    hear(&mut newcomer, &mut heard_newcomer, 'b', 5);
    let _again = Encoder::start(&server, "/live", 'L');
    hear(&mut one, &mut heard, 'L', 20);
    hear(&mut newcomer, &mut heard_newcomer, 'L', 20);
    hear(&mut own, &mut heard_own, 'b', 100);
    assert_eq!((names(&heard), names(&heard_newcomer), names(&heard_own)), ("lbL".into(), "bL".into(), "b".into()));
    [heard, heard_newcomer, heard_own].iter().for_each(|heard| check_runs(&frames(heard), 2));
    assert_eq!((listeners(&server, "/live"), listeners(&server, "/backup")), (2.0, 1.0));
    assert_eq!(server.metric("flumen_listener_departures_total", &["moved"]), 3.0, "there, and both of them back");
}

#[test]
fn a_chain_is_followed_and_who_was_sent_on_twice_comes_back_step_by_step() {
    let mounts = with_fallback("/a", "fallback = \"/b\"\noverride = true")
        + &with_fallback("/b", "fallback = \"/c\"\noverride = true")
        + &with_fallback("/c", "")
        + &with_fallback("/stays", "fallback = \"/c\"");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _c = Encoder::start(&server, "/c", 'c');
    let (a, stays) = (Encoder::start(&server, "/a", 'a'), Encoder::start(&server, "/stays", 's'));
    let (mut one, mut two) = (server.listen("/a"), server.listen("/stays"));
    let (mut heard, mut heard_two) = (Vec::new(), Vec::new());
    hear(&mut one, &mut heard, 'a', 5);
    hear(&mut two, &mut heard_two, 's', 5);
    drop((a, stays));
    hear(&mut one, &mut heard, 'c', 5); // /b has no source
    hear(&mut two, &mut heard_two, 'c', 5);
    let b = Encoder::start(&server, "/b", 'b');
    hear(&mut one, &mut heard, 'b', 5);
    let (_a, _stays) = (Encoder::start(&server, "/a", 'A'), Encoder::start(&server, "/stays", 'S'));
    hear(&mut one, &mut heard, 'A', 5);
    drop(b);
    hear(&mut two, &mut heard_two, 'c', 100);
    assert_eq!((names(&heard), names(&heard_two)), ("acbA".into(), "sc".into()), "without override nobody is brought back");
}

#[test]
fn a_player_is_not_sent_to_what_it_cannot_play_and_leaves_after_the_linger() {
    let mounts =
        with_fallback("/live", "fallback = \"/other\"\nlinger = \"3s\"") + &with_fallback("/other", "content_type = \"audio/aac\"");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _other = Encoder::start(&server, "/other", 'o');
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    listener.read(5 * FRAME);
    drop(live);
    assert!(listener.ends_within(SECOND * 10));
    assert_eq!(server.metric("flumen_listener_departures_total", &["/live", "source_ended"]), 1.0);
    assert!(server.log().contains("of another kind"), "{}", server.log());
    let newcomer = server.listen("/live");
    assert_eq!(newcomer.head.header("content-type"), Some("audio/aac"), "who comes now is told what it is");
}

#[test]
fn a_fallback_that_is_relayed_on_demand_is_pulled_for_those_who_need_it() {
    let origin = Server::spawn("", &format!("{PUSH}{}", with_fallback("/far", "")), &[]);
    alive(&origin);
    let _far = Encoder::start(&origin, "/far", 'F');
    let relay = format!("relay = \"{}\"\nrelay_on_demand = true", origin.url("/far"));
    let mounts = with_fallback("/live", "fallback = \"/near\"") + &with_fallback("/near", &relay);
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let encoder = Encoder::start(&server, "/live", 'L');
    let mut listener = server.listen("/live");
    let mut heard = listener.read_for(SECOND);
    assert_eq!(server.metric("flumen_source_up", &["mount=\"/near\""]), 0.0, "nobody wants it yet");
    drop(encoder);
    assert!(until(SECOND * 10, || server.metric("flumen_listeners", &["mount=\"/near\""]) == 1.0), "{}", server.log());
    heard.extend(listener.read_for(SECOND * 2));
    let found = frames(&heard);
    check_runs(&found, 1);
    assert_eq!((found.first().map(|first| first.0), found.last().map(|last| last.0)), (Some('L'), Some('F')));
}

#[test]
fn who_finds_a_mount_full_or_a_path_that_nobody_publishes_to_is_served_by_the_fallback() {
    let mounts = with_fallback("/live/*", "fallback = \"/backup\"\nmax_listeners = 1\nfallback_when_full = true")
        + &with_fallback("/backup", "max_listeners = 2");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    assert_eq!(server.get("/live/x").status, 404, "there is nothing to hear anywhere");
    let _backup = Encoder::start(&server, "/backup", 'b');
    let mut nobody = server.listen("/live/x");
    assert_eq!(names(&nobody.read(5 * FRAME)), "b");
    assert!(!known(&server, "/live/x"), "nothing is made by asking");
    let _live = Encoder::start(&server, "/live/a", 'a');
    let (mut first, mut second) = (server.listen("/live/a"), server.listen("/live/a"));
    assert_eq!((names(&first.read(5 * FRAME)), names(&second.read(5 * FRAME))), ("a".into(), "b".into()));
    assert_eq!(server.get("/live/a").status, 503, "both are full");
    assert_eq!(server.metric("flumen_refusals_total", &["/live/a", "full"]), 1.0);
}

#[test]
fn a_recording_is_heard_at_its_own_speed_again_and_again_until_the_source_is_back() {
    let (file, fallback) = recording(100); // 2.6 s
    let mounts = with_fallback("/live", &format!("{fallback}\nlinger = \"1s\"")) + &with_fallback("/never", &fallback);
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    let mut heard = Vec::new();
    hear(&mut listener, &mut heard, 'l', 20);
    drop(live);
    hear(&mut listener, &mut heard, 'f', 5);
    let seconds = 6;
    let paced = listener.read_for(SECOND * seconds);
    let rate = paced.len() as f64 / f64::from(seconds) / 15_964.0; // of what 128 kbit/s are in these frames
    assert!((0.85..1.15).contains(&rate), "{rate} of its speed");
    heard.extend(paced);
    heard.extend(listener.read(FRAME - heard.len() % FRAME)); // to the end of a frame
    let numbers: Vec<_> = frames(&heard).into_iter().filter(|(name, _)| *name == 'f').map(|(_, number)| number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 100), "{numbers:?}");
    assert!(numbers.len() > 200 && numbers[0] == 0, "from the beginning, and more than twice: {}", numbers.len());
    assert_eq!(server.metric("flumen_source_up", &["/live"]), 0.0, "it is no source");
    // Who comes when nobody has ever published is served, too, and only while somebody is there.
    let begun = server.metric("flumen_ring_chunks", &["/never"]);
    assert_eq!(begun, 0.0, "nobody has wanted to hear it");
    assert_eq!(names(&server.listen("/never").read(10 * FRAME)), "f");
    let _again = Encoder::start(&server, "/live", 'L');
    hear(&mut listener, &mut heard, 'L', 20);
    assert_eq!(names(&heard), "lfL");
    assert_eq!(server.metric("flumen_listener_departures_total", &["/live"]), 0.0);
    assert_eq!(names(&server.listen("/live").read(5 * FRAME)), "L", "nothing is left of it for newcomers");
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn a_newcomer_gets_its_burst_of_a_recording_and_never_all_of_it() {
    let (file, fallback) = recording(2000); // 52 s, 815 KiB
    let mounts = format!("[[mount]]\npath = \"/live\"\nburst = \"2s\"\n{fallback}\n");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _first = server.listen("/live");
    std::thread::sleep(SECOND * 5);
    let burst = server.listen("/live").read_for(SECOND / 2).len() as f64 / 15_964.0;
    assert!((1.5..3.5).contains(&burst), "{burst} s in half a second");
    std::fs::remove_file(&file).expect("removed");
    // It is gone: that is said, once, and the next one is heard when it is there.
    let server = Server::spawn("", &format!("{PUSH}{}", with_fallback("/live", "linger = \"20s\"")), &[]);
    alive(&server);
    std::fs::write(&file, frame('f', 0).repeat(50)).expect("written");
    server.rewrite("", &format!("{PUSH}{}", with_fallback("/live", &format!("linger = \"20s\"\n{fallback}"))));
    assert_eq!(server.tell("reload").0, Some(0));
    std::fs::remove_file(&file).expect("removed");
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    listener.read(FRAME);
    drop(live);
    assert!(until(SECOND * 10, || server.log().contains("the fallback cannot be heard")), "{}", server.log());
    std::fs::write(&file, (0..50).flat_map(|number| frame('f', number)).collect::<Vec<_>>()).expect("written");
    let mut heard = Vec::new();
    hear(&mut listener, &mut heard, 'f', 5);
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(server.log().matches("the fallback cannot be heard").count(), 1);
}

#[test]
fn each_newcomer_hears_the_intro_first_with_titles_where_they_are_promised_and_only_where_it_fits() {
    let (file, fallback) = recording(50); // longer than an interval between two titles
    let intro = fallback.replace("fallback", "intro");
    let mounts = with_fallback("/live", &intro) + &with_fallback("/other", &format!("{intro}\ncontent_type = \"audio/aac\""));
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _encoders = [Encoder::start(&server, "/live", 'l'), Encoder::start(&server, "/other", 'o')];
    for _ in 0..2 {
        let heard = server.listen("/live").read(60 * FRAME);
        check_runs(&frames(&heard), 1);
        assert_eq!((names(&heard).as_str(), frames(&heard)[49]), ("fl", ('f', 49)), "all of it, then the stream");
        assert_eq!(names(&server.listen("/other").read(5 * FRAME)), "o");
    }
    assert_eq!(server.log().matches("the intro is of another kind").count(), 1);
    let mut titled = server.listen_with("GET /live HTTP/1.1\r\nHost: x\r\nIcy-MetaData: 1\r\n\r\n");
    let interval: usize = titled.head.header("icy-metaint").and_then(|value| value.parse().ok()).expect("an interval");
    let mut heard = Vec::new();
    while heard.len() < 2 * interval {
        heard.extend(titled.read(interval));
        let length = usize::from(titled.read(1)[0]) * 16;
        titled.read(length);
    }
    heard.truncate(heard.len() / FRAME * FRAME);
    check_runs(&frames(&heard), 1);
    assert_eq!(names(&heard), "fl");
    std::fs::remove_file(file).expect("removed");
}

/// A server at this port, and an encoder that publishes frames of this name to its `/far`.
fn origin(port: u16, name: char) -> (Encoder, Server) {
    let listen = format!("listen = [\"127.0.0.1:{{port}}\", \"127.0.0.1:{port}\"]");
    let server = Server::spawn(&listen, &format!("{PUSH}{}", with_fallback("/far", "")), &[]);
    alive(&server);
    (Encoder::start(&server, "/far", name), server)
}

#[test]
fn who_asks_for_a_relay_on_demand_whose_upstream_is_dead_hears_the_fallback_and_is_brought_back() {
    let port = free_port();
    let relay = format!("relay = \"http://127.0.0.1:{port}/far\"\nrelay_on_demand = true\nfallback = \"/backup\"");
    let mounts =
        with_fallback("/relay", &format!("{relay}\noverride = true")) + &with_fallback("/stays", &relay) + &with_fallback("/backup", "");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _backup = Encoder::start(&server, "/backup", 'b');
    let attempts = || server.metric("flumen_source_restarts_total", &["mount=\"/relay\""]);
    let mut own = server.listen("/backup");
    std::thread::sleep(SECOND * 2);
    assert_eq!(attempts(), 0.0, "who asked for the fallback itself wants nothing else");
    let begun = Instant::now();
    let (mut one, mut stays) = (server.listen("/relay"), server.listen("/stays"));
    assert!(begun.elapsed() < SECOND * 2, "nobody waits for an upstream that refuses: {:?}", begun.elapsed());
    let (mut heard, mut heard_stays, mut heard_own) = (Vec::new(), Vec::new(), Vec::new());
    hear(&mut one, &mut heard, 'b', 20);
    hear(&mut stays, &mut heard_stays, 'b', 20);
    assert_eq!((listeners(&server, "/relay"), listeners(&server, "/backup")), (0.0, 3.0));
    let tried = attempts();
    assert!(until(SECOND * 10, || attempts() > tried), "it is tried again for who is to be brought back");
    for name in ['F', 'G'] {
        let (encoder, far) = origin(port, name);
        assert!(until(SECOND * 30, || listeners(&server, "/relay") == 1.0), "{}", server.log());
        hear(&mut one, &mut heard, name, 20);
        drop((encoder, far));
        assert!(until(SECOND * 10, || listeners(&server, "/relay") == 0.0), "{}", server.log());
    }
    // However much of what was before is still on its way.
    let before = frames(&heard).iter().filter(|(name, _)| *name == 'b').count();
    hear(&mut one, &mut heard, 'b', before + 20);
    hear(&mut own, &mut heard_own, 'b', 100);
    hear(&mut stays, &mut heard_stays, 'b', 100);
    assert_eq!((names(&heard), names(&heard_own), names(&heard_stays)), ("bFbGb".into(), "b".into(), "b".into()));
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), server.metric("flumen_listener_departures_total", &["moved"]));
    assert_eq!(server.metric("flumen_refusals_total", &[]), 0.0);
    // Nobody is there any more who would be brought back.
    drop(one);
    assert!(until(SECOND * 10, || listeners(&server, "/backup") == 2.0));
    std::thread::sleep(SECOND * 5);
    let tried = attempts();
    std::thread::sleep(SECOND * 5);
    assert_eq!(attempts(), tried);
}

#[test]
fn an_upstream_that_says_nothing_keeps_nobody_from_the_fallback_for_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port"); // it takes connections, and that is all
    let port = silent.local_addr().expect("an address").port();
    let relay = |more: &str| format!("relay = \"http://127.0.0.1:{port}/far\"\nrelay_on_demand = true\n{more}");
    let mounts =
        with_fallback("/relay", &relay("fallback = \"/backup\"")) + &with_fallback("/alone", &relay("")) + &with_fallback("/backup", "");
    let server = Server::spawn("header_timeout = \"6s\"", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _backup = Encoder::start(&server, "/backup", 'b');
    let begun = Instant::now();
    assert_eq!(names(&server.listen("/relay").read(5 * FRAME)), "b");
    assert!((SECOND * 2..SECOND * 5).contains(&begun.elapsed()), "it is given a moment: {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(server.get("/alone").status, 503);
    assert!((SECOND * 5..SECOND * 9).contains(&begun.elapsed()), "where there is nothing else it is waited for: {:?}", begun.elapsed());
    assert_eq!(server.metric("flumen_refusals_total", &["/alone", "no_source"]), 1.0);
    assert_eq!(server.metric("flumen_refusals_total", &["/relay"]), 0.0);
}

#[test]
fn newcomers_have_begun_for_them_what_they_are_sent_on_to() {
    let (file, fallback) = recording(100);
    let port = free_port();
    let (_encoder, _far) = origin(port, 'F');
    let mounts = with_fallback("/live/*", "fallback = \"/near\"")
        + &with_fallback("/silent", "fallback = \"/near\"")
        + &with_fallback("/near", &format!("relay = \"http://127.0.0.1:{port}/far\"\nrelay_on_demand = true"))
        + &with_fallback("/words/*", "fallback = \"/jingle\"\noverride = true")
        + &with_fallback("/jingle", &fallback);
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    for (path, want) in [("/live/x", "F"), ("/silent", "F"), ("/words/x", "f")] {
        assert_eq!(names(&server.listen(path).read(5 * FRAME)), want, "{path}");
    }
    assert!(!known(&server, "/live/x") && !known(&server, "/words/x"), "nothing is made by asking");
    let mut listener = server.listen("/words/x");
    let mut heard = Vec::new();
    hear(&mut listener, &mut heard, 'f', 5);
    let _encoder = Encoder::start(&server, "/words/x", 'w');
    hear(&mut listener, &mut heard, 'w', 5);
    assert_eq!(names(&heard), "fw");
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn whatever_path_of_a_pattern_is_asked_for_its_one_recording_is_heard_until_somebody_publishes_there() {
    let (file, fallback) = recording(100);
    let pattern = with_fallback("/live/*", &format!("{fallback}\nlinger = \"1s\"\nmax_mounts = 2\nname = \"Of a pattern\""));
    let server = Server::spawn("", &format!("{PUSH}{pattern}"), &[]);
    alive(&server);
    let series = || server.get("/metrics").body_text().lines().count();
    let mut first = server.listen("/live/0");
    assert_eq!((first.head.header("icy-name"), first.head.header("content-type")), (Some("Of a pattern"), Some("audio/mpeg")));
    let before = series();
    let mut others: Vec<_> = (1..50).map(|i| server.listen(&format!("/live/{i}"))).collect();
    let mut all_heard = vec![Vec::new(); others.len()];
    for (listener, heard) in others.iter_mut().zip(&mut all_heard) {
        hear(listener, heard, 'f', 2);
    }
    assert_eq!(series(), before, "so many paths leave nothing behind");
    assert!((0..50).all(|i| !known(&server, &format!("/live/{i}"))));
    assert!(!server.get("/status-json.xsl").body_text().contains('*') && !server.get("/").body_text().contains("/live/*"));
    assert_eq!(knock(&server, "PUT", "/live/*", BASIC).0.status, 405, "nobody publishes there");
    // There is room for as many mounts as ever. Who asked for them is taken there, and nobody else.
    let mut heard = Vec::new();
    hear(&mut first, &mut heard, 'f', 5);
    let encoder = Encoder::start(&server, "/live/0", 'l');
    let _other = Encoder::start(&server, "/live/another", 'o');
    hear(&mut first, &mut heard, 'l', 20);
    hear(&mut others[0], &mut all_heard[0], 'f', 20);
    let recorded = frames(&heard).iter().filter(|(name, _)| *name == 'f').count();
    drop(encoder);
    hear(&mut first, &mut heard, 'f', recorded + 20);
    assert_eq!((names(&heard), names(&all_heard[0])), ("flf".into(), "f".into()));
    // Without its recording the pattern has nothing for those who hear it.
    server.rewrite("", &format!("{PUSH}{}", with_fallback("/live/*", "max_mounts = 2")));
    assert_eq!(server.tell("reload").0, Some(0));
    assert!(others[0].ends_within(SECOND * 10));
    assert_eq!(server.get("/live/1").status, 404);
    std::fs::remove_file(file).expect("removed");
}
