//! Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt: asked for when there are none, and again in time.
//!
//! ```text
//!   [[server.tls]] acme ─▶ due? looked at every hour ─▶ order ──▶ authority ──▶ certificate ─▶ two files ─▶ the keyring sees them
//!                                  /.well-known/acme-challenge/… ◀── asks (port 80)
//! ```
//! - This room writes files and does nothing else with them: what changes on disk is taken into use by the keyring, as if an operator
//!   had put it there. So a listener never notices.
//! - Sockets open at once. Until the first certificate is there, one signed by itself stands in for it.
//! - A failure costs nobody anything: the certificate before stays, and the authority is asked again after five minutes, then after twice
//!   as long each time, up to six hours, each wait a little other than the last.
//! - Proofs are answered over plain HTTP only (http-01). At most [`PROOFS_MOST`] are out at a time, and each is gone when its order ends.
//!
//! Deliberately absent: wildcards and proofs by DNS, proofs within TLS, revocation, and accounts bound from outside.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_rt::task::JoinHandle;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::web::{Data, Path as UrlPath, ServiceConfig, get};
use actix_web::{HttpResponse, Responder};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};

use crate::door::certificate::{self, Facts, Files};

/// How often it is looked whether a certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The longest that one order may take, the authority's looks at our proofs included.
const ORDER_MOST: Duration = Duration::from_secs(300);
/// The waits after failures. Let's Encrypt bears five failures an hour for a name.
const FIRST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);
/// Proofs that may be out at once: the names of one certificate, twice over.
const PROOFS_MOST: usize = 2 * DOMAINS_MOST;
/// Names of one certificate; an authority takes a hundred.
pub const DOMAINS_MOST: usize = 100;
/// The longest key authorisation that is kept: a token, a dot and a thumbprint have some hundred bytes.
const PROOF_LONGEST: usize = 1024;
/// Where Let's Encrypt says what it offers.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// One certificate that is to be had and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The names that it is for; the first names its files.
    pub domains: Vec<String>,
    /// Where the account, the certificate and its key are kept.
    pub folder: PathBuf,
    /// Where the authority says what it offers.
    pub directory: String,
    /// Whom the authority may write to.
    pub contact: Option<String>,
    /// Who vouches for the authority's own certificate (PEM), if not those whom the system trusts.
    pub ca: Option<PathBuf>,
}

impl Settings {
    /// Where the certificate and its key lie.
    pub fn files(&self) -> Files {
        let name = self.domains.first().map_or("certificate", String::as_str);
        Files { cert: self.folder.join(format!("{name}.crt")), key: self.folder.join(format!("{name}.key")) }
    }

    /// Where the account at this authority is kept.
    fn account(&self) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let authority: String = self.directory.trim_start_matches("https://").chars().map(plain).take(150).collect();
        self.folder.join(format!("account-{authority}.json"))
    }

    fn identifiers(&self) -> Vec<Identifier> {
        self.domains.iter().cloned().map(Identifier::Dns).collect()
    }
}

/// Whether a new certificate is to be asked for: there is but a stand-in, it lacks a name, or two thirds of its time are over.
fn is_due(facts: &Facts, domains: &[String], now: u64) -> bool {
    let named = domains.iter().all(|domain| facts.names.iter().any(|name| name.eq_ignore_ascii_case(domain)));
    let (Some(begins), Some(ends)) = (facts.begins, facts.expires) else { return true };
    facts.signed_by_itself || !named || now >= ends.saturating_sub(ends.saturating_sub(begins) / 3)
}

/// How long to wait after so many failures in a row; `dice` is from 0 to 1.
fn patience(failures: u32, dice: f64) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    wait.mul_f64(0.9 + 0.2 * dice.clamp(0.0, 1.0))
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    #[error("the authority does not ask for {0} over HTTP")]
    NoHttpProof(String),
    #[error("the authority does not believe in {0}: {1}")]
    Refused(String, String),
    #[error("the order has become {0:?}")]
    Order(OrderStatus),
    #[error("it took longer than {} s", ORDER_MOST.as_secs())]
    Late,
    #[error("cannot keep what was given: {0}")]
    Files(#[from] io::Error),
}

