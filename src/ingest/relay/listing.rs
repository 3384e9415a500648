//! Asks another server which mounts it has: by Icecast's list for relays if that is open to who asks, else by the document that
//! everybody may read.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{Upstream, open};
use crate::ingest::framed::Framing;
use crate::wire::listing;

/// The longest that one answer takes.
const ANSWER_MOST: Duration = Duration::from_secs(10);
/// The largest answer.
const BYTES_MOST: usize = 4 << 20;

/// The paths of the mounts that a server has, or shows to everybody.
///
/// # Errors
/// Says why nothing was learnt.
pub async fn mounts_of(server: &Upstream) -> Result<Vec<String>, Arc<str>> {
    let list = if server.has_login() { fetch(&server.at("/admin/streamlist.txt")).await.ok() } else { None };
    if let Some(list) = list {
        return Ok(listing::streamlist(&list));
    }
    let document = server.at("/status-json.xsl");
    let text = fetch(&document).await.map_err(|why| format!("{document}: {why}"))?;
    listing::status(&text).ok_or_else(|| format!("{document}: its answer is no list of mounts").into())
}

async fn fetch(document: &Upstream) -> Result<String, Arc<str>> {
    timeout(ANSWER_MOST, whole(document)).await.unwrap_or_else(|_| Err("it does not answer in time".into()))
}

async fn whole(document: &Upstream) -> Result<String, Arc<str>> {
    let (mut stream, answer, begun) = open(document, |upstream| upstream.plain_request("Accept: */*\r\n")).await?;
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
    String::from_utf8(body).map_err(|_| "its answer is not UTF-8".into())
}
