//! Another server's stream, pulled: Icecast, SHOUTcast, flumen, any stream over HTTP, plain or by TLS.
//!
//! ```text
//!   upstream ─▶ link ─▶ framing ─┬─ bytes ─▶ metadata taken out ─▶ Pump
//!                                └─ frames, from a flumen ────────▶ Framed (goes on where a broken link stopped)
//! ```
//! - One attempt, from connecting to the end; who tries again, and when, is the supervisor's.
//! - Metadata that comes between the bytes is taken out, and becomes the mount's.
//! - Every step has a deadline, the head a bound, redirects a number. Nothing is sent but one request per hop.
//! - A server of our own kind says which mounts its stream has come through; one that comes from the mount it is for would go in a
//!   circle, and is not taken. (Around others a circle carries what is left of an old stream at the most.)

mod audition;
mod framed;
mod link;
mod listing;
mod upstream;

pub use audition::audition;
pub use link::certificates;
pub use listing::{ANSWER_BYTES, load_of, mounts_of};
pub use upstream::{Upstream, upstreams};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use self::framed::Framed;
use self::link::Link;
use super::framed::Framing;
use super::pipeline::Ended;
use super::profile::profile;
use super::pump::Pump;
use crate::door::origin::via;
use crate::mount::registry::Entry;
use crate::mount::standstill::{self, Mover};
use crate::mount::{Metadata, Said};
use crate::units::format_duration;
use crate::wire::charset::Charset;
use crate::wire::relay::{self, Asked};
use crate::wire::upstream::{Answer, Found, HEAD_MOST, Interleaved, answer, metadata};

/// The longest that connecting takes, and the head of an answer.
const OPEN_MOST: Duration = Duration::from_secs(10);
/// An upstream that sends nothing for so long is given up.
const SILENCE_MOST: Duration = Duration::from_secs(15);
/// Redirects that are followed.
const REDIRECTS_MOST: usize = 5;
/// Servers that a stream may have come through, and what their names may take in all: they are passed on in one head.
const THROUGH_MOST: usize = 16;
const THROUGH_BYTES_MOST: usize = 8 * 1024;
/// Bytes read at once.
const READ_AT_ONCE: usize = 16 * 1024;

/// What is done once, when there is something to hear, right before the mount is taken.
type Arrived = Option<Box<dyn FnOnce()>>;

/// How an upstream is pulled.
#[derive(Debug)]
pub struct Pulling<F> {
    /// Another one fills the mount meanwhile: it is taken only by what is of the same kind, and nothing of it is touched before.
    pub beside: bool,
    /// Called once, right before the mount is taken, which is when there is something to hear.
    pub arrived: F,
}

/// Pulls until it ends. The mount's bookmark says how far it has come, from one attempt to the next.
pub async fn pull(entry: &Entry, upstream: &Upstream, how: Pulling<impl FnOnce() + 'static>) -> Ended {
    let asked = framed::wanted(upstream, &entry.handle);
    let how = match opened(entry, upstream, &asked).await {
        Ok((stream, answer, begun)) => flow(entry, upstream, stream, &answer, begun, how).await,
        Err(why) => Err(why),
    };
    match how {
        Ok(()) => Ended::EndOfStream,
        Err(why) => Ended::Fault(format!("{upstream}: {why}").into()),
    }
}

type Opened = (Box<dyn Link>, Answer, BytesMut);

/// An upstream that has answered with its stream, within the time that it has for that.
async fn opened(entry: &Entry, upstream: &Upstream, asked: &Asked) -> Result<Opened, Arc<str>> {
    let request = |upstream: &Upstream| upstream.request(&via(entry.handle.settings.path.as_str()), asked);
    timeout(OPEN_MOST, open(upstream, request)).await.unwrap_or_else(|_| Err("it does not answer in time".into()))
}

/// Connects, asks, and follows redirects.
async fn open(upstream: &Upstream, request: impl Fn(&Upstream) -> String) -> Result<Opened, Arc<str>> {
    let mut upstream = upstream.clone();
    for _ in 0..=REDIRECTS_MOST {
        let (stream, answer, begun) = ask(&upstream, &request(&upstream)).await?;
        match (answer.status, answer.field("location")) {
            (200, _) => return Ok((stream, answer, begun)),
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                upstream = upstream.redirected(location).map_err(|why| format!("its redirect {why}"))?;
            }
            (401 | 403, _) => return Err(format!("it answers {}: who asks has to be known there", answer.status).into()),
            (status, _) => return Err(format!("it answers {status}").into()),
        }
    }
    Err("it redirects again and again".into())
}

async fn ask(upstream: &Upstream, request: &str) -> Result<Opened, Arc<str>> {
    let told = |error: io::Error| Arc::<str>::from(error.to_string());
    let mut stream = link::connect(upstream).await?;
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut begun = BytesMut::with_capacity(4096);
    loop {
        if let Some(found) = answer(&begun)? {
            begun.advance(found.length);
            return Ok((stream, found, begun));
        }
        if begun.len() > HEAD_MOST || stream.read_buf(&mut begun).await.map_err(told)? == 0 {
            return Err("it hung up before it had answered".into());
        }
    }
}

/// Which servers the stream of an answer has come through.
///
/// # Errors
/// When it is not one to be taken.
fn comes_through(entry: &Entry, answer: &Answer) -> Result<Vec<String>, Arc<str>> {
    let through: Vec<String> =
        answer.field("via").unwrap_or_default().split(',').map(|via| via.trim().to_owned()).filter(|via| is_line(via)).collect();
    if through.contains(&via(entry.handle.settings.path.as_str())) {
        return Err("its stream comes from this very mount: a circle".into());
    }
    if through.len() > THROUGH_MOST {
        return Err(format!("its stream comes through more than {THROUGH_MOST} servers").into());
    }
    if through.iter().map(String::len).sum::<usize>() > THROUGH_BYTES_MOST {
        return Err("the names of the servers that its stream comes through are too long".into());
    }
    if answer.field("content-type").is_some_and(is_page) {
        return Err("it answers with a page and not with a stream".into());
    }
    Ok(through)
}

