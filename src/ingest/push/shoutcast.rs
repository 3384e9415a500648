//! Encoders that greet as SHOUTcast's do (`wire::shoutcast`), on sockets of their own.

use std::rc::Rc;
use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::session::Session;
use super::{Desk, NoPlace, enter, may_publish, turned_away};
use crate::access::{Credentials, Secret};
use crate::door::claim::Departing;
use crate::door::{Greet, Io};
use crate::engine::broadcast::Peer;
use crate::ingest::framed::Framing;
use crate::ingest::profile::profile;
use crate::ingest::pump::Pump;
use crate::mount::publishers::Publisher;
use crate::mount::{PushSettings, Said};
use crate::wire::shoutcast::{FIELDS_MOST, WELCOME, WRONG_PASSWORD, fields, knock};

/// Makes hosts for such encoders.
pub fn greeter(desk: &Desk) -> impl Fn() -> Greet + Clone + Send + 'static {
    let desk = desk.clone();
    move || {
        let desk = Rc::new(desk.clone());
        Rc::new(move |departing: Departing, peer| {
            let desk = Rc::clone(&desk);
            actix_rt::spawn(async move {
                if let Err((departing, why)) = greet(&desk, departing, peer).await {
                    turned_away(&desk, None, (peer, departing.guest.number()), why);
                    drop(departing);
                }
            });
        })
    }
}

/// Reads until something is complete; `None` when it does not come.
async fn read_until<T>(
    io: &mut Io,
    bytes: &mut BytesMut,
    complete: impl Fn(&[u8]) -> Result<Option<T>, &'static str>,
) -> Result<T, &'static str> {
    loop {
        if let Some(found) = complete(bytes)? {
            return Ok(found);
        }
        if bytes.len() > FIELDS_MOST || !matches!(io.read_buf(bytes).await, Ok(1..)) {
            return Err("it went before it had greeted");
        }
    }
}

async fn greet(desk: &Desk, mut departing: Departing, peer: Peer) -> Result<(), (Departing, &'static str)> {
    let mut bytes = BytesMut::new();
    let knocked = match timeout(desk.patience, read_until(&mut departing.io, &mut bytes, knock)).await {
        Ok(Ok(knocked)) => knocked,
        Ok(Err(why)) => return Err((departing, why)),
        Err(_) => return Err((departing, "it did not greet in time")),
    };
    bytes.advance(knocked.length);
    let path = knocked.mount.clone().or_else(|| desk.shoutcast_mount());
    let site = path.and_then(|path| desk.registry.site(&path));
    let credentials = Credentials { user: PushSettings::USER.into(), password: Secret::new(&knocked.password) };
    let allowed = match site.as_ref() {
        Some(site) => may_publish(desk, site.settings(), peer, "", Some(credentials)).await.unwrap_or(false), // busy has no word here
        None => false,
    };
    let Some(site) = site.filter(|_| allowed && !desk.registry.draining()) else {
        let _ = timeout(desk.patience, departing.io.write_all(WRONG_PASSWORD)).await; // it may be gone
        return Err((departing, "wrong password, or no such mount"));
    };
    let publisher = Publisher { peer, user_agent: "shoutcast".into(), since: SystemTime::now() };
    let (entry, press) = match enter(desk, &site.settings().path, &publisher).await {
        Ok(entered) => entered,
        Err(NoPlace::NotMade(_)) => return Err((departing, "no more mounts are made there")),
        Err(NoPlace::Taken | NoPlace::Closed) => return Err((departing, "another encoder is publishing to this mount")),
    };
    let greeted = timeout(desk.patience, async {
        departing.io.write_all(WELCOME).await.map_err(|_| "it went before it had greeted")?;
        read_until(&mut departing.io, &mut bytes, fields).await
    });
    let (found, length) = match greeted.await {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => return Err((departing, why)),
        Err(_) => return Err((departing, "it did not say what it sends in time")),
    };
    bytes.advance(length);
    let field = |name: &str| found.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    tracing::info!(mount = %entry.handle.settings.path, %peer, connection = departing.guest.number(), "SHOUTcast encoder connected");
    entry.handle.set_said(Said { profile: profile(field), through: Vec::new() });
    let claimed = field("content-type").unwrap_or("audio/mpeg");
    let pump = Pump::new(entry.actor.clone(), &entry.handle, Some(claimed));
    let session = Session::new(departing.io, departing.guest, Framing::UntilClose, (pump, press), entry);
    session.run(b"", &bytes).await;
    Ok(())
}
