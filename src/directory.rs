//! Directories of streams (YP): public mounts are announced while they are on air, and taken off the list when they are not.
//!
//! ```text
//!   mounts ─ looked at every two seconds ─▶ Book ─ add, touch, remove ─▶ POST ─▶ directory
//!                                             ▲──── YPResponse, SID, TouchFreq ────┘
//! ```
//! - A directory that does not answer costs a thread of its own some seconds, and no listener anything. It is asked again after a
//!   minute, then after twice as long each time, up to an hour.
//! - The [`Book`] decides and does nothing else; time comes in as an argument.
//!
//! Deliberately absent: TLS, but where a directory sends us on to it. It is told what it will tell everybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use ureq::Agent;

use crate::door::origin::via_server;
use crate::mount::{Handle, Registry};
use crate::webhook;

/// How often the mounts are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The longest that a directory is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How soon after a touch another may follow, for a new title.
const TOUCH_LEAST: Duration = Duration::from_secs(5);
/// How long a mount stays listed without a touch, if the directory does not say, and at most.
const TOUCH_USUAL: Duration = Duration::from_secs(600);
const TOUCH_MOST: Duration = Duration::from_secs(86_400);
/// The waits after failures.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest name that a directory may give to a listing.
const SID_MOST: usize = 256;
const AGENT: &str = concat!("flumen/", env!("CARGO_PKG_VERSION"));

/// The checked settings of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it is told things.
    pub url: String,
    /// Where listeners reach this server: what comes before the mounts' paths.
    pub server: String,
}

/// What a directory is told of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    path: String,
    name: String,
    genre: String,
    description: String,
    url: String,
    media_type: String,
    bitrate: String,
    song: String,
    listeners: u64,
    max_listeners: Option<u64>,
}

impl Seen {
    /// A mount that belongs on the list now.
    fn of(handle: &Handle) -> Option<Self> {
        let (status, profile, metadata) = (handle.status(), handle.profile(), handle.metadata());
        if !status.up || !profile.public || profile.hidden {
            return None;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let rate = handle.broadcast.feed.read(|ring| ring.bytes_per_second());
        let song: Vec<_> = [&metadata.artist, &metadata.title].into_iter().flatten().map(|text| text.to_string()).collect();
        Some(Self {
            path: handle.settings.path.to_string(),
            name: profile.name.clone().unwrap_or_else(|| handle.settings.path.to_string()),
            genre: profile.genre.clone().unwrap_or_else(|| "various".into()),
            description: text(&profile.description),
            url: text(&profile.url),
            media_type: status.content_type.as_deref().unwrap_or("application/octet-stream").into(),
            bitrate: rate.map(|rate| format!("{:.0}", rate * 8e-3)).unwrap_or_default(),
            song: song.join(" - "),
            listeners: handle.listeners(),
            max_listeners: handle.settings.max_listeners,
        })
    }
}

type Form = Vec<(&'static str, String)>;

/// Something to tell a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Telling {
    path: String,
    form: Form,
}

/// What it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// It has done it.
    done: bool,
    sid: Option<String>,
    touch: Option<Duration>,
    /// Why not, in its words.
    message: String,
}

/// A mount's listing.
#[derive(Debug)]
struct Listing {
    /// What the directory calls it; `None`: it is not on the list.
    sid: Option<String>,
    touch: Duration,
    /// When it was last told something.
    told: Instant,
    /// When it is to be told next, at the latest.
    due: Instant,
    song: String,
    failures: u32,
}

/// The listings in one directory.
#[derive(Debug)]
struct Book {
    server: String,
    listings: BTreeMap<String, Listing>,
}

impl Book {
    fn new(server: &str) -> Self {
        Self { server: server.trim_end_matches('/').to_owned(), listings: BTreeMap::new() }
    }

    /// What the directory is to be told, given what is on air.
    fn tellings(&mut self, seen: &[Seen], now: Instant) -> Vec<Telling> {
        let mut tellings = Vec::new();
        let gone = |path: &String| seen.iter().all(|seen| seen.path != *path);
        for path in self.listings.keys().filter(|path| gone(path)).cloned().collect::<Vec<_>>() {
            tellings.extend(self.removal(&path));
        }
        for seen in seen {
            let listing = self.listings.entry(seen.path.clone()).or_insert_with(|| Listing {
                sid: None,
                touch: TOUCH_USUAL,
                told: now,
                due: now,
                song: String::new(),
                failures: 0,
            });
            let fresh = listing.sid.is_some() && listing.song != seen.song && now.saturating_duration_since(listing.told) >= TOUCH_LEAST;
            if now < listing.due && !fresh {
                continue;
            }
            let form = match &listing.sid {
                Some(sid) => touch(sid, seen),
                None => add(&self.server, seen),
            };
            (listing.told, listing.due) = (now, now + FIRST_WAIT); // until it has answered
            listing.song.clone_from(&seen.song);
            tellings.push(Telling { path: seen.path.clone(), form });
        }
        tellings
    }