async fn flow(
    entry: &Entry,
    upstream: &Upstream,
    mut stream: Box<dyn Link>,
    answer: &Answer,
    begun: BytesMut,
    Pulling { beside, arrived }: Pulling<impl FnOnce() + 'static>,
) -> Result<(), Arc<str>> {
    let said = Said { through: comes_through(entry, answer)?, profile: profile(|name| answer.field(name)) };
    let (handle, mut said) = (Arc::clone(&entry.handle), Some(said));
    if !beside {
        said.take().into_iter().for_each(|said| handle.set_said(said)); // known as early as can be, for those who would close a circle
    }
    let mut arrived: Arrived = Some(Box::new(move || {
        said.into_iter().for_each(|said| handle.set_said(said));
        arrived();
    }));
    let kept = entry.handle.settings.content_type.is_some(); // whatever it is, it is served as that
    let alike = if beside && !kept { entry.handle.status().content_type } else { None };
    let framed = answer.field(relay::FIELD) == Some(relay::VERSION) && answer.field("content-type") == Some(relay::MEDIA_TYPE);
    let way = if framed {
        Way::Frames(Box::new(Framed::new(entry, upstream, arrived.take(), alike)))
    } else {
        let pump = Pump::new(entry.actor.clone(), &entry.handle, answer.field("content-type"));
        Way::Bytes(Box::new(pump.only_like(alike)), answer.metaint().map(Interleaved::new))
    };
    let mut sifter = Sifter { framing: Framing::of(answer.body), way, arrived };
    let mut mover = framed.then(|| entry.handle.standstill.enter());
    stand_still(&mut mover).await;
    let mut done = sifter.take(entry, &begun).await;
    let mut bytes = vec![0; READ_AT_ONCE];
    while done.is_ok() && !sifter.framing.is_done() {
        let read = tokio::select! {
            biased;
            () = standstill::asked(&mut mover) => {
                stand_still(&mut mover).await;
                continue;
            }
            read = timeout(SILENCE_MOST, stream.read(&mut bytes)) => read,
        };
        done = match read {
            Err(_) => Err(format!("it has sent nothing for {}", format_duration(SILENCE_MOST)).into()),
            Ok(Err(error)) => Err(error.to_string().into()),
            Ok(Ok(0)) if sifter.framing.ends_with_connection() && !sifter.mid_frame() => break,
            Ok(Ok(0)) => Err("it hung up in the middle of its stream".into()),
            Ok(Ok(count)) => sifter.take(entry, &bytes[..count]).await,
        };
    }
    match sifter.way {
        Way::Bytes(_, _) if beside && sifter.arrived.is_some() => {} // nobody could say what it was
        Way::Bytes(pump, _) => pump.finish(done.as_ref().err().cloned(), || now(&mut sifter.arrived)).await,
        Way::Frames(framed) => framed.finish(done.as_ref().err().cloned()),
    }
    done
}

/// Stands still, if it is to: the mark is all that another process needs to go on.
async fn stand_still(mover: &mut Option<Mover>) {
    if let Some(mover) = mover.as_mut().filter(|mover| mover.is_asked()) {
        mover.stand(None).await;
    }
}

/// Whether there is something, and it can be passed on in a field.
fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// Whether this is what people read: servers that have no stream often say so with a 200.
fn is_page(media_type: &str) -> bool {
    media_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/html"))
}

/// What the stream's bytes are taken out of, and where they go.
struct Sifter {
    framing: Framing,
    way: Way,
    /// Of bytes; frames have their own.
    arrived: Arrived,
}

enum Way {
    Bytes(Box<Pump>, Option<Interleaved>),
    Frames(Box<Framed>),
}

impl Sifter {
    fn mid_frame(&self) -> bool {
        matches!(&self.way, Way::Frames(framed) if framed.mid_frame())
    }

    async fn take(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), Arc<str>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let taken = self.framing.take(bytes, |part| parts.push(part));
        match &mut self.way {
            Way::Frames(framed) => {
                for part in parts {
                    framed.take(part).await?;
                }
            }
            Way::Bytes(pump, interleaved) => {
                let (mut plain, mut blocks): (Vec<&[u8]>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
                for part in parts {
                    match interleaved {
                        None => plain.push(part),
                        Some(interleaved) => interleaved.take(part, |found| match found {
                            Found::Bytes(bytes) => plain.push(bytes),
                            Found::Block(block) => blocks.push(block),
                        }),
                    }
                }
                for part in plain {
                    pump.push(part, || now(&mut self.arrived)).await.map_err(|error| Arc::from(error.to_string()))?;
                }
                if let Some(block) = blocks.last() {
                    pump.say(title(block, entry.handle.settings.charset));
                }
            }
        }
        taken.map_err(|error| error.to_string().into())
    }
}

fn now(arrived: &mut Arrived) {
    if let Some(arrived) = arrived.take() {
        arrived();
    }
}

/// What a block of metadata says, in UTF-8 or this charset; mostly the title is all there is, artist included.
fn title(block: &[u8], charset: Charset) -> Metadata {
    let [title, url] = ["StreamTitle", "StreamUrl"].map(|key| metadata(block, key, charset));
    Metadata::new(None, title.as_deref(), url.as_deref())
}
