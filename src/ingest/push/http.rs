//! `PUT`, `POST` and `SOURCE` on a mount.
//!
//! An encoder that expects it is told to go on, and answered when its stream has ended; any other is answered at once, as
//! Icecast does, for most do not send a byte before.

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::guard::{GuardContext, fn_guard};
use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::parking::{Likeness, Parked};
use super::session::Session;
use super::{Desk, NoPlace, enter, may_publish, turned_away};
use crate::access;
use crate::bouncer::passwords::Busy;
use crate::door::answers::{plain, plain_builder, unavailable, unframed};
use crate::door::claim::Claim;
use crate::door::origin::{decoded_path, user_agent};
use crate::engine::broadcast::Peer;
use crate::ingest::framed::Framing;
use crate::ingest::profile::profile;
use crate::ingest::pump::Pump;
use crate::mount::publishers::Publisher;
use crate::mount::registry::Entry;
use crate::mount::{PushSettings, Said, Site};
use crate::units::MountPath;
use crate::wire::head::Body;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The methods of encoders.
const METHODS: [&str; 3] = ["PUT", "POST", "SOURCE"];

/// Takes every encoder whose path nobody else has claimed. To be mounted after them.
pub fn routes(desk: &Desk) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let desk = desk.clone();
    move |config| {
        let pushes = |context: &GuardContext<'_>| METHODS.contains(&context.head().method.as_str());
        config.app_data(Data::new(desk.clone())).service(web::resource("/{path:.*}").guard(fn_guard(pushes)).to(publish));
    }
}

async fn publish(request: HttpRequest, desk: Data<Desk>) -> HttpResponse {
    let Some(path) = decoded_path(request.path()) else {
        return plain(StatusCode::BAD_REQUEST, "the path is not valid UTF-8, or has characters that no mount's path has");
    };
    let Some(claim) = request.conn_data::<Claim>() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot carry a stream");
    };
    let Some(site) = desk.registry.site(&path) else {
        return plain(StatusCode::NOT_FOUND, "there is no mount at this path to publish to; /api/v1/mounts lists those that are");
    };
    let settings = site.settings();
    let Some(push) = &settings.push else { return takes_no_push(&request) };
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let refuse = |status, why: &str| {
        turned_away(&desk, Some(&settings.path), (claim.peer(), claim.connection()), why);
        plain(status, why)
    };
    if push.password.is_none() && push.stream_auth.is_none() {
        return refuse(StatusCode::FORBIDDEN, "no password for encoders is configured: set [push] password");
    }
    let credentials = field("authorization").and_then(access::basic);
    match may_publish(&desk, settings, claim.peer(), request.query_string(), credentials).await {
        Ok(true) => {}
        Ok(false) => return unauthorized(&desk, &settings.path, claim, field("authorization").is_some()),
        Err(Busy) => {
            return unavailable(
                "too many passwords are being checked, or were wrong from your address just now, or whoever knows them does not answer",
            );
        }
    }
    if desk.registry.draining() {
        return unavailable("the server is about to stop and takes nobody in any more");
    }
    let following = claim.following();
    if following.body == Body::None {
        return plain(StatusCode::OK, "welcome: send the stream in the body of a request");
    }
    let agent = user_agent(&request);
    let publisher = Publisher { peer: claim.peer(), user_agent: agent.clone(), since: SystemTime::now() };
    let claimed = field("content-type").map(str::to_owned);
    let likeness = (from(claim.peer()), agent, claimed.clone());
    let goes_on = matches!(following.body, Body::Length(_));
    let parked = match &site {
        Site::Open(entry) => resumed(&desk, entry, &likeness, goes_on).await.map(|parked| (entry.clone(), (parked.pump, parked.press))),
        Site::Free(_) => None,
    };
    let (entry, stream) = match parked {
        Some(parked) => parked,
        None => match enter(&desk, &settings.path, &publisher).await {
            Ok((entry, press)) => {
                tracing::info!(mount = %path, peer = %claim.peer(), connection = claim.connection(), agent = &*likeness.1, method = %request.method(), "encoder connected");
                entry.handle.set_said(Said { profile: profile(field), through: Vec::new() });
                let pump = Pump::new(entry.actor.clone(), &entry.handle, claimed.as_deref());
                (entry, (pump, press))
            }
            Err(why) => {
                let status = match why {
                    NoPlace::Taken => StatusCode::CONFLICT,
                    NoPlace::NotMade(_) => StatusCode::FORBIDDEN, // as Icecast says that it has too many sources
                    NoPlace::Closed => return unavailable(&why.to_string()),
                };
                return refuse(status, &why.to_string());
            }
        },
    };
    let parking = Arc::clone(&desk.parking);
    let gangway = claim.publish(move |departing| {
        let session = Session::new(departing.io, departing.guest, Framing::of(following.body), stream, entry);
        let (hello, farewell) = match (following.expects_continue, following.body) {
            (true, Body::UntilClose) => (CONTINUE.to_vec(), Vec::new()),
            (true, _) => (CONTINUE.to_vec(), departing.answer),
            (false, _) => (departing.answer, Vec::new()),
        };
        actix_rt::spawn(async move {
            session.saying(farewell, goes_on.then_some((parking, likeness))).run(&hello, &departing.begun).await;
        });
    });
    unframed(HttpResponse::Ok().insert_header((header::SERVER, crate::door::answers::SERVER)).force_close().body(gangway))
}

/// The stream that an encoder has begun with an earlier request. It may be ahead of us: then that request is still being read.
async fn resumed(desk: &Desk, entry: &Entry, likeness: &Likeness, goes_on: bool) -> Option<Parked> {
    let path = &entry.handle.settings.path;
    let on_air = entry.handle.publishers.current();
    if goes_on && on_air.is_some_and(|on_air| from(on_air.peer) == likeness.0 && on_air.user_agent == likeness.1) {
        return desk.parking.resume_soon(path, likeness).await;
    }
    desk.parking.resume(path, likeness)
}

/// From which machine somebody comes.
fn from(peer: Peer) -> String {
    match peer {
        Peer::Inet(address) => address.ip().to_string(),
        Peer::Unix => peer.to_string(),
    }
}

fn unauthorized(desk: &Desk, mount: &MountPath, claim: &Claim, tried: bool) -> HttpResponse {
    if tried {
        turned_away(desk, Some(mount), (claim.peer(), claim.connection()), "wrong password");
    }
    plain_builder(StatusCode::UNAUTHORIZED)
        .insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"flumen\""))
        .body(format!("this needs the password of the user {:?}\n", PushSettings::USER))
}

fn takes_no_push(request: &HttpRequest) -> HttpResponse {
    let why = if *request.method() == Method::POST {
        "a mount can be listened to: GET or HEAD\n"
    } else {
        "this mount is filled by its pipeline or relay, and can be listened to (GET or HEAD); one with neither takes encoders\n"
    };
    plain_builder(StatusCode::METHOD_NOT_ALLOWED).insert_header((header::ALLOW, "GET, HEAD, OPTIONS")).body(why)
}
