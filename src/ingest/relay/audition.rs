//! Whether an upstream is worth a change: a server that accepts, sends what it has kept and then nothing is none, though there would be
//! something to hear. So it is listened to for a while, and what it sends is thrown away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{READ_AT_ONCE, SILENCE_MOST, Upstream, comes_through, opened};
use crate::mount::registry::Entry;
use crate::units::{Extents, format_duration};
use crate::wire::relay::Asked;

/// For so long it has to go on sending.
const LASTS: Duration = Duration::from_secs(5);

/// Listens to an upstream for a while, of which the mount notices nothing.
///
/// # Errors
/// Says why it is not worth it.
pub async fn audition(entry: &Entry, upstream: &Upstream) -> Result<(), Arc<str>> {
    let only_what_is_new = Asked { history: Some(Extents::NONE), resume: None };
    let (mut stream, answer, begun) = opened(entry, upstream, &only_what_is_new).await?;
    comes_through(entry, &answer)?;
    let mut since = (!begun.is_empty()).then(Instant::now);
    let mut bytes = vec![0; READ_AT_ONCE];
    loop {
        match timeout(SILENCE_MOST, stream.read(&mut bytes)).await {
            Err(_) => return Err(format!("it has sent nothing for {}", format_duration(SILENCE_MOST)).into()),
            Ok(Err(error)) => return Err(error.to_string().into()),
            Ok(Ok(0)) => return Err("its stream has ended soon".into()),
            Ok(Ok(_)) if since.get_or_insert_with(Instant::now).elapsed() >= LASTS => return Ok(()),
            Ok(Ok(_)) => {}
        }
    }
}
