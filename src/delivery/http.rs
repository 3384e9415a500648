//! HTTP listeners and playlists: the service behind every path that no other room has claimed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::asking::may_listen;
use super::peers::{Newcomer, Peers, is_marked};
use super::probes::{Player, Probes};
use super::{DRAINING, Station, TurnedAway, When, admit, framed, headers, stations};
use crate::bouncer::Pass;
use crate::door::answers::{SERVER, plain, plain_builder, unavailable, unframed};
use crate::door::claim::{Claim, REFUSED_PATH, Ticket};
use crate::door::origin::{self, decoded_path, user_agent};
use crate::door::patrol::Patrol;
use crate::engine::listener::Inlay;
use crate::fanout::departure::Refusal;
use crate::fanout::placement::Wish;
use crate::mount::registry::Entry;
use crate::mount::{Registry, Settings, Site};
use crate::units::{Extents, ListenerId, UnitError};
use crate::wire::playlist::Form;
use crate::wire::{media, range, relay};

/// What this room needs to know.
#[derive(Clone, Debug)]
pub struct Desk {
    /// All mounts.
    pub registry: Arc<Registry>,
    /// How long a newcomer waits for a source.
    pub patience: Duration,
    /// Whether there is memory for another.
    pub patrol: Arc<Patrol>,
    /// Where there may be more room.
    pub peers: Arc<Peers>,
}

/// The longest that a newcomer waits for something that is begun for it, where something else can be heard meanwhile.
const HASTE: Duration = Duration::from_secs(3);

const ALLOWED: &str = "GET, HEAD, OPTIONS";
/// Where encoders may push; some ask the server as a whole, and go away if it names none of their methods.
const ALLOWED_TO_PUSH: &str = "GET, HEAD, OPTIONS, PUT, POST, SOURCE";
/// A day long gone, as Icecast writes it: for caches that know nothing of Cache-Control.
const EXPIRED: &str = "Mon, 26 Jul 1997 05:00:00 GMT";

/// Takes every path that nobody else has claimed. To be mounted last.
pub fn routes(desk: &Desk) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let (desk, probes) = (Data::new(desk.clone()), Data::new(Probes::default()));
    move |config| {
        config.app_data(desk.clone()).app_data(probes.clone()).default_service(web::to(answer));
    }
}

async fn answer(request: HttpRequest, desk: Data<Desk>, probes: Data<Probes>) -> HttpResponse {
    let claim = request.conn_data::<Claim>();
    if request.path() == REFUSED_PATH
        && let Some((status, why)) = claim.and_then(Claim::refusal)
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = match status {
            StatusCode::FORBIDDEN => plain(status, why), // who is banned has been counted
            StatusCode::SERVICE_UNAVAILABLE => {
                desk.registry.refuse(None, Refusal::Full);
                unavailable(why)
            }
            _ => {
                desk.registry.refuse(None, Refusal::BadRequest);
                plain(status, why)
            }
        };
        response.head_mut().set_connection_type(actix_http::ConnectionType::Close);
        return response;
    }
    if request.path() == "*" && *request.method() == Method::OPTIONS {
        return options(None); // of the server as a whole: encoders ask this first
    }
    let Some(path) = decoded_path(request.path()) else {
        desk.registry.refuse(None, Refusal::BadRequest);
        return plain(StatusCode::BAD_REQUEST, "the path is not valid UTF-8, or has characters that no mount's path has");
    };
    let Some((site, form)) = find(&desk.registry, &path) else { return not_found(&desk.registry) };
    let mut response = match *request.method() {
        Method::OPTIONS => options(Some(&site)),
        Method::GET | Method::HEAD => match (form, site.entry()) {
            (Some(form), Some(entry)) => playlist(&request, &desk, entry, claim, form).await,
            (Some(_), None) => return not_found(&desk.registry),
            (None, _) => listen(&request, &desk, &probes, &site, claim).await,
        },
        _ => plain_builder(StatusCode::METHOD_NOT_ALLOWED)
            .insert_header((header::ALLOW, allowed(Some(&site))))
            .body("a mount can be listened to: GET or HEAD\n"),
    };
    headers::say_cors(&site.settings().cors, request.headers().get(header::ORIGIN), response.headers_mut());
    response
}

