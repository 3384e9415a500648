//! Another server's stream, pulled: Icecast, SHOUTcast, flumen, any stream over HTTP.
//!
//! - One attempt, from connecting to the end; who tries again, and when, is the supervisor's.
//! - Metadata that comes between the bytes is taken out, and becomes the mount's.
//! - Every step has a deadline, the head a bound, redirects a number. Nothing is sent but one request per hop.
//! - A server of our own kind says which mounts its stream has come through; one that comes from the mount it is for would go in a
//!   circle, and is not taken. (Around others a circle carries what is left of an old stream at the most.)

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::framed::Framing;
use super::pipeline::Ended;
use super::profile::profile;
use super::pump::Pump;
use crate::door::origin::via;
use crate::mount::registry::Entry;
use crate::mount::{Metadata, Said, Settings};
use crate::units::format_duration;
use crate::wire::upstream::{Answer, Found, HEAD_MOST, Interleaved, answer, metadata};

/// The longest that connecting takes, and the head of an answer.
const OPEN_MOST: Duration = Duration::from_secs(10);
/// An upstream that sends nothing for so long is given up.
const SILENCE_MOST: Duration = Duration::from_secs(15);
/// Redirects that are followed.
const REDIRECTS_MOST: usize = 5;
/// Servers that a stream may have come through.
const THROUGH_MOST: usize = 16;
/// Bytes read at once.
const READ_AT_ONCE: usize = 16 * 1024;

/// Where a stream is pulled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
    path: String,
    authorization: Option<String>,
}

impl Upstream {
    /// Reads an address such as `http://user:word@host:8000/live`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.trim().parse().map_err(|_| "is not a web address")?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("asks for TLS, which relays do not speak yet"),
            _ => return Err("does not begin with http://"),
        }
        let authority = uri.authority().ok_or("names no host")?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let plain = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        if authority.host().is_empty() {
            return Err("names no host");
        }
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authorization: user.map(|user| BASE64_STANDARD.encode(plain(user))),
        })
    }

    /// Where a redirect leads.
    fn redirected(&self, location: &str) -> Result<Self, &'static str> {
        match location.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => Ok(Self { path: location.to_owned(), ..self.clone() }),
            _ => Self::parse(location),
        }
    }

    fn request(&self, through: &str) -> String {
        let authorization = self.authorization.as_ref().map_or_else(String::new, |basic| format!("Authorization: Basic {basic}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: flumen/{}\r\nAccept: */*\r\nIcy-MetaData: 1\r\nVia: {through}\r\n{authorization}Connection: close\r\n\r\n",
            self.path,
            self.host,
            self.port,
            env!("CARGO_PKG_VERSION"),
        )
    }
}

impl std::fmt::Display for Upstream {
    /// Without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// The upstreams of a mount, in order of preference.
pub fn upstreams(settings: &Settings) -> Vec<Upstream> {
    settings.relay.iter().filter_map(|text| Upstream::parse(text).ok()).collect()
}

/// Pulls until it ends.
pub async fn pull(entry: &Entry, upstream: &Upstream) -> Ended {
    let opened = timeout(OPEN_MOST, open(upstream, entry.handle.settings.path.as_str()))
        .await
        .unwrap_or_else(|_| Err("it does not answer in time".into()));
    let how = match opened {
        Ok((stream, answer, begun)) => flow(entry, stream, &answer, begun).await,
        Err(why) => Err(why),
    };
    match how {
        Ok(()) => Ended::EndOfStream,
        Err(why) => Ended::Fault(format!("{upstream}: {why}").into()),
    }
}

/// Connects, asks, and follows redirects.
async fn open(upstream: &Upstream, mount: &str) -> Result<(TcpStream, Answer, BytesMut), Arc<str>> {
    let mut upstream = upstream.clone();
    for _ in 0..=REDIRECTS_MOST {
        let (stream, answer, begun) = ask(&upstream, mount).await?;
        match (answer.status, answer.field("location")) {
            (200, _) => return Ok((stream, answer, begun)),
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                upstream = upstream.redirected(location).map_err(|why| format!("its redirect {why}"))?;
            }
            (status, _) => return Err(format!("it answers {status}").into()),
        }
    }
    Err("it redirects again and again".into())
}

async fn ask(upstream: &Upstream, mount: &str) -> Result<(TcpStream, Answer, BytesMut), Arc<str>> {
    let told = |error: io::Error| Arc::<str>::from(error.to_string());
    let host = upstream.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, upstream.port)).await.map_err(told)?.collect();
    let mut stream = TcpStream::connect(&*addresses).await.map_err(told)?;
    stream.write_all(upstream.request(&via(mount)).as_bytes()).await.map_err(told)?;
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

