//! The bouncer: who may listen, and who may publish where a backend decides. Asked once for each request, never on the data path.
//!
//! ```text
//!   delivery ─▶ admit ─▶ staff ─▶ rules (access::rule) ─▶ files here · hashes on a thread · backends elsewhere ─▶ Pass, or why not
//!                                                                                                ▲
//!   the listener's end, wherever ─▶ Farewell dropped ─▶ messenger ──listener_remove──────────────┘
//! ```
//! - Everything has a bound and a deadline: files, hashes at once, questions at once and in the queue, letters that wait, answers.
//! - A backend that fails makes nobody wait for long, and what it leaves open its `on_error` decides.
//! - Whoever a backend has counted in it is told of when they go, also if they never got in.
//!
//! Deliberately absent: HTTP on our side (status, fields), who is an operator (`admin`), and answers that are remembered: a backend
//! is asked each time, for it may count.

mod breaker;
mod client;
pub mod files;
pub mod keys;
mod messenger;
mod panel;
mod pass;
pub mod passwords;
pub mod staff;
pub mod throttle;
mod words;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::access::htpasswd::Users;
use crate::access::rule::{Grant, Judgment, OnError, Rule, Shown, UrlAuth, Verdict};
use crate::access::{Credentials, Secret, signed, token};
use crate::handover;
use files::{Content, Watched};
use keys::{Aim, Denied, Keys};
use messenger::{Letter, Messenger};
use panel::Panel;
use pass::Farewell;
use staff::{Staff, Standing};
use words::{Said, Who};

pub use messenger::{BYTES_MOST as LETTERS_BYTES_MOST, Outcomes as Told};
pub use panel::Outcomes as Asked;
pub use pass::Pass;
pub use words::Whereabouts;

/// Memory of what one backend may be asked at once, and of what waits to be, at the very most, where no request has a longer head, and the
/// backend wants to know of so many header fields.
pub const fn questions_bytes(head: u64, fields: usize) -> u64 {
    panel::questions_bytes(head, fields)
}

/// Right passwords of listeners that are remembered: a storm of those who come again costs no hashes.
const KNOWN_MOST: usize = 16 * 1024;
/// Memory of what is remembered of passwords at the very most: of listeners, of operators, of their namesakes, and of encoders.
pub const PASSWORDS_BYTES: u64 = keys::bytes(KNOWN_MOST)
    + keys::bytes(passwords::KNOWN_MOST)
    + passwords::bytes(staff::NAMESAKES_MOST)
    + passwords::bytes(passwords::KNOWN_MOST);
/// What one listener's pass takes at the most, where no backend is told of its end.
pub const PASS_BYTES: u64 = 512;
/// The longest text of a farewell, which a pass holds besides where a backend is told.
pub const FAREWELL_MOST: usize = 8 * 1024;
/// The longest user and password that a farewell keeps to log in with.
const LOGIN_MOST: usize = 512;
/// How long deciding about one request may take in all.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// A number by which backends know them.
    pub number: u64,
    /// The mount's path.
    pub mount: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
    /// From where; `None`: a process on this machine.
    pub address: Option<IpAddr>,
    /// What they say they are.
    pub agent: &'a str,
    /// What they show of who they are.
    pub shown: &'a Shown,
}