fn not_found(registry: &Registry) -> HttpResponse {
    registry.refuse(None, Refusal::BadRequest);
    plain(StatusCode::NOT_FOUND, "there is no mount at this path; / shows which there are, and /api/v1/mounts lists them")
}

fn allowed(site: Option<&Site>) -> &'static str {
    if site.is_none_or(|site| site.settings().push.is_some()) { ALLOWED_TO_PUSH } else { ALLOWED }
}

/// What may be asked, also from pages elsewhere.
fn options(site: Option<&Site>) -> HttpResponse {
    let allowed = allowed(site);
    plain_builder(StatusCode::NO_CONTENT)
        .insert_header((header::ALLOW, allowed))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, allowed))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "Origin, Accept, Range, Icy-MetaData, Authorization"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "86400"))
        .finish()
}

/// What a path is: that of a mount, of its playlist, or one where a mount may be made.
fn find(registry: &Registry, path: &str) -> Option<(Site, Option<Form>)> {
    if let Some(entry) = registry.find(path) {
        return Some((Site::Open(entry), None));
    }
    let listed = Form::split(path).and_then(|(mount, form)| Some((Site::Open(registry.find(mount)?), Some(form))));
    listed.or_else(|| registry.site(path).map(|site| (site, None)))
}

async fn playlist(request: &HttpRequest, desk: &Desk, entry: &Entry, claim: Option<&Claim>, form: Form) -> HttpResponse {
    let settings = &entry.handle.settings;
    let path = settings.path.as_str();
    let mut url = origin::url(request, path);
    if settings.listen_auth.is_some() {
        let Some(claim) = claim else { return plain(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot be asked who it is") };
        let asked = may_listen(request, &desk.registry, (settings, Some(entry)), claim, desk.registry.next_listener()).await;
        if let Err(refusal) = asked {
            return refusal;
        }
        // By what the playlist was asked for, its stream can be, too; a password is for whoever knows it to type.
        if !request.query_string().is_empty() {
            url = format!("{url}?{}", request.query_string());
        }
    }
    let title = entry.handle.profile().name.unwrap_or_else(|| path.to_owned());
    HttpResponse::Ok()
        .content_type(form.content_type())
        .insert_header((header::SERVER, SERVER))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(form.write(&title, &url))
}

async fn listen(request: &HttpRequest, desk: &Desk, probes: &Probes, site: &Site, claim: Option<&Claim>) -> HttpResponse {
    let (registry, settings) = (&desk.registry, site.settings());
    let asked = site.entry();
    if asked.is_none() && registry.prospects(&settings.path).is_empty() {
        return not_found(registry); // whoever may make a mount there has not
    }
    let frames = framed::asked(request.headers());
    let wish = match wish(request.query_string(), settings) {
        Ok(wish) => frames.as_ref().and_then(|asked| framed::wish(asked, &settings.rules.wish)).or(wish),
        Err(why) => {
            registry.refuse(asked, Refusal::BadRequest);
            return plain(StatusCode::BAD_REQUEST, why);
        }
    };
    if registry.draining() {
        registry.refuse(asked, Refusal::Draining);
        return unavailable(DRAINING);
    }
    let Some(claim) = claim else { return plain(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot carry a stream") };
    // A relay has chosen where it pulls from.
    if let (Some(entry), None, &Method::GET) = (asked, &frames, request.method()) {
        let load = registry.fullness().max(entry.handle.places.fullness());
        if let Some(there) = desk.peers.before_full(newcomer(request, settings, claim), load, registry.places().most()) {
            registry.refuse(asked, Refusal::Redirected);
            return elsewhere("another server has more room", &there);
        }
    }
    let id = registry.next_listener();
    let pass = match may_listen(request, registry, (settings, asked), claim, id).await {
        Ok(pass) => pass,
        Err(refusal) => return refusal,
    };
    let guest = Guest { request, desk, probes, claim, frames, wish, id, pass };
    let (mut turned, until) = (None, Instant::now() + desk.patience);
    for station in stations(registry, settings, asked) {
        if !station.when.admits(turned) {
            continue;
        }
        match guest.served(station, until).await {
            Ok(response) => return response,
            Err(why) => turned = Some(why),
        }
    }
    let Some(turned) = turned.filter(|turned| asked.is_some() || turned.why != Refusal::NoSource) else { return not_found(registry) };
    registry.refuse(asked, turned.why);
    if turned.why == Refusal::Full { overflow(request, desk, settings, claim, turned) } else { unavailable(turned.sentence) }
}

/// Somebody who may listen.
struct Guest<'a> {
    request: &'a HttpRequest,
    desk: &'a Desk,
    probes: &'a Probes,
    claim: &'a Claim,
    frames: Option<relay::Asked>,
    wish: Option<Wish>,
    id: ListenerId,
    pass: Option<Arc<Pass>>,
}

impl Guest<'_> {
    /// Lets it in to a mount where there is something to hear by then, or soon if there is something elsewhere.
    ///
    /// # Errors
    /// When there is not, or no place, or the server takes nobody in.
    async fn served(&self, station: Station, until: Instant) -> Result<HttpResponse, TurnedAway> {
        let Self { request, desk, probes, claim, frames, wish, id, pass } = self;
        let Station { entry, trail, when } = station;
        let (registry, handle) = (&desk.registry, &entry.handle);
        let (patience, hasty) = (until.saturating_duration_since(Instant::now()), when != When::Last);
        let patience = if hasty { patience.min(HASTE) } else { patience };
        let mut placed = handle.place_early(wish.as_ref());
        // Who hangs up while waiting gives the connection's place back now; where half closed listeners are kept, none can be told.
        let found = tokio::select! {
            biased;
            found = handle.on_air(patience, hasty) => found,
            () = claim.hung_up(), if !handle.settings.rules.keep_half_closed => return Ok(unavailable("you have hung up")),
        };
        let Some(content_type) = found else {
            return Err(TurnedAway { why: Refusal::NoSource, sentence: "the mount has no source at present", elsewhere: true });
        };
        let mut response = HttpResponse::Ok();
        let sent_as = if frames.is_some() { relay::MEDIA_TYPE } else { &*content_type };
        response
            .insert_header((header::CONTENT_TYPE, sent_as))
            .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
            .insert_header((header::PRAGMA, "no-cache"))
            .insert_header((header::EXPIRES, EXPIRED))
            .insert_header((header::ACCEPT_RANGES, "none"))
            .insert_header(("X-Accel-Buffering", "no"))
            .insert_header((header::SERVER, SERVER))
            .force_close();
        if origin::asks_for_via(request) {
            let path = origin::via(handle.settings.path.as_str());
            response.insert_header((header::VIA, handle.said().through.into_iter().chain([path]).collect::<Vec<_>>().join(", ")));
        }
        if media::has_parts(sent_as) {
            response.insert_header((header::CONTENT_SECURITY_POLICY, "sandbox")); // none of them is a page of this server
        }
        let (icy, inlay) = match frames {
            Some(asked) => {
                response.insert_header((relay::FIELD, relay::VERSION));
                placed = framed::resumed(asked, handle).or(placed);
                (None, Some(Inlay::Frames))
            }
            None => {
                let icy = headers::interval(&handle.settings, &content_type, request.headers());
                (icy, icy.map(Inlay::Titles))
            }
        };
        headers::describe(&mut response, handle, icy);
        let response = response.finish();
        if response.error().is_some() {
            return Ok(response); // what cannot be said is said without a ticket, which would keep its place until the connection ends
        }
        if request.method() == Method::HEAD {
            return Ok(unframed(response.set_body(Nothing).map_into_boxed_body()));
        }
        let user_agent = user_agent(request);
        let player = Player::new(handle.broadcast.slot, claim.peer(), &user_agent);
        probes.replace(&player, registry.crew()).await;
        let user = pass.as_ref().and_then(|pass| pass.counted());
        let (permit, seat) = admit(registry, &desk.patrol, &entry, claim.peer(), user)?;
        if request.headers().get(header::RANGE).and_then(|range| range.to_str().ok()).is_some_and(range::probes) {
            probes.note(player, *id, Instant::now());
        }
        let gangway = claim.board(Ticket {
            permit,
            seat,
            broadcast: Arc::clone(&handle.broadcast),
            wish: wish.clone().map(Box::new),
            placed,
            inlay,
            id: *id,
            user_agent,
            pass: pass.clone(),
            trail,
            intro: handle.intro_for(inlay),
        });
        Ok(unframed(response.set_body(gangway).map_into_boxed_body()))
    }
}

fn newcomer<'a>(request: &'a HttpRequest, settings: &'a Settings, claim: &Claim) -> Newcomer<'a> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    Newcomer { mount: settings.path.as_str(), target, secure: claim.scheme() == "https" }
}

/// What somebody is told for whom there is no room: where there may be some, or when. Who was sent here is not sent on.
fn overflow(request: &HttpRequest, desk: &Desk, settings: &Settings, claim: &Claim, turned: TurnedAway) -> HttpResponse {
    let peer = || desk.peers.when_full(newcomer(request, settings, claim), desk.registry.places().most());
    if let Some(there) = turned.elsewhere.then(peer).flatten() {
        return elsewhere(turned.sentence, &there);
    }
    match &settings.redirect_on_overflow {
        Some(there) if !is_marked(request.query_string()) => elsewhere(turned.sentence, there),
        _ => unavailable(turned.sentence),
    }
}

/// Sends somebody to another server, this time.
fn elsewhere(why: &str, there: &str) -> HttpResponse {
    plain_builder(StatusCode::FOUND)
        .insert_header((header::LOCATION, there))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
        .body(format!("{why}: {there} may have a place\n"))
}

/// The body of the answer to HEAD: as long as a stream, so that no length is stated, and never asked for.
#[derive(Debug)]
struct Nothing;

impl actix_web::body::MessageBody for Nothing {
    type Error = std::convert::Infallible;

    fn size(&self) -> actix_web::body::BodySize {
        actix_web::body::BodySize::Stream
    }

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<web::Bytes, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}

/// What a listener asks for beside the mount's own rules: `?sync=latest&burst=2s&burst_max=64KiB`, where the mount allows it.
fn wish(query: &str, settings: &Settings) -> Result<Option<Wish>, String> {
    if settings.allow_query && !query.is_empty() { wished(query, &settings.rules.wish) } else { Ok(None) }
}

/// The placement that a query asks for where `usual` is the mount's own. Other parameters are not ours: players and pages append their own.
///
/// # Errors
/// Says what cannot be had, in a sentence.
pub fn wished(query: &str, usual: &Wish) -> Result<Option<Wish>, String> {
    let mut wish = usual.clone();
    let mut asked = false;
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(|_| "the query is not readable".to_string())?;
    for (key, value) in pairs.into_inner() {
        let said = |error: UnitError| format!("{key}: {error}");
        match key.as_str() {
            "sync" => wish.method = value.parse().map_err(said)?,
            "burst" => wish.burst = value.parse().map_err(said)?,
            "burst_max" => wish.burst_max = value.parse().map_err(said)?,
            _ => continue,
        }
        asked = true;
    }
    if let Some((least, most)) = contradiction(&wish.burst, &wish.burst_max) {
        return Err(format!("burst {least} is above burst_max {most}"));
    }
    Ok(asked.then_some(wish))
}

/// The first minimum that is above a maximum of the same unit.
fn contradiction(least: &Extents, most: &Extents) -> Option<(crate::units::Extent, crate::units::Extent)> {
    use crate::units::Extent::{Bytes, Chunks, Time};
    let above = |least, most| match (least, most) {
        (Chunks(least), Chunks(most)) => least > most,
        (Bytes(least), Bytes(most)) => least > most,
        (Time(least), Time(most)) => least > most,
        _ => false,
    };
    least.iter().find_map(|least| most.iter().find(|&most| above(least, most)).map(|most| (least, most)))
}