    /// Takes note of an answer; what it means for the log, if anything.
    fn answered(&mut self, path: &str, answer: &Answer, now: Instant) -> Option<&'static str> {
        let listing = self.listings.get_mut(path)?;
        if !answer.done {
            let wait = FIRST_WAIT.saturating_mul(1 << listing.failures.min(10)).min(LONGEST_WAIT);
            listing.failures = listing.failures.saturating_add(1);
            (listing.sid, listing.due) = (None, now + wait); // a touch that is refused: it has forgotten the mount
            return (listing.failures == 1).then_some("the directory does not list the mount; it is asked again, ever less often");
        }
        let was_new = listing.sid.is_none();
        if was_new {
            listing.sid.clone_from(&answer.sid);
            listing.song.clear(); // the title comes with the next touch
        }
        listing.touch = answer.touch.unwrap_or(listing.touch).clamp(TOUCH_LEAST, TOUCH_MOST);
        (listing.failures, listing.due) = (0, now + listing.touch);
        was_new.then_some("the directory lists the mount")
    }

    /// What is said when a mount leaves the list.
    fn removal(&mut self, path: &str) -> Option<Telling> {
        let sid = self.listings.remove(path)?.sid?;
        Some(Telling { path: path.to_owned(), form: vec![("action", "remove".into()), ("sid", sid)] })
    }

    /// What is said when all of them do.
    fn removals(&mut self) -> Vec<Telling> {
        self.listings.keys().cloned().collect::<Vec<_>>().iter().filter_map(|path| self.removal(path)).collect()
    }
}

fn add(server: &str, seen: &Seen) -> Form {
    vec![
        ("action", "add".into()),
        ("sn", seen.name.clone()),
        ("genre", seen.genre.clone()),
        ("cpswd", String::new()),
        ("desc", seen.description.clone()),
        ("url", seen.url.clone()),
        ("listenurl", format!("{server}{}", seen.path)),
        ("type", seen.media_type.clone()),
        ("stype", String::new()),
        ("b", seen.bitrate.clone()),
    ]
}

fn touch(sid: &str, seen: &Seen) -> Form {
    vec![
        ("action", "touch".into()),
        ("sid", sid.to_owned()),
        ("st", seen.song.clone()),
        ("listeners", seen.listeners.to_string()),
        ("max_listeners", seen.max_listeners.map(|most| most.to_string()).unwrap_or_default()),
        ("stype", String::new()),
    ]
}