async fn flow(entry: &Entry, mut stream: TcpStream, answer: &Answer, begun: BytesMut) -> Result<(), Arc<str>> {
    let through: Vec<String> =
        answer.field("via").unwrap_or_default().split(',').map(|via| via.trim().to_owned()).filter(|via| !via.is_empty()).collect();
    if through.contains(&via(entry.handle.settings.path.as_str())) {
        return Err("its stream comes from this very mount: a circle".into());
    }
    if through.len() > THROUGH_MOST {
        return Err(format!("its stream comes through more than {THROUGH_MOST} servers").into());
    }
    entry.handle.set_said(Said { profile: profile(|name| answer.field(name)), through });
    let mut pump = Pump::new(entry.actor.clone(), &entry.handle, answer.field("content-type"));
    let mut sifter = Sifter { framing: Framing::of(answer.body), interleaved: answer.metaint().map(Interleaved::new) };
    let mut done = sifter.take(entry, &mut pump, &begun).await;
    let mut bytes = vec![0; READ_AT_ONCE];
    while done.is_ok() && !sifter.framing.is_done() {
        done = match timeout(SILENCE_MOST, stream.read(&mut bytes)).await {
            Err(_) => Err(format!("it has sent nothing for {}", format_duration(SILENCE_MOST)).into()),
            Ok(Err(error)) => Err(error.to_string().into()),
            Ok(Ok(0)) if sifter.framing.ends_with_connection() => break,
            Ok(Ok(0)) => Err("it hung up in the middle of its stream".into()),
            Ok(Ok(count)) => sifter.take(entry, &mut pump, &bytes[..count]).await,
        };
    }
    pump.finish(done.as_ref().err().cloned(), || ()).await;
    done
}

/// What the stream's bytes are taken out of.
struct Sifter {
    framing: Framing,
    interleaved: Option<Interleaved>,
}

impl Sifter {
    async fn take(&mut self, entry: &Entry, pump: &mut Pump, bytes: &[u8]) -> Result<(), Arc<str>> {
        let (mut parts, mut blocks): (Vec<&[u8]>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let interleaved = &mut self.interleaved;
        let framed = self.framing.take(bytes, |part| match interleaved {
            None => parts.push(part),
            Some(interleaved) => interleaved.take(part, |found| match found {
                Found::Bytes(bytes) => parts.push(bytes),
                Found::Block(block) => blocks.push(block),
            }),
        });
        for part in parts {
            pump.push(part, || ()).await.map_err(|error| Arc::from(error.to_string()))?;
        }
        if let Some(block) = blocks.last() {
            entry.handle.set_metadata(title(block));
        }
        framed.map_err(|error| error.to_string().into())
    }
}

/// What a block of metadata says; mostly the title is all there is, artist included.
fn title(block: &[u8]) -> Metadata {
    let [title, url] = ["StreamTitle", "StreamUrl"].map(|key| metadata(block, key));
    Metadata::new(None, title.as_deref(), url.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_read_and_shown_without_its_password() {
        for (text, shown) in [
            ("http://radio.example/live.ogg", Ok("http://radio.example:80/live.ogg")),
            ("http://user:word@radio.example:8000/live?a=b", Ok("http://radio.example:8000/live?a=b")),
            ("http://[::1]:8000", Ok("http://[::1]:8000/")),
            ("https://radio.example/", Err("asks for TLS, which relays do not speak yet")),
            ("ftp://radio.example/", Err("does not begin with http://")),
            ("radio.example", Err("does not begin with http://")),
            ("http://", Err("is not a web address")),
        ] {
            let found = Upstream::parse(text).map(|upstream| upstream.to_string());
            assert_eq!(found.as_deref().map_err(|why| *why), shown, "{text}");
        }
        let upstream = Upstream::parse("http://us%40er:word@h:1/a").expect("an address");
        assert!(upstream.request("1.1 x").contains("Authorization: Basic dXNAZXI6d29yZA==\r\n"));
    }

    #[test]
    fn a_redirect_may_be_a_path_or_another_server() {
        let from = Upstream::parse("http://a:8000/x").expect("an address");
        for (location, want) in [("/y", Some("http://a:8000/y")), ("http://b/z", Some("http://b:80/z")), ("y", None), ("//c/y", None)] {
            assert_eq!(from.redirected(location).ok().map(|found| found.to_string()).as_deref(), want, "{location}");
        }
    }
}