impl Visitor<'_> {
    fn asked(&self) -> String {
        if self.query.is_empty() { self.mount.to_owned() } else { format!("{}?{}", self.mount, self.query) }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turned {
    /// They may not.
    Away {
        /// Whether a user and a password could help.
        could_help: bool,
        /// What a backend says of it.
        message: Option<String>,
    },
    /// Too many wrong passwords came from there; they are not looked at for so long.
    Throttled(Duration),
    /// Nobody could say.
    Unknown(&'static str),
}

/// The bouncer.
#[derive(Debug)]
pub struct Bouncer {
    files: RwLock<Vec<Arc<Watched>>>,
    panels: Mutex<Vec<Arc<Panel>>>,
    messengers: Mutex<Vec<Arc<Messenger>>>,
    keys: Keys,
    /// Whom no rule is asked about.
    pub staff: Staff,
    at: RwLock<Arc<Whereabouts>>,
    asked: Arc<panel::Outcomes>,
    told: Arc<messenger::Outcomes>,
}

impl Default for Bouncer {
    fn default() -> Self {
        Self {
            files: RwLock::default(),
            panels: Mutex::default(),
            messengers: Mutex::default(),
            keys: Keys::remembering(KNOWN_MOST),
            staff: Staff::default(),
            at: RwLock::default(),
            asked: Arc::default(),
            told: Arc::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bouncer {
    /// From now on these rules hold, at a server that is there. Files that are known already are read again if they have changed.
    /// Returns what is wrong with those that cannot be read; what rests on them is unknown.
    pub fn settle<'r>(&self, rules: impl Iterator<Item = &'r Rule>, at: Whereabouts) -> Vec<String> {
        *self.at.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(at);
        let (mut kept, mut wrong, mut urls) = (Vec::<Arc<Watched>>::new(), Vec::new(), Vec::new());
        let known = self.files.read().unwrap_or_else(PoisonError::into_inner).clone();
        let is = |watched: &Arc<Watched>, wanted| (watched.kind, &*watched.path) == wanted;
        for leaf in rules.flat_map(Rule::leaves) {
            if let Rule::Url(settings) = leaf {
                urls.push(Arc::clone(settings));
            }
            let Some(wanted) = files::file_of(leaf) else { continue };
            if kept.iter().any(|watched| is(watched, wanted)) {
                continue;
            }
            match known.iter().find(|watched| is(watched, wanted)) {
                Some(watched) => {
                    watched.look(true);
                    kept.push(Arc::clone(watched));
                }
                None => match Watched::open(wanted.0, wanted.1) {
                    Ok(watched) => kept.push(Arc::new(watched)),
                    Err(error) => wrong.push(error),
                },
            }
        }
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = kept;
        lock(&self.panels).retain(|panel| urls.contains(&panel.settings));
        // One that a listener's farewell still needs, or that has something to say, stays.
        lock(&self.messengers).retain(|messenger| Arc::strong_count(messenger) > 1 || !messenger.is_idle());
        wrong
    }

    /// Reads files again that have changed, and have been at rest since the last look; `now`: in any case, if they have changed.
    fn look(&self, now: bool) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner).clone();
        files.iter().for_each(|watched| watched.look(now));
    }

    /// Reads files again that have changed. Not for a thread that must not wait.
    pub fn reload(&self) {
        self.look(true);
    }

    /// Sees to it that files are read again when they change. Never ends.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let itself = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || itself.look(false)).await; // a panic there has been reported
        }
    }

    /// What came of questions to backends.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// What became of what backends are told.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Tells backends what has not been told yet; returns when that is done, or time is up. Blocks.
    pub fn finish(&self, within: Duration) {
        let left = self.hurry(within, false).len();
        if left > 0 {
            self.told.give_up(left as u64);
            tracing::warn!(left, "backends do not hear in time who has left; it is given up");
        }
    }

    /// The same, but for a backend that does not hear at once: what is left, at most [`LETTERS_BYTES_MOST`] for each host, is for the
    /// process that takes over ([`Self::go_on_telling`]). Blocks.
    pub fn hand_on(&self, within: Duration) -> Vec<handover::Letter> {
        self.hurry(within, true).iter().map(Letter::pack).collect()
    }

    /// Tells a backend what another process could not.
    pub fn go_on_telling(&self, packed: &handover::Letter) {
        self.messenger(&packed.url).post(Letter::unpack(packed));
    }

    fn hurry(&self, within: Duration, hands_on: bool) -> Vec<Letter> {
        let until = Instant::now() + within;
        let messengers = lock(&self.messengers).clone();
        messengers.iter().for_each(|messenger| messenger.hurry(hands_on));
        messengers.iter().flat_map(|messenger| messenger.rest_of(until)).collect()
    }

    fn panel(&self, settings: &Arc<UrlAuth>) -> Arc<Panel> {
        let mut panels = lock(&self.panels);
        if let Some(known) = panels.iter().find(|panel| panel.settings == *settings) {
            return Arc::clone(known);
        }
        let panel = Arc::new(Panel::new(Arc::clone(settings), Arc::clone(&self.asked)));
        panels.push(Arc::clone(&panel));
        panel
    }

    fn messenger(&self, url: &str) -> Arc<Messenger> {
        let (mut messengers, host) = (lock(&self.messengers), client::host(url));
        if let Some(known) = messengers.iter().find(|messenger| &*messenger.host == host) {
            return Arc::clone(known);
        }
        let messenger = Messenger::new(host, Arc::clone(&self.told));
        messengers.push(Arc::clone(&messenger));
        messenger
    }

    fn at(&self) -> Arc<Whereabouts> {
        Arc::clone(&self.at.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells a backend that a mount has a source, or has none any more. Waits for nothing.
    pub fn announce(&self, url: &Arc<str>, up: bool, mount: &str) {
        self.messenger(url).post(Letter::new(Arc::clone(url), None, &words::mount_changed(up, mount, &self.at())));
    }

    /// Whether a backend lets this encoder publish, or say what it plays (`admin`). `None`: nobody could say.
    pub async fn may_publish(&self, settings: &Arc<UrlAuth>, visitor: &Visitor<'_>, admin: bool) -> Option<bool> {
        let asked = visitor.asked();
        let credentials = visitor.shown.credentials.as_ref();
        let form = words::stream_auth(&who(visitor, &asked), admin, &self.at());
        match (self.panel(settings).ask(&form, credentials.cloned(), None).await.0, settings.on_error) {
            (Said::Yes(_), _) | (Said::Nonsense, OnError::Allow) => Some(true),
            (Said::No(_), _) => Some(false),
            (Said::Nonsense, OnError::Deny) => None,
        }
    }

    /// Lets somebody in by a rule, or says why not.
    ///
    /// # Errors
    /// Says why not.
    pub async fn admit(&self, rule: &Rule, visitor: &Visitor<'_>) -> Result<Pass, Turned> {
        let standing = match &visitor.shown.credentials {
            Some(given) => self.staff.admit(visitor.address, given).await,
            None => Standing::Guest,
        };
        let post = match standing {
            Standing::Staff(pass) => return Ok(pass),
            Standing::Turned(turned) => return Err(turned),
            Standing::Guest => return self.admit_guest(rule, visitor).await,
            Standing::Namesake(post) => post,
        };
        let admitted = self.admit_guest(rule, visitor).await;
        if let (Ok(_), Some(given)) = (&admitted, &visitor.shown.credentials) {
            post.remember(given);
        }
        admitted
    }

    async fn admit_guest(&self, rule: &Rule, visitor: &Visitor<'_>) -> Result<Pass, Turned> {
        let mut visit = Visit { bouncer: self, visitor, farewells: Vec::new(), message: None, throttled: None };
        let mut answers: Vec<_> = rule.leaves().into_iter().map(|leaf| visit.at_once(leaf)).collect();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let verdict = loop {
            match rule.judge(&answers) {
                Judgment::Settled(verdict) => break verdict,
                Judgment::Ask(number, leaf) => {
                    let answer = tokio::time::timeout_at(deadline, visit.ask(leaf)).await;
                    answers[number] = Some(answer.unwrap_or(Verdict::Unknown));
                }
            }
        };
        match (verdict, visit.throttled) {
            (Verdict::Granted(Grant { user, lasts }), _) => Ok(Pass { user, shared: false, lasts, farewells: visit.farewells }),
            (_, Some(wait)) => Err(Turned::Throttled(wait)),
            (Verdict::Refused, None) => Err(Turned::Away { could_help: rule.could_help(&answers), message: visit.message }),
            (Verdict::Unknown, None) => Err(Turned::Unknown("who may listen cannot be found out at present")),
        }
    }
}

fn who<'a>(visitor: &Visitor<'a>, asked: &'a str) -> Who<'a> {
    let Visitor { number, address, agent, shown, .. } = *visitor;
    Who { number, asked, credentials: shown.credentials.as_ref(), address, agent }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Deciding about one request.
struct Visit<'a> {
    bouncer: &'a Bouncer,
    visitor: &'a Visitor<'a>,
    /// Of backends that have counted it; said when it does not get in.
    farewells: Vec<Farewell>,
    message: Option<String>,
    /// Too many wrong passwords came from there.
    throttled: Option<Duration>,
}

impl Visit<'_> {
    fn content(&self, leaf: &Rule) -> Option<Content> {
        let wanted = files::file_of(leaf)?;
        let files = self.bouncer.files.read().unwrap_or_else(PoisonError::into_inner);
        files.iter().find(|watched| (watched.kind, &*watched.path) == wanted).map(|watched| watched.content())
    }

    /// What a leaf says that needs no time; `None` where it does.
    fn at_once(&self, leaf: &Rule) -> Option<Verdict> {
        let Visitor { mount, query, address, agent, shown, .. } = *self.visitor;
        let plainly = |yes: bool| if yes { Verdict::Granted(Grant::default()) } else { Verdict::Refused };
        let granted = |grant: Option<Grant>| grant.map_or(Verdict::Refused, Verdict::Granted);
        Some(match leaf {
            Rule::Allow(networks) => plainly(address.is_some_and(|address| networks.contains(address))),
            Rule::Deny(networks) => plainly(address.is_none_or(|address| !networks.contains(address))),
            Rule::Agent(patterns) => plainly(patterns.iter().any(|pattern| pattern.matches(agent))),
            Rule::Signed(_) => match self.content(leaf) {
                Some(Content::Secrets(secrets)) => granted(signed::granted(&secrets, mount, query, address, unix_seconds())),
                _ => Verdict::Unknown,
            },
            Rule::Jwt { audience, .. } => match (self.content(leaf), &shown.token) {
                (Some(Content::Keys(keys)), Some(token)) => {
                    granted(token::granted(&keys, token.reveal(), mount, audience.as_deref(), unix_seconds()))
                }
                (Some(Content::Keys(_)), None) => Verdict::Refused,
                _ => Verdict::Unknown,
            },
            Rule::Htpasswd(_) if shown.credentials.is_none() => Verdict::Refused,
            Rule::Htpasswd(_) | Rule::Url(_) | Rule::Any(_) | Rule::All(_) | Rule::Not(_) => return None,
        })
    }

    /// What a leaf says that takes time.
    async fn ask(&mut self, leaf: &Rule) -> Verdict {
        let visitor = self.visitor;
        match (leaf, &visitor.shown.credentials) {
            (Rule::Htpasswd(_), Some(credentials)) => match self.content(leaf) {
                Some(Content::Users(users)) => self.knows_password(&users, credentials).await,
                _ => Verdict::Unknown,
            },
            (Rule::Url(settings), _) => self.by_backend(settings).await,
            _ => Verdict::Refused,
        }
    }

    async fn knows_password(&mut self, users: &Users, given: &Credentials) -> Verdict {
        // Who is not there is compared with somebody who is, by a password that is not theirs: it takes the same time, and counts as wrong.
        let stranger = || Credentials { password: Secret::new(&format!("\u{1}{}", given.password.reveal())), ..given.clone() };
        let (known, asked) = match (users.get(&given.user), users.decoy()) {
            (Some(password), _) => (true, Some((given.clone(), password))),
            (None, decoy) => (false, decoy.map(|password| (stranger(), password))),
        };
        let Some((asked, password)) = asked else { return Verdict::Refused };
        match self.bouncer.keys.check(self.visitor.address, Aim::Listener, &asked, &[(&asked.user, password)]).await {
            Ok(()) if known => Verdict::Granted(Grant::to(&given.user)),
            Ok(()) | Err(Denied::Wrong) => Verdict::Refused,
            Err(Denied::Wait(wait)) => {
                self.throttled = Some(wait);
                Verdict::Unknown
            }
            Err(Denied::Busy) => Verdict::Unknown,
        }
    }

    async fn by_backend(&mut self, settings: &Arc<UrlAuth>) -> Verdict {
        let visitor = self.visitor;
        let (at, asked) = (self.bouncer.at(), visitor.asked());
        let credentials = visitor.shown.credentials.as_ref();
        let who = who(visitor, &asked);
        let farewell = settings.remove_url.as_ref().map(|url| {
            let kept = |login: &&Credentials| login.user.len() + login.password.reveal().len() <= LOGIN_MOST;
            let login = settings.login.clone().or_else(|| credentials.filter(kept).cloned());
            Farewell::new(self.bouncer.messenger(url), Arc::clone(url), login, words::listener_remove(&who, &at))
        });
        let wanted = |name: &str| visitor.shown.fields.iter().find(|(known, _)| &**known == name);
        let fields: Vec<_> = settings.headers.iter().filter_map(|name| wanted(name)).map(|(name, value)| (&**name, &**value)).collect();
        let form = words::listener_add(&who, &at, (&settings.header_prefix, &fields));
        let (said, farewell) = self.bouncer.panel(settings).ask(&form, credentials.cloned(), farewell).await;
        let user = credentials.map(|given| Arc::from(&*given.user)).filter(|user: &Arc<str>| !user.is_empty());
        match (said, settings.on_error) {
            (Said::Yes(lasts), _) => {
                self.farewells.extend(farewell);
                Verdict::Granted(Grant { user, lasts })
            }
            (Said::No(message), _) => {
                self.message = message.or(self.message.take());
                Verdict::Refused
            }
            (Said::Nonsense, OnError::Allow) => {
                // Nobody has said who it is. What has perhaps been counted is counted out at its end.
                self.farewells.extend(farewell);
                Verdict::Granted(Grant::default())
            }
            (Said::Nonsense, OnError::Deny) => Verdict::Unknown,
        }
    }
}

/// What a backend's answer means, if it means anything, and what it says of a refusal; and the form by which it is asked about somebody
/// who calls themselves this.
#[cfg(any(test, feature = "fuzzing"))]
pub fn understood(status: u16, fields: &[(&str, &str)], asked: &str, name: &str) -> (Option<Verdict>, Option<String>, String) {
    let field = |wanted: &str| fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
    let credentials = Credentials { user: name.to_owned(), password: Secret::new(name) };
    let who = Who { number: 1, asked, credentials: Some(&credentials), address: None, agent: name };
    // The names of fields and what is before them the configuration has checked; what they say is anybody's.
    let form = words::listener_add(&who, &Whereabouts::default(), ("ClientHeader.", &[("x-token", asked)]));
    match words::understand(status, (UrlAuth::AUTH_HEADER, UrlAuth::TIMELIMIT_HEADER), field) {
        Said::Yes(lasts) => (Some(Verdict::Granted(Grant { user: None, lasts })), None, form),
        Said::No(message) => (Some(Verdict::Refused), message, form),
        Said::Nonsense => (None, None, form),
    }
}

#[cfg(test)]
mod tests;