/// A directory that is being kept up to date.
#[derive(Debug)]
pub struct Kept {
    settings: Settings,
    stop: oneshot::Sender<()>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Kept {
    /// Begins to keep a directory up to date.
    pub fn start(settings: Settings, registry: Arc<Registry>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { settings: settings.clone(), stop, task: actix_rt::spawn(keep(settings, registry, stopped)) }
    }

    /// Which directory it is, and what it is told of this server.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes everything off the list. May take as long as the directory does.
    pub async fn close(self) {
        let _ = self.stop.send(()); // a task that is over has nothing to take off
        let _ = self.task.await; // a panic there: we are leaving anyway
    }
}

async fn keep(settings: Settings, registry: Arc<Registry>, mut stopped: oneshot::Receiver<()>) {
    let Ok(agent) = actix_rt::task::spawn_blocking(agent).await else { return }; // a panic there has been reported
    let mut book = Book::new(&settings.server);
    while tokio::time::timeout(LOOK, &mut stopped).await.is_err() {
        let seen: Vec<_> = registry.all().iter().filter_map(|entry| Seen::of(&entry.handle)).collect();
        for Telling { path, form } in book.tellings(&seen, Instant::now()) {
            let answer = tell(&agent, &settings.url, form).await;
            if let Some(what) = book.answered(&path, &answer, Instant::now()) {
                tracing::info!(mount = path, directory = settings.url, answer = answer.message, "{what}");
            }
        }
    }
    for Telling { form, .. } in book.removals() {
        tell(&agent, &settings.url, form).await;
    }
}

/// Tells a directory something, on a thread that may wait.
async fn tell(agent: &Agent, url: &str, form: Form) -> Answer {
    let (agent, url) = (agent.clone(), url.to_owned());
    let told = actix_rt::task::spawn_blocking(move || post(&agent, &url, &form)).await;
    let failed = |message: String| Answer { message, ..Answer::default() };
    match told {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// What a directory is told by. One that sends us on may do so to https, so whom to trust is known beforehand. Blocks: it reads files.
fn agent() -> Agent {
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).user_agent(AGENT).max_redirects(3);
    config.tls_config(webhook::trust()).build().into()
}

fn post(agent: &Agent, url: &str, form: &[(&'static str, String)]) -> Result<Answer, Box<ureq::Error>> {
    let pairs = form.iter().map(|(key, value)| (*key, value.as_str()));
    let answer = agent.post(url).header("Via", via_server()).send_form(pairs).map_err(Box::new)?;
    let field = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    Ok(Answer {
        done: field("YPResponse") == Some("1"),
        sid: field("SID").filter(|sid| !sid.is_empty() && sid.len() <= SID_MOST).map(str::to_owned),
        touch: field("TouchFreq").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
        message: field("YPMessage").unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(song: &str) -> Seen {
        Seen {
            path: "/a.mp3".into(),
            name: "A".into(),
            genre: "Talk".into(),
            description: String::new(),
            url: String::new(),
            media_type: "audio/mpeg".into(),
            bitrate: "128".into(),
            song: song.into(),
            listeners: 5,
            max_listeners: None,
        }
    }

    fn listed(touch: u64) -> Answer {
        Answer { done: true, sid: Some("s1".into()), touch: Some(Duration::from_secs(touch)), message: String::new() }
    }

    fn field<'t>(telling: &'t Telling, name: &str) -> Option<&'t str> {
        telling.form.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    fn actions(tellings: &[Telling]) -> Vec<&str> {
        tellings.iter().filter_map(|telling| field(telling, "action")).collect()
    }

    #[test]
    fn a_mount_is_added_touched_and_removed() {
        let (mut book, start) = (Book::new("http://radio.example:8000/"), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let told = book.tellings(&[seen("")], at(0));
        assert_eq!((actions(&told), field(&told[0], "listenurl")), (vec!["add"], Some("http://radio.example:8000/a.mp3")));
        assert!(book.tellings(&[seen("")], at(1)).is_empty(), "it has not answered yet");
        assert!(book.answered("/a.mp3", &listed(100), at(1)).is_some());
        assert!(book.tellings(&[seen("")], at(50)).is_empty());
        let told = book.tellings(&[seen("x")], at(60));
        assert_eq!((actions(&told), field(&told[0], "st"), field(&told[0], "sid")), (vec!["touch"], Some("x"), Some("s1")));
        assert_eq!(book.answered("/a.mp3", &Answer { done: true, ..Answer::default() }, at(60)), None, "nothing for the log");
        assert!(book.tellings(&[seen("y")], at(61)).is_empty(), "a new title has to wait a little");
        assert_eq!(actions(&book.tellings(&[seen("y")], at(65))), ["touch"]);
        book.answered("/a.mp3", &listed(100), at(65));
        assert_eq!(actions(&book.tellings(&[seen("y")], at(165))), ["touch"], "as often as it asks for");
        assert_eq!(actions(&book.tellings(&[], at(170))), ["remove"]);
        assert!(book.tellings(&[], at(171)).is_empty() && book.removals().is_empty());
    }

    #[test]
    fn a_directory_that_refuses_is_asked_ever_less_often() {
        let (mut book, mut now) = (Book::new("http://a"), Instant::now());
        let no = Answer::default();
        let mut waits = Vec::new();
        for round in 0..9 {
            assert_eq!(actions(&book.tellings(&[seen("")], now)), ["add"], "{round}");
            assert_eq!(book.answered("/a.mp3", &no, now).is_some(), round == 0, "said once");
            let due = book.listings["/a.mp3"].due;
            waits.push(due.duration_since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert!(book.removals().is_empty(), "what is not listed is not removed");
    }

    #[test]
    fn a_directory_that_sends_us_on_to_tls_which_is_none_is_a_failure_like_others() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let directory = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("somebody comes");
            let (mut seen, mut byte) = (Vec::new(), [0]);
            while !seen.ends_with(b"action=add") {
                assert_eq!(peer.read(&mut byte).expect("a form"), 1);
                seen.push(byte[0]);
            }
            let head = format!("HTTP/1.1 302 Found\r\nLocation: https://{address}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            peer.write_all(head.as_bytes()).expect("answered");
            let (mut peer, _) = listener.accept().expect("it comes again");
            let mut greeting = [0; 3];
            peer.read_exact(&mut greeting).expect("a greeting");
            greeting[0]
        });
        let told = post(&agent(), &format!("http://{address}/"), &[("action", "add".to_owned())]);
        assert!(told.is_err(), "{told:?}");
        assert_eq!(directory.join().expect("no panic"), 22, "a handshake was begun");
    }

    #[test]
    fn a_touch_that_is_refused_means_that_the_mount_is_to_be_added_again() {
        let (mut book, now) = (Book::new("http://a"), Instant::now());
        book.tellings(&[seen("")], now);
        book.answered("/a.mp3", &listed(10), now);
        let later = now + Duration::from_secs(10);
        assert_eq!(actions(&book.tellings(&[seen("")], later)), ["touch"]);
        book.answered("/a.mp3", &Answer::default(), later);
        assert_eq!(actions(&book.tellings(&[seen("")], later + FIRST_WAIT)), ["add"]);
    }
}
