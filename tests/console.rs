//! The console and the public page in a real browser: what an operator finds there, and what the buttons do.

#[path = "support/chromium.rs"]
mod chromium;
mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use chromium::Chromium;
use support::{Server, Stream, until};

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

const TONE: &str = "audiotestsrc is-live=true samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse";

/// A certificate for five more days; where it and its key lie.
fn short_lived(dir: &std::path::Path) -> (String, String) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    parameters.not_after = (SystemTime::now() + Duration::from_secs(5 * 86_400 + 3600)).into();
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = parameters.self_signed(&key).expect("a certificate");
    let (at, key_at) = (dir.join("short.pem"), dir.join("short.key"));
    std::fs::write(&at, cert.pem()).expect("written");
    std::fs::write(&key_at, key.serialize_pem()).expect("written");
    (at.display().to_string(), key_at.display().to_string())
}

#[test]
fn an_operator_finds_every_trouble_on_the_console() {
    let dir = std::env::temp_dir().join(format!("flumen-console-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let (cert, key) = short_lived(&dir);
    let mounts = format!(
        r#"
[[server.tls]]
listen = ["127.0.0.1:{tls}"]
certificates = [{{ cert = "{cert}", key = "{key}" }}]
[[mount]]
path = "/full.mp3"
pipeline = "{TONE}"
max_listeners = 10
[[mount]]
path = "/flaps.mp3"
pipeline = "audiotestsrc is-live=true num-buffers=20 samplesperbuffer=1152 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse"
[[mount]]
path = "/slow.raw"
content_type = "application/octet-stream"
pipeline = "audiotestsrc is-live=true ! audio/x-raw,format=S16LE,rate=96000,channels=2"
soft_limit = "2s"
hard_limit = "120s"
recover = "none"
ring_max = "128MiB"
[[mount]]
path = "/dead.mp3"
pipeline = "filesrc location=/nowhere/at-all.mp3 ! mpegaudioparse"
"#,
        tls = support::free_port(),
    );
    let server = Server::spawn("", &mounts, &[]);
    assert!(until(Duration::from_secs(20), || server.try_get("/healthz").is_ok_and(|answer| answer.status == 200)), "{}", server.log());
    let _listeners: Vec<_> = (0..9).map(|_| server.listen("/full.mp3")).collect();
    let _sleeper = server.listen("/slow.raw"); // it reads the head, and nothing more
    server.rewrite("", &format!("{mounts}\nburst = \"5 bananas\"\n"));

    let mut browser = Chromium::start(&dir);
    browser.screen(DESKTOP, false);
    browser.open(&server.url("/console"));
    browser.until("document.querySelector('#link').textContent === 'live'");
    browser.click("#reload");
    browser.until("document.querySelector('#reload-result.bad')?.textContent.includes('bananas')");
    let printed = browser.value("document.querySelector('#reload-result').textContent");
    assert!(printed.as_str().is_some_and(|text| text.contains("flumen.toml:") && text.contains("burst")), "as it is printed: {printed}");

    for (about, where_) in [
        ("limit_near", "/full.mp3"),
        ("source_flapping", "/flaps.mp3"),
        ("listener_lagging", "/slow.raw"),
        ("source_missing", "/dead.mp3"),
        ("certificate_expiring", "short.pem"),
        ("reload_failed", "configuration"),
    ] {
        browser.until(&format!(
            "[...document.querySelectorAll('#advice li[data-about={about}]')].some(li => li.innerText.includes({where_:?}))"
        ));
    }
    let words = browser.value("document.querySelector('#advice').innerText");
    for part in ["9 of 10 places", "fell", "behind", "expires in 5 days", "raise max_listeners", "there is no source"] {
        assert!(words.as_str().is_some_and(|words| words.contains(part)), "{part}: {words}");
    }
    assert_eq!(browser.value("document.querySelector('#all-well')"), serde_json::Value::Null);
    // The same for whoever has a terminal only.
    let (code, status) = server.tell("status");
    assert!(
        code == Some(0) && status.contains("/flaps.mp3: the source comes and goes") && status.contains("expires in 5 days"),
        "{status}"
    );

    // From the words to the one listener that lags, on a phone as well.
    browser.click("#advice li[data-about=listener_lagging] a");
    browser.until("document.querySelector('#listener-rows tr.slow') && !document.querySelector('#mount').hidden");
    browser.until("document.querySelector('#mount-charts svg path.s2').getAttribute('d').length > 20");
    for (name, screen, dark) in
        [("desktop-light", DESKTOP, false), ("desktop-dark", DESKTOP, true), ("phone-light", PHONE, false), ("phone-dark", PHONE, true)]
    {
        browser.screen(screen, dark);
        std::thread::sleep(Duration::from_millis(1200)); // a second of numbers
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64().is_some_and(|wide| wide <= screen.0.into()), "{name}: nothing is to be scrolled sideways: {wide}");
        let ground = browser.value("getComputedStyle(document.body).backgroundColor");
        assert_eq!(ground, if dark { "rgb(14, 20, 24)" } else { "rgb(244, 246, 247)" }, "{name}");
        browser.picture(&format!("console-{name}"));
    }
    drop(browser);
    let _ = std::fs::remove_dir_all(&dir);
}

/// Listeners who read all that comes, on one thread that hardly costs anything; they hang up when dropped.
struct Crowd {
    end: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Crowd {
    fn of(count: usize, server: &Server, path: &str) -> Self {
        let ask = |_| {
            let mut socket = server.connect();
            write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
            socket
        };
        // All ask before the first is answered: a server that is at its limit takes its time for each.
        let asking: Vec<_> = (0..count).map(ask).collect();
        let mut sockets: Vec<_> = asking.into_iter().map(|socket| Stream::open(socket).socket).collect();
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket that does not wait"));
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            while !told.load(Ordering::Relaxed) {
                for socket in &mut sockets {
                    while socket.read(&mut buffer).is_ok_and(|count| count == buffer.len()) {}
                }
                std::thread::sleep(Duration::from_millis(200)); // what comes meanwhile the kernel keeps
            }
        });
        Self { end, reader: Some(reader) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

#[test]
fn an_operator_finds_the_overloaded_shard_on_the_console_and_the_remedy_that_it_names_helps() {
    const LISTENERS: usize = 2500;
    let limit = ["--pid", &std::process::id().to_string(), "--nofile=8192:"];
    assert!(Command::new("prlimit").args(limit).status().is_ok_and(|raised| raised.success()), "descriptors for as many listeners");
    // 250 chunks a second, each to be sent to each listener by itself: more calls than one thread can make.
    let mount = |coalesce: &str| {
        format!(
            "[[mount]]\npath = \"/a.raw\"\ncontent_type = \"application/octet-stream\"\ncoalesce = \"{coalesce}\"\n\
             pipeline = \"audiotestsrc is-live=true samplesperbuffer=32 ! audio/x-raw,format=S8,rate=8000,channels=1\"\n"
        )
    };
    let server = Server::start_with("shards = 1", &mount("1ms"));
    let _crowd = Crowd::of(LISTENERS, &server, "/a.raw");
    let mut browser = Chromium::start(&server.dir);
    browser.screen(DESKTOP, false);
    browser.open(&server.url("/console"));
    let overloaded = "document.querySelector('#advice li[data-about=shard_overloaded]')";
    browser.until(&format!("{overloaded}?.innerText.includes('for {LISTENERS} listeners')"));
    let words = browser.value(&format!("{overloaded}.innerText"));
    let told = |part: &str| words.as_str().is_some_and(|words| words.contains(part));
    assert!(told("sending thread 0 works") && told("raise coalesce"), "{words}");
    // The table of sending threads says so as well.
    browser.until("parseInt(document.querySelector('#shard-rows tr')?.cells[1].textContent) >= 85");
    browser.picture("console-overloaded");
    // What the dashboard shows and the alert asks for.
    assert!(server.metric("flumen_shard_busy_ratio", &["shard=\"0\""]) > 0.85);
    let (_, status) = server.tell("status");
    assert!(status.contains("sending thread 0 works"), "{status}");

    server.rewrite("shards = 1", &mount("250ms"));
    browser.click("#reload");
    browser.until("document.querySelector('#reload-result')?.textContent.includes('coalesce')");
    browser.until(&format!("!{overloaded} && document.querySelector('#all-well')"));
    assert!(server.metric("flumen_shard_busy_ratio", &["shard=\"0\""]) < 0.85);
    assert_eq!(server.metric("flumen_listeners", &["/a.raw"]), LISTENERS as f64, "and nobody was lost over it");
}

#[test]
fn three_who_watch_the_console_and_five_who_scrape_each_second_are_not_felt_by_listeners() {
    const LISTENERS: usize = 50;
    let server = Server::start(&format!("[[mount]]\npath = \"/a.mp3\"\npipeline = \"{TONE}\"\n"));
    let crowd = Crowd::of(LISTENERS, &server, "/a.mp3");
    let mut browsers: Vec<_> = (0..3)
        .map(|i| {
            let dir = server.dir.join(format!("browser-{i}"));
            std::fs::create_dir_all(&dir).expect("a folder");
            let mut browser = Chromium::start(&dir);
            browser.screen(DESKTOP, false);
            browser.open(&server.url("/console#mount=%2Fa.mp3"));
            browser.until("document.querySelector('#link').textContent === 'live'");
            browser.until(&format!("document.querySelector('#page-now').textContent.includes('{LISTENERS} listeners')"));
            browser
        })
        .collect();
    let turns = |within: &str| server.metric("flumen_shard_turn_seconds_bucket", &[&format!("le=\"{within}\"")]);
    let (sent, all, short) = (server.metric("flumen_sent_bytes_total", &[]), turns("+Inf"), turns("0.1"));
    let began = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let scrapers = [(); 5].map(|()| {
            scope.spawn(|| {
                let ask = |_| {
                    let asked = Instant::now();
                    assert_eq!(server.get("/metrics").status, 200);
                    let took = asked.elapsed();
                    std::thread::sleep(Duration::from_secs(1).saturating_sub(took));
                    took
                };
                (0..10).map(ask).max().expect("ten")
            })
        });
        scrapers.map(|scraper| scraper.join().expect("answered")).into_iter().max().expect("five")
    });
    let (sent, seconds) = (server.metric("flumen_sent_bytes_total", &[]) - sent, began.elapsed().as_secs_f64());
    // 128 kbit/s for each, less a second for what lay between the two looks.
    assert!(sent >= LISTENERS as f64 * 16_000.0 * (seconds - 1.0), "{sent} bytes in {seconds} s");
    assert_eq!(server.metric("flumen_listeners", &["/a.mp3"]), LISTENERS as f64);
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    assert_eq!(server.metric("flumen_dropped_chunks_total", &[]), 0.0);
    let (all, short) = (turns("+Inf") - all, turns("0.1") - short);
    assert!(short >= all * 0.99, "turns stay short: {short} of {all}"); // one may fall into a pause of the machine itself
    assert!(slowest < Duration::from_secs(2), "a scrape took {slowest:?}");
    for browser in &mut browsers {
        assert_eq!(browser.value("document.querySelector('#link').textContent"), "live");
    }
    drop(crowd);
}

#[test]
fn what_the_buttons_do_is_done_and_what_strangers_write_stays_text() {
    let server = Server::start(&format!(
        "[[mount]]\npath = \"/a.mp3\"\nname = \"<b>A</b>\"\npipeline = \"{TONE}\"\n[[mount]]\npath = \"/b.mp3\"\npipeline = \"{TONE}\"\n"
    ));
    let agent = "<img src=x onerror=document.title='caught'>";
    let listen = |agent: &str| server.listen_with(&format!("GET /a.mp3 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n"));
    let (mut kicked, _moved, _stays) = (listen(agent), listen("moves/1"), listen("stays/1"));
    let mut browser = Chromium::start(&server.dir);
    browser.screen(DESKTOP, false);
    browser.open(&server.url("/console#mount=%2Fa.mp3"));
    browser.until("document.querySelectorAll('#listener-rows tr').length === 3");
    let find = |text: &str| {
        format!(
            "const f = document.querySelector('#listener-filter'); f.value = {text:?}; f.dispatchEvent(new Event('input')); document.querySelectorAll('#listener-rows tr').length"
        )
    };
    assert_eq!(browser.value(&format!("(() => {{ {} }})()", find("onerror").replace("; document", "; return document"))), 1);
    assert!(browser.value("document.querySelector('#listener-rows').innerText").as_str().is_some_and(|text| text.contains("<img")));
    browser.click("#listener-rows tr .grave");
    browser.until("document.querySelector('#ask').open");
    assert_eq!(browser.value("document.activeElement.id"), "ask-no", "what undoes nothing is at hand first");
    browser.click("#ask-yes");
    browser.until("document.querySelector('#listener-result').textContent.includes('removed')");
    assert!(kicked.ends_within(Duration::from_secs(5)));

    browser.value(&format!("(() => {{ {} }})()", find("moves/1")));
    browser.click("#listener-rows tr button:not(.grave)");
    browser.until("document.querySelector('#ask').open && document.querySelector('#ask-choice').value === '/b.mp3'");
    browser.click("#ask-yes");
    browser.until("document.querySelector('#listener-result').textContent.includes('1 moved to /b.mp3')");

    browser.value("document.querySelector('#metadata [name=title]').value = '<script>document.title=\"caught\"</script> & co'");
    browser.click("#metadata button");
    browser.until("document.querySelector('#metadata-result').textContent === 'set'");
    browser.until("document.querySelector('#mount-facts').textContent.includes('<script>')");
    browser.until("[...document.querySelectorAll('#event-list li[data-event=title]')].some(li => li.textContent.includes('& co'))");
    browser.click("[data-act=restart]");
    browser.until("document.querySelector('#source-result').textContent === 'restart: done'");
    browser.until("document.querySelector('#event-list li[data-event=source_restart], #event-list li[data-event=source_takeover], #event-list li[data-event=source_up]')");
    browser.until("[...document.querySelectorAll('#log-list li')].some(li => li.textContent.includes('an operator acts'))");
    browser.until("document.querySelector('#departures').textContent.includes('kicked')");
    browser.value("document.querySelector('#ban [name=address]').value = '192.0.2.0/24'");
    browser.value("document.querySelector('#ban [name=reason]').value = '<img src=x>'");
    browser.click("#ban [type=submit]");
    browser.until("document.querySelector('#ban-rows').textContent.includes('192.0.2.0/24<img src=x>for good')");
    browser.click("#ban-rows button");
    browser.until("document.querySelector('#ban-rows').textContent === 'Nobody is banned.'");
    assert_eq!(browser.value("document.querySelectorAll('main img, main script, main b b').length"), 0);
    assert!(browser.value("document.title").as_str().is_some_and(|title| !title.contains("caught")));

    // Without a mouse: the first stop is the way past the bar, and each stop is to be seen.
    browser.value("document.activeElement.blur(); window.scrollTo(0, 0); document.querySelector('.skip').focus()");
    browser.key("Tab", 9);
    assert_eq!(browser.value("document.activeElement.getAttribute('href')"), "#health");
    assert_ne!(browser.value("getComputedStyle(document.activeElement).outlineStyle"), "none");
    for word in ["metadata", "remove listener 1", "move listener 2", "source restart"] {
        assert!(until(Duration::from_secs(5), || server.log().contains(word)), "{word} is in the log: {}", server.log());
    }
}

#[test]
fn sources_are_stopped_started_and_disconnected_listeners_sorted_and_a_drain_is_thought_over() {
    let mut server = Server::start(&format!("[[mount]]\npath = \"/a.mp3\"\npipeline = \"{TONE}\"\n"));
    let listen = |agent: &str| server.listen_with(&format!("GET /a.mp3 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n"));
    let mut listeners = ["middle/1", "alpha/1", "zulu/1"].map(listen);
    let mut browser = Chromium::start(&server.dir);
    browser.screen(DESKTOP, false);
    browser.open(&server.url("/console#mount=%2Fa.mp3"));
    browser.until("document.querySelectorAll('#listener-rows tr').length === 3");

    let agent = "#listener-head th:nth-child(3)";
    for (way, want) in [("descending", "zulu/1 middle/1 alpha/1"), ("ascending", "alpha/1 middle/1 zulu/1")] {
        browser.click(&format!("{agent} button"));
        browser.until(&format!("document.querySelector('{agent}').getAttribute('aria-sort') === '{way}'"));
        let shown = browser.value("[...document.querySelectorAll('#listener-rows tr')].map(row => row.cells[2].innerText).join(' ')");
        assert_eq!(shown, want, "{way}");
    }
    assert_eq!(browser.value("document.querySelectorAll('#listener-head [aria-sort]').length"), 1, "by one column at a time");

    let is_up = || server.metric("flumen_source_up", &["/a.mp3"]) == 1.0;
    let result = "document.querySelector('#source-result').textContent";
    browser.click("[data-act=stop]");
    browser.until("document.querySelector('#ask').open");
    browser.click("#ask-no");
    browser.until("!document.querySelector('#ask').open");
    assert_eq!(browser.value(result), "", "nothing was asked for");
    assert!(is_up());
    browser.click("[data-act=stop]");
    browser.click("#ask[open] #ask-yes");
    browser.until(&format!("{result} === 'stop: done'"));
    browser.until("document.querySelector('#mount-state').className !== 'pill good' && document.querySelector('[data-act=kill]').disabled");
    assert!(!is_up());
    browser.click("[data-act=start]");
    browser.until(&format!("{result} === 'start: done'"));
    assert!(until(Duration::from_secs(10), is_up), "{}", server.log());
    browser.until("!document.querySelector('[data-act=kill]').disabled");
    let restarts = || server.metric("flumen_source_restarts_total", &["/a.mp3"]);
    let before = restarts();
    browser.click("[data-act=kill]");
    browser.click("#ask[open] #ask-yes");
    browser.until(&format!("{result} === 'kill: done'"));
    assert!(until(Duration::from_secs(10), || restarts() > before && is_up()), "it begins anew; log:\n{}", server.log());
    assert_eq!(server.metric("flumen_listeners", &["/a.mp3"]), 3.0, "and nobody was lost over all that");

    browser.click("#drain");
    browser.until("document.querySelector('#ask').open");
    assert_eq!(browser.value("document.activeElement.id"), "ask-no", "what undoes nothing is at hand first");
    browser.click("#ask-no");
    browser.until("!document.querySelector('#ask').open");
    assert_eq!(server.get("/readyz").status, 200, "nothing was asked for");
    browser.click("#drain");
    browser.click("#ask[open] #ask-yes");
    browser.until("document.querySelector('#reload-result').textContent === 'draining: 3 listeners leave'");
    browser.until("document.querySelector('#advice li[data-about=draining]')");
    assert_eq!(server.get("/a.mp3").status, 503);
    for listener in &mut listeners {
        assert!(listener.ends_within(Duration::from_secs(10)));
    }
    // Each was ordered once, also what was called off before: one answer is no answer to two questions.
    for word in ["source stop", "source start", "remove source", "drain"] {
        let ordered = || server.log().matches(&format!("\"act\":\"{word}\"")).count();
        assert!(until(Duration::from_secs(5), || ordered() > 0), "{word} is in the log: {}", server.log());
        assert_eq!(ordered(), 1, "{word}");
    }
    drop(browser);
    server.signal("-TERM");
    assert_eq!(server.wait(Duration::from_secs(20)), Some(0));
}

#[test]
fn the_public_page_and_the_embedded_player_play_and_follow_what_is_played() {
    let server = Server::start(&format!("[[mount]]\npath = \"/a.mp3\"\nname = \"Radio A\"\nburst = \"2s\"\npipeline = \"{TONE}\"\n"));
    let mut browser = Chromium::start(&server.dir);
    for (name, address) in [("page", "/"), ("player", "/player?mount=%2Fa.mp3")] {
        browser.screen(DESKTOP, false);
        browser.open(&server.url(address));
        browser.value("document.querySelector('audio').play()");
        browser.until("document.querySelector('audio').currentTime > 1");
        let title = format!("Title of the {name}");
        let answer =
            server.request("POST", &format!("/api/v1/mounts/a.mp3/metadata?title={}", title.replace(' ', "+"))).expect("an answer");
        assert_eq!(answer.status, 204);
        browser.until(&format!("document.body.innerText.includes({title:?})"));
        browser.until("document.body.innerText.includes('1 listening')");
        for (kind, screen, dark) in [("desktop", DESKTOP, false), ("phone", PHONE, true)] {
            browser.screen(screen, dark);
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(wide.as_u64().is_some_and(|wide| wide <= screen.0.into()), "{name} {kind}: {wide}");
            browser.picture(&format!("public-{name}-{kind}"));
        }
        browser.open("about:blank#");
        assert!(until(Duration::from_secs(10), || server.metric("flumen_listeners", &[]) == 0.0), "who leaves the page leaves the stream");
    }
}
