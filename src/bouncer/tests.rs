//! The bouncer with files of its own, and with a backend on a loopback port that behaves or does not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::access::Secret;
use crate::access::network::Networks;

/// A backend; what it is told, and what it answers to that.
struct Backend {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// `answer` gives the whole answer to a form; with none it says nothing, and keeps the connection.
    fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/auth", listener.local_addr().expect("an address"));
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (told, answer) = (Arc::clone(&heard), Arc::new(answer));
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let (told, answer, Ok(peer)) = (Arc::clone(&told), Arc::clone(&answer), peer) else { return };
                std::thread::spawn(move || serve(peer, &told, &*answer));
            }
        });
        Self { url, heard }
    }

    fn heard(&self) -> Vec<String> {
        lock(&self.heard).clone()
    }

    fn rule(&self, on_error: OnError) -> Rule {
        Rule::Url(self.settings(on_error))
    }

    fn settings(&self, on_error: OnError) -> Arc<UrlAuth> {
        settings(&self.url, on_error)
    }
}

fn settings(url: &str, on_error: OnError) -> Arc<UrlAuth> {
    Arc::new(UrlAuth {
        url: url.into(),
        remove_url: Some(url.into()),
        timeout: Duration::from_millis(600),
        on_error,
        auth_header: UrlAuth::AUTH_HEADER.into(),
        timelimit_header: UrlAuth::TIMELIMIT_HEADER.into(),
        headers: Vec::new(),
        header_prefix: "".into(),
        login: None,
    })
}

fn serve(mut peer: TcpStream, told: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> Option<String>) {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match peer.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        peer.read_exact(&mut body).expect("a body");
        let body = String::from_utf8(body).expect("text");
        lock(told).push(body.clone());
        match answer(&body) {
            Some(answer) => {
                if peer.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            None => std::thread::sleep(Duration::from_secs(2)),
        }
    }
}

const YES: &str = "HTTP/1.1 200 OK\r\nIcecast-Auth-User: 1\r\nContent-Length: 0\r\n\r\n";

fn yes(_: &str) -> Option<String> {
    Some(YES.to_owned())
}

fn shown(user: &str, password: &str) -> Shown {
    Shown { credentials: Some(Credentials { user: user.into(), password: Secret::new(password) }), ..Shown::default() }
}

