//! Certificates and their keys: from PEM files, and anew when those files change.
//!
//! ```text
//!   files ──load──▶ Certificate ──▶ Pair ──▶ who shakes hands now
//!     ▲                               ▲
//!     └── looked at every few seconds ┴── Keyring::reload, when told
//! ```
//! - A pair is taken as a whole or not at all: one that cannot be read, or whose halves do not belong together, leaves the one before
//!   in place. That is said once, not at every look.
//! - Two files are not written in one moment. So a change is believed when two looks in a row see the same.
//! - A new certificate is for new connections; nobody loses one to it.
//! - No key is ever shown: neither in a message nor by `Debug`.
//!
//! Deliberately absent: fetching certificates (whoever does puts files here), stapling, certificates of clients, and keys with a
//! passphrase.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::fanout::stats::{add, read};

/// A chain with its key has some thousand bytes; what is larger is another file by mistake.
const LARGEST_BYTES: u64 = 1 << 20;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where a certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of the certificate.
    Cert,
    /// That of the key.
    Key,
}

/// What is wrong with a pair, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {remedy}", path.display())]
pub struct Flaw {
    /// The file that is to be mended.
    pub which: Which,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: &'static str,
}

/// What a certificate says of itself; times are seconds since 1970, and `None` where it does not say so in a way we read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The host names that it is for.
    pub names: Vec<String>,
    /// When it begins to hold.
    pub begins: Option<u64>,
    /// When it ends.
    pub expires: Option<u64>,
    /// Nobody vouches for it but itself.
    pub signed_by_itself: bool,
}

/// A certificate with its chain and its key, checked.
struct Certificate {
    key: Arc<CertifiedKey>,
    facts: Facts,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Reads and checks a pair, for whoever wants to know whether it is one, and of what.
///
/// # Errors
/// Says which file is wrong.
pub fn check(files: &Files) -> Result<Facts, Flaw> {
    load(files).map(|certificate| certificate.facts)
}

fn load(files: &Files) -> Result<Certificate, Flaw> {
    const CERT_REMEDY: &str = "name a PEM file with the certificate and those that vouch for it (-----BEGIN CERTIFICATE-----)";
    const KEY_REMEDY: &str = "name the PEM file with the certificate's key, without a passphrase (-----BEGIN PRIVATE KEY-----)";
    let flaw = |which, problem: String, remedy| {
        let path = match which {
            Which::Cert => files.cert.clone(),
            Which::Key => files.key.clone(),
        };
        Flaw { which, path, problem, remedy }
    };
    let unread = |which| move |error: io::Error| flaw(which, format!("cannot be read: {error}"), "name a file that flumen may read");
    let bytes = read_file(&files.cert).map_err(unread(Which::Cert))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|_| flaw(Which::Cert, "is not PEM".to_owned(), CERT_REMEDY))?;
    if chain.is_empty() {
        return Err(flaw(Which::Cert, "holds no certificate".to_owned(), CERT_REMEDY));
    }
    let bytes = read_file(&files.key).map_err(unread(Which::Key))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        // What else the error knows may be a piece of the key.
        let problem = if matches!(error, PemError::NoItemsFound) { "holds no private key that can be read" } else { "is not PEM" };
        flaw(Which::Key, problem.to_owned(), KEY_REMEDY)
    })?;
    let key = ring::default_provider().key_provider.load_private_key(key).map_err(|_| {
        let remedy = "use an ECDSA (P-256 or P-384), an Ed25519 or an RSA key (2048 bits or more)";
        flaw(Which::Key, "is a key of a kind that cannot be used".to_owned(), remedy)
    })?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(flaw(Which::Key, format!("is not the key of {}", files.cert.display()), KEY_REMEDY));
        }
        Err(_) => {
            let remedy = "use an X.509 certificate of version 3, as every authority makes them";
            return Err(flaw(Which::Cert, "holds no certificate that can be used".to_owned(), remedy));
        }
    }
    let facts = key.cert.first().and_then(|cert| facts(cert)).unwrap_or_default();
    Ok(Certificate { key: Arc::new(key), facts })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1MiB"));
    }
    Ok(bytes)
}

/// What a certificate says of itself.
fn facts(der: &[u8]) -> Option<Facts> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
    let (begins, expires) = (certificate.validity.not_before, certificate.validity.not_after);
    let signed_by_itself = certificate.issuer == certificate.subject;
    let names = certificate.get::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    let seconds = |time: x509_cert::time::Time| Some(time.to_unix_duration().as_secs());
    Some(Facts { names: names.collect(), begins: seconds(begins), expires: seconds(expires), signed_by_itself })
}

/// Whether a name of a certificate, which may begin with `*.`, is the one that was asked for.
fn covers(name: &str, asked: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => asked.split_once('.').is_some_and(|(first, asked)| !first.is_empty() && asked.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(asked),
    }
}

/// How two files were when they were looked at; the same stamp, the same contents. Which file it is counts as well, for a link
/// may be turned to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stamp([Option<(u64, i64, i64, u64)>; 2]);

impl Stamp {
    fn of(files: &Files) -> Self {
        let stamp = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        };
        Self([stamp(&files.cert), stamp(&files.key)])
    }
}

