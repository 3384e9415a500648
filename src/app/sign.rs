//! `flumen sign`: an address that is signed, for whoever may listen until it expires.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::access::signed::{Secrets, Signed};
use crate::cli::Sign;
use crate::units::{MountPath, parse_duration};

/// The largest file of secrets.
const FILE_MOST: u64 = 4096;

/// Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The file of secrets is no use.
    #[error("{}: {why}", .path.display())]
    Secrets { path: PathBuf, why: String },
    /// What was asked for cannot be signed.
    #[error("{0}")]
    Asked(String),
}

/// The query that makes an address a signed one, or the whole address where its beginning is known.
///
/// # Errors
/// When there is no secret, or no sense in it.
pub(super) fn sign(asked: &Sign) -> Result<String, SignError> {
    let secrets = read(&asked.secret).map_err(|why| SignError::Secrets { path: asked.secret.clone(), why })?;
    let mount: MountPath =
        asked.mount.parse().map_err(|error: crate::units::UnitError| SignError::Asked(format!("{}; {}", error.problem, error.remedy)))?;
    let lasts = parse_duration(&asked.lasts).map_err(|error| SignError::Asked(format!("{}; {}", error.problem, error.remedy)))?;
    if !asked.address.is_empty() && asked.address.parse::<std::net::IpAddr>().is_err() {
        return Err(SignError::Asked(format!("{:?} is no address; write one such as 192.0.2.7", asked.address)));
    }
    if asked.user.chars().any(char::is_control) {
        return Err(SignError::Asked("a user's name has no control characters".to_owned()));
    }
    let expires = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + lasts.max(Duration::from_secs(1))).as_secs();
    let signed = Signed { mount: mount.as_str(), expires, address: &asked.address, user: &asked.user };
    let query = signed.query(&secrets);
    Ok(match &asked.url {
        Some(url) => format!("{}{}?{query}\n", url.trim_end_matches('/'), mount.as_str()),
        None => format!("{query}\n"),
    })
}

fn read(path: &Path) -> Result<Secrets, String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MOST).read_to_string(&mut text));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    Secrets::parse(&text)
}