/// What the authority finds when it asks: answers by their tokens.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<BTreeMap<String, String>>);

impl Proofs {
    fn put(&self, token: &str, answer: &str) -> bool {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = proofs.len() < PROOFS_MOST && token.len() + answer.len() <= PROOF_LONGEST;
        if room {
            proofs.insert(token.to_owned(), answer.to_owned());
        }
        room
    }

    fn take_away(&self, tokens: &[String]) {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.iter().for_each(|token| drop(proofs.remove(token)));
    }

    fn answer(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

async fn proof(proofs: Data<Proofs>, token: UrlPath<String>) -> impl Responder {
    match proofs.answer(&token) {
        Some(answer) => {
            HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header(ContentType::octet_stream()).body(answer)
        }
        None => HttpResponse::NotFound().insert_header(ContentType::plaintext()).body("nobody has asked to prove this\n"),
    }
}

/// Where an authority asks for proofs.
pub fn routes(proofs: &Arc<Proofs>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let proofs = Data::from(Arc::clone(proofs));
    move |config| {
        config.app_data(proofs.clone()).route("/.well-known/acme-challenge/{token}", get().to(proof));
    }
}

/// Sees to it that sockets can open: where there is no certificate yet, or none that can be used, puts one that is signed by itself.
///
/// # Errors
/// Which file cannot be written.
pub fn stand_in(wanted: &[Settings]) -> io::Result<()> {
    for settings in wanted {
        let files = settings.files();
        let Err(flaw) = certificate::check(&files) else { continue };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", settings.folder.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&settings.folder).map_err(named)?;
        tracing::info!(domains = ?settings.domains, was = %flaw, "a certificate signed by itself stands in until the authority gives one");
        let made = rcgen::generate_simple_self_signed(settings.domains.clone()).map_err(io::Error::other)?;
        put_pair(&files, &made.cert.pem(), &made.signing_key.serialize_pem()).map_err(named)?;
    }
    Ok(())
}

/// Both halves; each appears whole or not at all. The keyring waits until both are at rest.
fn put_pair(files: &Files, cert: &str, key: &str) -> io::Result<()> {
    put(&files.key, key)?;
    put(&files.cert, cert)
}

/// Writes a file that only we may read, and puts it in place when it is whole.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Keeps every certificate fresh, until it is dropped or told of others.
#[derive(Debug, Default)]
pub struct Acme {
    proofs: Arc<Proofs>,
    wanted: Vec<Settings>,
    keeping: Vec<JoinHandle<()>>,
}

impl Acme {
    /// What the authority will find here.
    pub fn proofs(&self) -> &Arc<Proofs> {
        &self.proofs
    }

    /// Keeps these certificates, and no others.
    pub fn settle(&mut self, wanted: &[Settings]) {
        if self.wanted == wanted {
            return;
        }
        self.stop();
        self.wanted = wanted.to_vec();
        self.keeping = wanted.iter().map(|settings| actix_rt::spawn(keep(settings.clone(), Arc::clone(&self.proofs)))).collect();
    }

    fn stop(&mut self) {
        self.keeping.drain(..).for_each(|keeping| keeping.abort());
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn keep(settings: Settings, proofs: Arc<Proofs>) {
    let mut failures = 0;
    loop {
        let wait = match renew(&settings, &proofs).await {
            Ok(given) => {
                if given {
                    tracing::info!(domains = ?settings.domains, "the authority has given a certificate");
                }
                failures = 0;
                LOOK_EVERY
            }
            Err(failure) => {
                failures += 1;
                let wait = patience(failures, fastrand::f64());
                tracing::error!(domains = ?settings.domains, error = in_words(&failure), again_in_s = wait.as_secs(),
                    "no certificate from the authority; the one before stays in use");
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What happened, and what led to it: libraries tell the cause of a cause only when asked.
fn in_words(failure: &Failure) -> String {
    let mut words = failure.to_string();
    let mut cause = std::error::Error::source(failure);
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        cause = deeper.source();
    }
    words
}

/// Asks for a certificate if one is due. Whether one was given.
async fn renew(settings: &Settings, proofs: &Proofs) -> Result<bool, Failure> {
    let files = settings.files();
    let seen = blocking(move || Ok(certificate::check(&files))).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if seen.is_ok_and(|facts| !is_due(&facts, &settings.domains, now)) {
        return Ok(false);
    }
    let mut tokens = Vec::new();
    let ordered = tokio::time::timeout(ORDER_MOST, order(settings, proofs, &mut tokens)).await;
    proofs.take_away(&tokens);
    let (cert, key) = ordered.map_err(|_| Failure::Late)??;
    let files = settings.files();
    blocking(move || Ok(put_pair(&files, &cert, &key)?)).await?;
    Ok(true)
}

/// A certificate with its chain, and its key, in PEM.
async fn order(settings: &Settings, proofs: &Proofs, tokens: &mut Vec<String>) -> Result<(String, String), Failure> {
    let account = account(settings).await?;
    let mut order = account.new_order(&NewOrder::new(&settings.identifiers())).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let domain = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(Failure::Refused(domain, format!("{other:?}"))),
        }
        let mut challenge = authorization.challenge(ChallengeType::Http01).ok_or_else(|| Failure::NoHttpProof(domain.clone()))?;
        if !proofs.put(&challenge.token, challenge.key_authorization().as_str()) {
            return Err(Failure::Refused(domain, "there are more proofs to give than there is room for".to_owned()));
        }
        tokens.push(challenge.token.clone());
        challenge.set_ready().await?;
    }
    let retries = RetryPolicy::default().timeout(ORDER_MOST);
    match order.poll_ready(&retries).await? {
        OrderStatus::Ready => {}
        OrderStatus::Invalid => return Err(refusal(&mut order).await),
        other => return Err(Failure::Order(other)),
    }
    let key = order.finalize().await?;
    Ok((order.poll_certificate(&retries).await?, key))
}

/// Why an order has become invalid, in the authority's words.
async fn refusal(order: &mut instant_acme::Order) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Failure::Refused(authorization.identifier().to_string(), problem.to_string());
        }
    }
    Failure::Order(OrderStatus::Invalid)
}

/// The account at this authority; a new one, if there is none yet.
async fn account(settings: &Settings) -> Result<Account, Failure> {
    let (path, ca) = (settings.account(), settings.ca.clone());
    let (builder, kept) = blocking(move || {
        let builder = match &ca {
            Some(ca) => Account::builder_with_root(ca)?,
            None => Account::builder()?,
        };
        Ok((builder, kept(&path)?))
    })
    .await?;
    if let Some(kept) = kept {
        let credentials: AccountCredentials = serde_json::from_slice(&kept).map_err(io::Error::other)?;
        return Ok(builder.from_credentials(credentials).await?);
    }
    let contact: Vec<String> = settings.contact.iter().map(|address| format!("mailto:{address}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, settings.directory.clone(), None).await?;
    let (path, credentials) = (settings.account(), serde_json::to_string(&credentials).map_err(io::Error::other)?);
    blocking(move || Ok(put(&path, &credentials)?)).await?;
    Ok(account)
}

/// What is known of an account, if it has been kept.
fn kept(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Does what waits for files, which may lie on a disk that does not answer: that is not for a thread that must not wait. Each certificate
/// does one such thing at a time, and an order that has given up on one is followed by a look at the files, which has no end either: so
/// two threads of it wait for such a disk at most, and two more each time that its settings change.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    actix_rt::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn facts() -> Facts {
        let names = vec!["radio.example".to_owned(), "www.radio.example".to_owned()];
        Facts { names, begins: Some(0), expires: Some(90 * DAY), signed_by_itself: false }
    }

    #[test]
    fn a_certificate_is_due_when_two_thirds_of_its_time_are_over() {
        let domains = ["Radio.Example".to_owned()];
        for (day, due) in [(0, false), (59, false), (60, true), (89, true), (200, true)] {
            assert_eq!(is_due(&facts(), &domains, day * DAY), due, "day {day}");
        }
    }

    #[test]
    fn a_stand_in_a_missing_name_or_an_unreadable_time_makes_it_due_at_once() {
        let domains = ["radio.example".to_owned()];
        assert!(!is_due(&facts(), &domains, 1));
        assert!(is_due(&Facts { signed_by_itself: true, ..facts() }, &domains, 1));
        assert!(is_due(&Facts { expires: None, ..facts() }, &domains, 1));
        assert!(is_due(&facts(), &["other.example".to_owned()], 1));
    }

    #[test]
    fn failures_are_followed_by_ever_longer_waits_up_to_six_hours() {
        let waits: Vec<u64> = (1..12).map(|failures| patience(failures, 0.5).as_secs()).collect();
        assert_eq!(waits[..4], [300, 600, 1200, 2400]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT.as_secs()));
        assert!(patience(1, 0.0) < patience(1, 1.0), "no two servers ask in step");
        assert_eq!(patience(u32::MAX, 0.5), LONGEST_WAIT);
    }

    #[test]
    fn proofs_are_found_by_their_token_while_the_order_lasts_and_their_number_is_bounded() {
        let proofs = Proofs::default();
        assert!(proofs.put("a", "a.thumb"));
        assert_eq!(proofs.answer("a").as_deref(), Some("a.thumb"));
        assert_eq!(proofs.answer("b"), None);
        assert!(!proofs.put("long", &"x".repeat(PROOF_LONGEST)));
        for i in 0..10_000 {
            proofs.put(&i.to_string(), "x");
        }
        assert_eq!(proofs.0.lock().expect("whole").len(), PROOFS_MOST);
        proofs.take_away(&["a".to_owned()]);
        assert_eq!(proofs.answer("a"), None);
    }

    #[test]
    fn accounts_of_two_authorities_do_not_share_a_file() {
        let at = |directory: &str| {
            let settings =
                Settings { domains: vec!["a.example".into()], folder: "/x".into(), directory: directory.into(), contact: None, ca: None };
            settings.account()
        };
        assert_ne!(at(LETS_ENCRYPT), at("https://localhost:14000/dir"));
        assert_eq!(at("https://h:1/../d"), Path::new("/x/account-h-1-..-d.json"), "no path leads out of the folder");
    }

    /// A pipe that nobody writes to stands for a disk that does not answer.
    #[test]
    fn a_disk_that_does_not_answer_holds_up_nothing_else_on_the_thread() {
        let folder = std::env::temp_dir().join(format!("flumen-acme-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let domains = vec!["radio.example".to_owned()];
        let settings = Settings { domains, folder: folder.clone(), directory: LETS_ENCRYPT.into(), contact: None, ca: None };
        let pipe = settings.account();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let comes_back = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(3));
            drop(OpenOptions::new().write(true).open(pipe));
        });
        actix_rt::System::new().block_on(async {
            let began = std::time::Instant::now();
            let asked = tokio::time::timeout(Duration::from_millis(50), account(&settings)).await;
            assert!(asked.is_err() && began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        });
        comes_back.join().expect("no panic");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_stands_in_is_a_pair_for_the_names_and_is_due() {
        let folder = std::env::temp_dir().join(format!("flumen-acme-{}", std::process::id()));
        let domains = vec!["radio.example".to_owned()];
        let settings = Settings { domains, folder: folder.clone(), directory: LETS_ENCRYPT.into(), contact: None, ca: None };
        stand_in(std::slice::from_ref(&settings)).expect("written");
        let found = certificate::check(&settings.files()).expect("a pair");
        assert!(found.signed_by_itself && is_due(&found, &settings.domains, 0));
        assert_eq!(found.names, settings.domains);
        let before = std::fs::read(settings.files().cert).expect("there");
        stand_in(std::slice::from_ref(&settings)).expect("nothing to do");
        assert_eq!(std::fs::read(settings.files().cert).expect("there"), before, "what can be used stays");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