/// How the files of a pair were.
#[derive(Debug)]
struct Watched {
    /// When they were last read, whatever came of it.
    tried: Stamp,
    /// When they were last looked at.
    seen: Stamp,
}

/// A certificate in use, and where it comes from.
#[derive(Debug)]
pub(super) struct Pair {
    files: Files,
    current: RwLock<Arc<Certificate>>,
    watched: Mutex<Watched>,
}

/// What became of a pair that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Renewed,
    Same,
    Failed,
}

impl Pair {
    fn open(files: &Files) -> Result<Self, Flaw> {
        let stamp = Stamp::of(files); // before they are read: what changes meanwhile is seen at the next look
        let current = load(files)?;
        tell_of(files, &current, "certificate loaded");
        let watched = Watched { tried: stamp.clone(), seen: stamp };
        Ok(Self { files: files.clone(), current: RwLock::new(Arc::new(current)), watched: Mutex::new(watched) })
    }

    fn current(&self) -> Arc<Certificate> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is for this name.
    pub(super) fn is_for(&self, asked: &str) -> bool {
        self.current().facts.names.iter().any(|name| covers(name, asked))
    }

    /// What a handshake needs.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current().key)
    }

    /// Reads the files again if they have changed, and change no more.
    fn look(&self) -> Option<Outcome> {
        let mut watched = self.watched();
        let now = Stamp::of(&self.files);
        let settled = std::mem::replace(&mut watched.seen, now.clone()) == now;
        (settled && now != watched.tried).then(|| self.renew(&mut watched, now))
    }

    /// Reads the files again.
    fn reload(&self) -> Outcome {
        let mut watched = self.watched();
        let now = Stamp::of(&self.files);
        self.renew(&mut watched, now)
    }

    fn renew(&self, watched: &mut Watched, now: Stamp) -> Outcome {
        watched.tried = now;
        match load(&self.files) {
            Ok(new) if new.key.cert == self.current().key.cert => Outcome::Same,
            Ok(new) => {
                tell_of(&self.files, &new, "certificate renewed");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                Outcome::Renewed
            }
            Err(flaw) => {
                tracing::error!(%flaw, "a certificate cannot be renewed; the one before stays in use");
                Outcome::Failed
            }
        }
    }
}

fn tell_of(files: &Files, certificate: &Certificate, what: &str) {
    let (cert, names) = (files.cert.display(), certificate.facts.names.join(" "));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match certificate.facts.expires {
        Some(expires) if expires <= now => tracing::warn!(%cert, %names, "{what}; it has expired, and clients will not trust it"),
        Some(expires) => tracing::info!(%cert, %names, days_left = (expires - now) / 86_400, "{what}"),
        None => tracing::info!(%cert, "{what}; when it expires cannot be told"),
    }
}

/// What became of all certificates when they were read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Certificates that are new.
    pub renewed: usize,
    /// Pairs that are wrong; those before them stay in use.
    pub failed: usize,
}

/// Every certificate of the server, each pair of files once.
#[derive(Debug, Default)]
pub struct Keyring {
    pairs: Mutex<Vec<Arc<Pair>>>,
    renewed: AtomicU64,
    failed: AtomicU64,
}

impl Keyring {
    /// The certificate in these files; read now, unless it is here already.
    pub(super) fn pair(&self, files: &Files) -> Result<Arc<Pair>, Flaw> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pairs.iter().find(|pair| pair.files == *files) {
            return Ok(Arc::clone(known));
        }
        let pair = Arc::new(Pair::open(files)?);
        pairs.push(Arc::clone(&pair));
        Ok(pair)
    }

    fn all(&self) -> Vec<Arc<Pair>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads every pair again, changed or not. It reads files: not for a thread that must not wait.
    pub fn reload(&self) -> Reloaded {
        self.count(self.all().iter().map(|pair| pair.reload()))
    }

    /// Reads those pairs again whose files have changed, and have been at rest since the last look.
    fn look(&self) -> Reloaded {
        self.count(self.all().iter().filter_map(|pair| pair.look()))
    }

    fn count(&self, outcomes: impl Iterator<Item = Outcome>) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for outcome in outcomes {
            reloaded.renewed += usize::from(outcome == Outcome::Renewed);
            reloaded.failed += usize::from(outcome == Outcome::Failed);
        }
        add(&self.renewed, reloaded.renewed as u64);
        add(&self.failed, reloaded.failed as u64);
        reloaded
    }

    /// How often certificates were renewed, and how often that failed.
    pub fn renewals(&self) -> (u64, u64) {
        (read(&self.renewed), read(&self.failed))
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, renewed: u64, failed: u64) {
        add(&self.renewed, renewed);
        add(&self.failed, failed);
    }

    /// When each certificate ends, in seconds since 1970, by the path of its file as configured; each path once.
    pub fn expiries(&self) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = Vec::new();
        for pair in self.all() {
            let path = pair.files.cert.display().to_string();
            if let Some(expires) = pair.current().facts.expires.filter(|_| found.iter().all(|(known, _)| *known != path)) {
                found.push((path, expires));
            }
        }
        found
    }

    /// Looks at the files every few seconds, for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let keyring = Arc::clone(&self);
            // A file may lie on a disk that does not answer. Then this waits, and nobody else.
            let _ = actix_rt::task::spawn_blocking(move || keyring.look()).await;
        }
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
