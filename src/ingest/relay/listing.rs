//! Asks another server which mounts it has: by Icecast's list for relays if that is open to who asks, else by the document that
//! everybody may read; and by that how many listen to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{Upstream, open};
use crate::door::origin::via_server;
use crate::ingest::framed::Framing;
use crate::wire::listing;
use crate::wire::upstream::Answer;

/// The longest that one answer takes.
const ANSWER_MOST: Duration = Duration::from_secs(10);
/// The longest that an answer takes by which newcomers are sent to another server.
const LOAD_ANSWER_MOST: Duration = Duration::from_secs(3);
/// The largest answer: ten thousand mounts take somewhat less in Icecast's.
const BYTES_MOST: usize = 4 << 20;
/// An answer that is taken apart at once; a larger one may take milliseconds, and whoever asks shares its thread with many.
const AT_ONCE_MOST: usize = 64 * 1024;
/// The most memory that the answer of one server takes: as it comes, in a buffer that grows, and as a list, which others look up.
pub const ANSWER_BYTES: u64 = 3 * BYTES_MOST as u64 + 2 * listing::LIST_BYTES;

/// The paths of the mounts that a server has, or shows to everybody.
///
/// # Errors
/// Says why nothing was learnt.
pub async fn mounts_of(server: &Upstream) -> Result<Vec<String>, Arc<str>> {
    let list = if server.has_login() { fetch(&server.at("/admin/streamlist.txt")).await.ok() } else { None };
    if let Some(list) = list {
        return understood(list, |list| Some(listing::streamlist(list))).await.ok_or_else(|| GONE.into());
    }
    let document = server.at("/status-json.xsl");
    let text = fetch(&document).await.map_err(|why| format!("{document}: {why}"))?;
    understood(text, listing::status).await.ok_or_else(|| format!("{document}: its answer is no list of mounts").into())
}

/// What a server says of how loaded it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What it has on air and shows to everybody: paths, and listeners.
    pub mounts: Vec<(String, u64)>,
    /// How full it is, in thousandths, if it says so.
    pub load: Option<u64>,
}

/// How loaded a server is.
///
/// # Errors
/// Says why nothing was learnt.
pub async fn load_of(server: &Upstream) -> Result<Told, Arc<str>> {
    let document = server.at("/status-json.xsl");
    let fetched = timeout(LOAD_ANSWER_MOST, whole(&document)).await.unwrap_or_else(|_| Err(LATE.into()));
    let (answer, text) = fetched.map_err(|why| format!("{document}: {why}"))?;
    let mounts = understood(text, listing::occupancy).await.ok_or_else(|| format!("{document}: its answer is no status document"))?;
    Ok(Told { mounts, load: answer.field(listing::LOAD_FIELD).and_then(|load| load.parse().ok()) })
}

const LATE: &str = "it does not answer in time";
const GONE: &str = "its answer could not be taken apart";

/// Takes an answer apart.
async fn understood<T: Send + 'static>(text: String, understand: fn(&str) -> Option<T>) -> Option<T> {
    if text.len() <= AT_ONCE_MOST {
        return understand(&text);
    }
    tokio::task::spawn_blocking(move || understand(&text)).await.ok().flatten()
}

async fn fetch(document: &Upstream) -> Result<String, Arc<str>> {
    timeout(ANSWER_MOST, whole(document)).await.unwrap_or_else(|_| Err(LATE.into())).map(|(_, text)| text)
}

async fn whole(document: &Upstream) -> Result<(Answer, String), Arc<str>> {
    let (mut stream, answer, begun) = open(document, |upstream| upstream.plain_request(&via_server(), "")).await?;
    let (mut framing, mut body, mut bytes) = (Framing::of(answer.body), Vec::new(), vec![0; 16 * 1024]);
    framing.take(&begun, |part| body.extend_from_slice(part)).map_err(|error| error.to_string())?;
    while !framing.is_done() {
        let count = stream.read(&mut bytes).await.map_err(|error| error.to_string())?;
        if count == 0 && framing.ends_with_connection() {
            break;
        }
        if count == 0 {
            return Err("it hung up in the middle of its answer".into());
        }
        framing.take(&bytes[..count], |part| body.extend_from_slice(part)).map_err(|error| error.to_string())?;
        if body.len() > BYTES_MOST {
            return Err("its answer is larger than any list of mounts".into());
        }
    }
    let text = String::from_utf8(body).map_err(|_| "its answer is not UTF-8")?;
    Ok((answer, text))
}