fn visitor<'a>(shown: &'a Shown, query: &'a str) -> Visitor<'a> {
    Visitor { number: 7, mount: "/a", query, address: Some([192, 0, 2, 7].into()), agent: "VLC/3", shown }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn counts<const N: usize>(all: [(&'static str, u64); N]) -> [u64; N] {
    all.map(|(_, count)| count)
}

/// A file that is gone with the test.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("flumen-bouncer-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("written");
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// By bcrypt at the least cost, of `right`.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";

#[actix_web::test]
async fn who_is_in_the_file_and_knows_the_password_gets_in_and_who_guesses_waits() {
    let users = Written::new(&format!("anna:{HASH}\n"));
    let (bouncer, rule) = (Bouncer::default(), Rule::Htpasswd(users.0.clone()));
    assert_eq!(bouncer.settle([&rule].into_iter(), Whereabouts::default()), Vec::<String>::new());
    let (right, nobody) = (shown("anna", "right"), Shown::default());
    let away = Err(Turned::Away { could_help: true, message: None });
    let ask = async |shown: &Shown| bouncer.admit(&rule, &visitor(shown, "")).await.map(|pass| pass.user);
    assert_eq!(ask(&right).await, Ok(Some("anna".into())));
    for _ in 0..20 {
        assert_eq!(ask(&nobody).await, away, "who says nothing does not guess");
    }
    for wrong in [shown("anna", "wrong"), shown("bert", "right"), shown("", ""), shown("anna", ""), shown("bert", "x")] {
        assert_eq!(ask(&wrong).await, away, "{wrong:?}");
    }
    assert!(matches!(ask(&right).await, Err(Turned::Throttled(_))), "not even the right one is looked at");
    let elsewhere = Visitor { address: None, ..visitor(&right, "") };
    assert!(bouncer.admit(&rule, &elsewhere).await.is_ok(), "and nobody else waits");
    let missing = Rule::Htpasswd("/no/such".into());
    assert_eq!(bouncer.settle([&missing].into_iter(), Whereabouts::default()).len(), 1);
    assert!(matches!(bouncer.admit(&missing, &elsewhere).await, Err(Turned::Unknown(_))), "a file that is not there lets nobody in");
}

#[actix_web::test]
async fn who_a_backend_counts_in_it_is_told_of_when_they_go() {
    let backend = Backend::start(|form| {
        Some(if form.starts_with("action=listener_add") {
            YES.replace("Content", "icecast-auth-timelimit: 60\r\nContent")
        } else {
            YES.to_owned()
        })
    });
    let (bouncer, rule, shown) = (Bouncer::default(), backend.rule(OnError::Deny), shown("anna", "p w"));
    bouncer.settle([].into_iter(), Whereabouts { server: "radio".into(), port: 1 });
    let pass = bouncer.admit(&rule, &visitor(&shown, "x=1")).await.expect("let in");
    assert_eq!((pass.user.as_deref(), pass.lasts), (Some("anna"), Some(Duration::from_secs(60))));
    assert_eq!(counts(bouncer.asked().all()), [1, 0, 0, 0]);
    drop(pass);
    until(|| counts(bouncer.told().all()) == [1, 0, 0]).await;
    let facts = "server=radio&port=1&client=7&mount=%2Fa%3Fx%3D1&user=anna&pass=p%20w";
    let tail = "ip=192%2E0%2E2%2E7&agent=VLC%2F3";
    assert_eq!(
        backend.heard(),
        [format!("action=listener_add&{facts}&{tail}"), format!("action=listener_remove&{facts}&duration=0&{tail}")]
    );
    // Counted in by one rule and turned away by another: counted out again.
    let all = Rule::All(vec![backend.rule(OnError::Deny), Rule::Not(Box::new(backend.rule(OnError::Deny)))]);
    assert!(bouncer.admit(&all, &visitor(&shown, "")).await.is_err());
    until(|| counts(bouncer.told().all()) == [3, 0, 0]).await;
    // What decides without a backend does not ask it.
    let cheap = Rule::All(vec![backend.rule(OnError::Allow), Rule::Allow(Networks::default())]);
    assert_eq!(bouncer.admit(&cheap, &visitor(&shown, "")).await.map(drop), Err(Turned::Away { could_help: false, message: None }));
    assert_eq!(counts(bouncer.asked().all()), [3, 0, 0, 0]);
}

#[actix_web::test]
async fn a_no_is_said_in_the_backends_words_and_nobody_is_counted_out() {
    let backend = Backend::start(|_| Some("HTTP/1.1 403 No\r\nicecast-auth-message: no credit\r\nContent-Length: 0\r\n\r\n".into()));
    let (bouncer, shown) = (Bouncer::default(), shown("anna", "x"));
    let found = bouncer.admit(&backend.rule(OnError::Allow), &visitor(&shown, "")).await.map(drop);
    assert_eq!(found, Err(Turned::Away { could_help: true, message: Some("no credit".into()) }));
    assert_eq!((counts(bouncer.asked().all()), counts(bouncer.told().all()), backend.heard().len()), ([0, 1, 0, 0], [0; 3], 1));
}

#[actix_web::test]
async fn a_backend_that_is_out_of_order_costs_a_moment_and_on_error_decides() {
    const LARGE: usize = 10 << 20;
    let large = || Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n{}", "x".repeat(LARGE)));
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let backends = [
        ("silent", Backend::start(|_| None).url, true),
        ("status 500", Backend::start(|_| Some("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into())).url, true),
        ("redirects", Backend::start(|_| Some("HTTP/1.1 302 Found\r\nLocation: /auth\r\nContent-Length: 0\r\n\r\n".into())).url, false),
        ("no HTTP", Backend::start(|_| Some("hello\r\n\r\n".into())).url, true),
        ("a head without end", Backend::start(|_| Some(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)))).url, true),
        ("not there", format!("http://{gone}/"), false),
    ];
    let shown = Shown::default();
    for (what, url, may_have_counted) in backends {
        for (on_error, gets_in) in [(OnError::Deny, false), (OnError::Allow, true)] {
            let bouncer = Bouncer::default();
            let start = Instant::now();
            let found = bouncer.admit(&Rule::Url(settings(&url, on_error)), &visitor(&shown, "")).await;
            assert!(start.elapsed() < Duration::from_secs(8), "{what}: {:?}", start.elapsed());
            assert_eq!(found.is_ok(), gets_in, "{what}");
            assert!(found.as_ref().map_or_else(|turned| matches!(turned, Turned::Unknown(_)), |pass| pass.user.is_none()), "{what}");
            let negated = Rule::Not(Box::new(Rule::Url(settings(&url, OnError::Deny))));
            assert!(bouncer.admit(&negated, &visitor(&shown, "")).await.is_err(), "{what}: a failure grants nothing");
            drop(found);
            let waits = lock(&bouncer.messengers).iter().any(|messenger| !messenger.is_idle()) || counts(bouncer.told().all()) != [0; 3];
            assert_eq!(waits, may_have_counted, "{what}");
            bouncer.finish(Duration::ZERO);
        }
    }
    // A large answer is an answer: its head says no, and its body is not read.
    let (bouncer, backend) = (Bouncer::default(), Backend::start(move |_| large()));
    let found = bouncer.admit(&backend.rule(OnError::Allow), &visitor(&shown, "")).await.map(drop);
    assert_eq!(found, Err(Turned::Away { could_help: true, message: None }));
}

#[actix_web::test]
async fn a_backend_that_fails_again_and_again_is_not_asked_for_a_while() {
    let broken = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&broken);
    let backend = Backend::start(move |form| {
        let fails = state.load(Ordering::SeqCst) == 1 && form.starts_with("action=listener_add");
        Some(if fails { "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned() } else { YES.to_owned() })
    });
    let (bouncer, rule, shown) = (Bouncer::default(), backend.rule(OnError::Allow), Shown::default());
    for _ in 0..20 {
        assert!(bouncer.admit(&rule, &visitor(&shown, "")).await.is_ok());
    }
    assert_eq!(counts(bouncer.asked().all()), [0, 0, 5, 15]);
    broken.store(0, Ordering::SeqCst);
    until(|| true).await;
    let start = Instant::now();
    while counts(bouncer.asked().all())[0] == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "it is asked again after a rest");
        assert!(bouncer.admit(&rule, &visitor(&shown, "")).await.is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spared = counts(bouncer.asked().all())[3];
    assert!(bouncer.admit(&rule, &visitor(&shown, "")).await.is_ok());
    assert_eq!(counts(bouncer.asked().all())[3], spared, "and then always");
}

#[actix_web::test]
async fn who_hangs_up_while_a_backend_thinks_is_counted_out() {
    let backend = Backend::start(|form| {
        if form.starts_with("action=listener_add") {
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(YES.to_owned())
    });
    let (bouncer, rule, shown) = (Bouncer::default(), backend.rule(OnError::Deny), Shown::default());
    let gone = tokio::time::timeout(Duration::from_millis(50), bouncer.admit(&rule, &visitor(&shown, ""))).await;
    assert!(gone.is_err());
    until(|| counts(bouncer.told().all()) == [1, 0, 0]).await;
    assert_eq!(backend.heard().len(), 2);
}

#[actix_web::test]
async fn what_a_backend_cannot_hear_now_it_hears_later_and_in_order() {
    let (tries, said) = (AtomicUsize::new(0), "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let backend = Backend::start(move |_| Some(if tries.fetch_add(1, Ordering::SeqCst) < 2 { said } else { YES }.to_owned()));
    let bouncer = Bouncer::default();
    let url: Arc<str> = backend.url.as_str().into();
    for mount in ["/a", "/b"] {
        bouncer.announce(&url, true, mount);
    }
    bouncer.announce(&url, false, "/a");
    until(|| counts(bouncer.told().all()) == [3, 0, 0]).await;
    let heard: Vec<_> = backend.heard().iter().map(|form| form.split("&server").next().unwrap_or_default().to_owned()).collect();
    let add = |mount: &str| format!("action=mount_add&mount=%2F{mount}");
    assert_eq!(heard, [add("a"), add("a"), add("a"), add("b"), "action=mount_remove&mount=%2Fa".to_owned()]);
    // One that hangs: what does not fit is dropped, nobody waits, and the end does not wait long.
    let silent: Arc<str> = Backend::start(|_| None).url.as_str().into();
    let bouncer = Bouncer::default();
    let (start, long) = (Instant::now(), format!("/{}", "x".repeat(200_000)));
    for _ in 0..100 {
        bouncer.announce(&silent, true, &long);
    }
    let [delivered, failed, dropped] = counts(bouncer.told().all());
    assert!((delivered, failed) == (0, 0) && (15..40).contains(&dropped), "{dropped}");
    assert!(start.elapsed() < Duration::from_secs(5));
    bouncer.finish(Duration::from_millis(100));
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[actix_web::test]
async fn what_a_backend_cannot_hear_before_an_upgrade_the_next_process_says_in_its_place() {
    let well = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&well);
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::start(move |_| Some(if state.load(Ordering::SeqCst) == 0 { busy } else { YES }.to_owned()));
    let (old, new) = (Arc::new(Bouncer::default()), Bouncer::default());
    let url: Arc<str> = backend.url.as_str().into();
    let mounts = ["/a", "/b", "/c"];
    mounts.iter().for_each(|mount| old.announce(&url, true, mount));
    until(|| !backend.heard().is_empty()).await;
    let (start, itself) = (Instant::now(), Arc::clone(&old));
    let letters = tokio::task::spawn_blocking(move || itself.hand_on(Duration::from_secs(60))).await.expect("no panic");
    assert!(start.elapsed() < Duration::from_secs(20), "one that does not hear is not waited for");
    assert_eq!((letters.len(), counts(old.told().all())), (3, [0; 3]), "none is given up");
    let quiet = format!("{letters:?}");
    assert!(!quiet.contains("mount_add") && quiet.contains("age"), "what it says is nobody's business: {quiet}");
    // What is younger waits behind it, but for what is being said already.
    new.announce(&url, false, "/first");
    until(|| backend.heard().iter().any(|form| form.contains("first"))).await;
    new.announce(&url, false, "/last");
    let aged = letters.iter().map(|letter| handover::Letter { age: 60, ..letter.clone() });
    aged.for_each(|letter| new.go_on_telling(&letter));
    well.store(1, Ordering::SeqCst);
    until(|| counts(new.told().all()) == [5, 0, 0]).await;
    let heard = backend.heard();
    let parts = ["first", "%2Fa&", "%2Fb&", "%2Fc&", "last"];
    let said: Vec<_> = heard.iter().filter_map(|form| parts.into_iter().find(|part| form.contains(part))).collect();
    assert_eq!(said[said.len() - 5..], parts, "{heard:?}");
    // One that is too old is tried once, and given up.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    new.go_on_telling(&handover::Letter { age: 4000, url: format!("http://{nobody}/"), ..letters[0].clone() });
    until(|| counts(new.told().all()) == [5, 1, 0]).await;
    // One that is being said to somebody who says nothing goes along.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hangs = Arc::new(Bouncer::default());
    hangs.announce(&format!("http://{}/", silent.local_addr().expect("an address")).as_str().into(), true, "/a");
    let rest = tokio::task::spawn_blocking(move || hangs.hand_on(Duration::from_millis(50))).await.expect("no panic");
    assert_eq!(rest.len(), 1);
}

#[actix_web::test]
async fn many_at_once_are_asked_for_by_a_bounded_number_of_threads() {
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&at_once);
    let backend = Backend::start(move |form| {
        if form.starts_with("action=listener_add") {
            let now = counted.0.fetch_add(1, Ordering::SeqCst) + 1;
            counted.1.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            counted.0.fetch_sub(1, Ordering::SeqCst);
        }
        yes(form)
    });
    let settings = Arc::new(UrlAuth { timeout: Duration::from_secs(10), ..(*backend.settings(OnError::Deny)).clone() });
    let (bouncer, rule) = (Arc::new(Bouncer::default()), Arc::new(Rule::Url(settings)));
    let asking: Vec<_> = (0..300)
        .map(|_| {
            let (bouncer, rule) = (Arc::clone(&bouncer), Arc::clone(&rule));
            actix_rt::spawn(async move { bouncer.admit(&rule, &visitor(&Shown::default(), "")).await.is_ok() })
        })
        .collect();
    let mut admitted = 0;
    for one in asking {
        admitted += usize::from(one.await.expect("no panic"));
    }
    assert!(admitted == 300 && at_once.1.load(Ordering::SeqCst) <= 16, "{admitted} by {}", at_once.1.load(Ordering::SeqCst));
    until(|| counts(bouncer.told().all()) == [300, 0, 0]).await;
}

#[actix_web::test]
async fn an_encoder_publishes_as_its_backend_says() {
    let backend = Backend::start(|form| Some(if form.contains("pass=right") { YES.to_owned() } else { YES.replace("User: 1", "User: 0") }));
    let bouncer = Bouncer::default();
    for (on_error, password, want) in [(OnError::Deny, "right", Some(true)), (OnError::Deny, "wrong", Some(false))] {
        let shown = shown("dj", password);
        assert_eq!(bouncer.may_publish(&backend.settings(on_error), &visitor(&shown, ""), false).await, want, "{password}");
    }
    assert!(
        backend.heard()[0].starts_with("action=stream_auth&mount=%2Fa&ip=192%2E0%2E2%2E7&server=localhost&port=8000&user=dj&pass=right")
    );
    let silent = Backend::start(|_| None);
    for (on_error, want) in [(OnError::Deny, None), (OnError::Allow, Some(true))] {
        assert_eq!(bouncer.may_publish(&silent.settings(on_error), &visitor(&shown("dj", "x"), ""), false).await, want);
    }
}
