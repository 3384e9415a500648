//! `/admin/…`: what panels ask for and order.
//!
//! - The order of looking is Icecast's, so that its errors are: is there such a command, who asks, is there such a mount.
//! - An order by GET is not taken from a page elsewhere, nor by HEAD, and is written in the log.
//! - Who listens is asked of the shards in parts, between their turns: a poll each second disturbs nobody.

use std::time::{Duration, SystemTime};

use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::super::admission::{self, Standing};
use super::super::answers::{answer, json, text};
use super::super::{House, shards};
use super::facts::{self, Facts};
use super::metadata;
use super::pages;
use super::query::Parameters;
use super::status;
use super::xml::Document;
use crate::engine::broadcast::ListenerView;
use crate::engine::trail::Movers;
use crate::mount::Refuge;
use crate::mount::moving::move_listeners;
use crate::mount::registry::Entry;
use crate::units::{ListenerId, MountPath};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/admin/{command:.*}")
            .route(web::get().to(command))
            .route(web::head().to(command))
            .route(web::post().to(command))
            .default_service(web::to(other_methods)),
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Fallbacks,
    Index,
    KillClient,
    KillSource,
    ListClients,
    ListMounts,
    ManageAuth,
    Metadata,
    MoveClients,
    PublicStats,
    Stats,
    StreamList,
    UpdateMetadata,
}

/// How it is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Xml,
    /// For people.
    Page,
    Json,
    Text,
}

impl Command {
    const NAMES: [(&'static str, Self); 11] = [
        ("fallbacks", Self::Fallbacks),
        ("killclient", Self::KillClient),
        ("killsource", Self::KillSource),
        ("listclients", Self::ListClients),
        ("listmounts", Self::ListMounts),
        ("manageauth", Self::ManageAuth),
        ("metadata", Self::Metadata),
        ("moveclients", Self::MoveClients),
        ("stats", Self::Stats),
        ("streamlist", Self::StreamList),
        ("updatemetadata", Self::UpdateMetadata),
    ];

    fn of(path: &str) -> Option<(Self, Form)> {
        match path {
            "" => return Some((Self::Index, Form::Page)),
            "stats.xml" => return Some((Self::Stats, Form::Xml)), // as it was called once
            "streamlist.txt" => return Some((Self::StreamList, Form::Text)),
            "publicstats" => return Some((Self::PublicStats, Form::Xml)),
            "publicstats.json" => return Some((Self::PublicStats, Form::Json)),
            _ => {}
        }
        let (name, form) = path.strip_suffix(".xsl").map_or((path, Form::Xml), |name| (name, Form::Page));
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, command)| (*command, form))
    }

    /// Whether it is an order.
    fn changes(self) -> bool {
        matches!(self, Self::Fallbacks | Self::KillClient | Self::KillSource | Self::Metadata | Self::MoveClients)
    }

    /// Whether it makes sense while listeners wait for a source that is away.
    fn is_about_listeners(self) -> bool {
        matches!(self, Self::KillClient | Self::ListClients | Self::MoveClients)
    }
}

/// An error as Icecast writes it.
pub(super) fn error(status: StatusCode, why: &str) -> HttpResponse {
    let code = status.as_u16();
    let body = format!("<html><head><title>Error {code}</title></head><body><b>{code} - {}</b></body></html>\r\n", pages::escaped(why));
    answer(status, "text/html; charset=utf-8", body)
}

/// A success as Icecast writes it where it answers with no document.
pub(super) fn success(message: &str) -> HttpResponse {
    let body = format!("<html><head><title>Admin request successful</title></head><body><p>{message}</p></body></html>");
    answer(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn bad(why: &str) -> HttpResponse {
    error(StatusCode::BAD_REQUEST, why)
}

fn xml(document: Document) -> HttpResponse {
    answer(StatusCode::OK, "text/xml; charset=utf-8", document.finish())
}

/// What became of an order.
fn response(form: Form, message: &str, done: bool) -> HttpResponse {
    let mut answer = if form == Form::Page {
        pages::response(message, done)
    } else {
        let mut document = Document::new("iceresponse");
        document.leaf("message", message);
        document.leaf("return", u8::from(done));
        xml(document)
    };
    if !done {
        answer.extensions_mut().insert(NotDone);
    }
    answer
}

/// Beside an answer whose status does not say it, as Icecast's does not: nothing was done.
struct NotDone;

fn is_done(answer: &HttpResponse) -> bool {
    answer.status().is_success() && !answer.extensions().contains::<NotDone>()
}

async fn other_methods() -> HttpResponse {
    not_by("GET, HEAD, POST", "This can be asked with GET, HEAD or POST.")
}

/// Refuses a method.
pub(super) fn not_by(allowed: &'static str, why: &str) -> HttpResponse {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, why);
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    answer
}

/// Refuses somebody without credentials who is no operator.
pub(super) fn stranger(request: &HttpRequest, house: &House, why: &str) -> HttpResponse {
    let mut answer = text(admission::status_for_strangers(request, house), why);
    admission::challenge(&mut answer);
    answer
}

/// Whether an order may be taken in this way.
pub(super) fn refuse_order(request: &HttpRequest) -> Option<HttpResponse> {
    if *request.method() == Method::HEAD {
        return Some(not_by("GET, POST", "This changes something, so it cannot be asked with HEAD."));
    }
    admission::is_blind(request).then(|| {
        let why = "this browser does not say which page makes it ask: give the password of [admin], or ask with another program";
        text(StatusCode::FORBIDDEN, why)
    })
}

async fn command(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    let Some((command, form)) = Command::of(&path) else { return bad("Unrecognised command") };
    if command == Command::PublicStats {
        return public_stats(&request, &house, form);
    }
    let parameters = Parameters::of(request.query_string());
    let mount = parameters.text("mount");
    let entry = mount.as_deref().and_then(|mount| house.registry.find(mount));
    let backend = entry.as_ref().and_then(metadata::backend_of).zip(mount.as_deref());
    let standing = match backend {
        Some((backend, mount)) => admission::standing_by(&request, &house, mount, backend).await,
        None => admission::standing_at(&request, &house, entry.as_ref().and_then(metadata::source_of)).await,
    };
    let standing = match standing {
        Ok(Standing::Stranger(why)) => return stranger(&request, &house, why),
        // As with Icecast: it mirrors what is on air, and needs no more for that.
        Ok(Standing::Relay) if (command, mount.is_some()) != (Command::StreamList, false) || form == Form::Page => {
            return error(StatusCode::FORBIDDEN, admission::NOT_FOR_RELAYS);
        }
        Ok(standing) => standing,
        Err(denied) => return admission::refusal(denied),
    };
    if mount.is_none() {
        return match (command, form) {
            (Command::Stats, Form::Xml) => stats(&request, &house, None),
            (Command::StreamList, Form::Text) => stream_list(&house),
            (Command::ListMounts | Command::StreamList, Form::Xml) => xml(mounts(&house, None, standing == Standing::Operator)),
            (Command::Index | Command::Stats | Command::ListMounts | Command::StreamList | Command::MoveClients, Form::Page) => {
                pages::index(&house)
            }
            _ => bad("Unknown admin request"),
        };
    }
    let Some(entry) = entry else { return bad("Source does not exist") };
    let lingers = command.is_about_listeners() && entry.handle.listeners() > 0;
    if !entry.handle.status().up && !lingers {
        return bad("Source is not available");
    }
    if command.changes() {
        if let Some(refusal) = refuse_order(&request) {
            return refusal;
        }
        let goes_to = match command {
            Command::Fallbacks => parameters.text("fallback"),
            Command::MoveClients => parameters.text("destination"),
            _ => None,
        };
        if standing != Standing::Operator && goes_to.is_some_and(|to| asks_others(&house, &entry, &to)) {
            return error(StatusCode::FORBIDDEN, "who listens there is asked who they are: only an operator sends others there");
        }
    }
    let answer = match command {
        Command::Fallbacks => set_fallback(&house, &entry, &parameters),
        Command::Index if form == Form::Page => pages::index(&house),
        Command::KillClient => kill_client(&house, &entry, &parameters, form).await,
        Command::KillSource => {
            entry.kill_source();
            response(form, "Source Removed", true)
        }
        Command::ListClients => list_clients(&house, &entry, form).await,
        Command::ManageAuth => bad("missing parameter"),
        Command::Metadata => set_metadata(&entry, &parameters, form),
        Command::MoveClients => move_clients(&house, &entry, &parameters, form).await,
        Command::Stats if form == Form::Page => pages::index(&house),
        Command::Stats => stats(&request, &house, Some(&entry)),
        Command::UpdateMetadata if form == Form::Page => pages::update_metadata(&entry),
        Command::UpdateMetadata => {
            let mut document = Document::new("icestats");
            document.begin("source", &[("mount", entry.handle.settings.path.as_str())]);
            xml(document)
        }
        Command::Index | Command::ListMounts | Command::PublicStats | Command::StreamList => bad("Mount request unknown"),
    };
    if command.changes() {
        let (by, status, done) = (admission::asker(&request), answer.status().as_u16(), is_done(&answer));
        tracing::info!(mount, by, connection = admission::connection(&request), command = &**path, status, done, "an order");
    }
    answer
}

/// Whether a mount asks who wants to listen, and not as this one does. Who is moved is not asked again; so whoever has the password of a
/// source could let anybody in.
fn asks_others(house: &House, here: &Entry, there: &str) -> bool {
    let asked = house.registry.site(there).and_then(|site| site.settings().listen_auth.clone());
    asked.is_some() && asked != here.handle.settings.listen_auth
}

fn write(document: &mut Document, facts: Facts) {
    for (name, fact) in facts {
        document.leaf(name, fact);
    }
}

/// Everything that is counted; of one mount, or of all.
fn stats(request: &HttpRequest, house: &House, only: Option<&Entry>) -> HttpResponse {
    let mut document = Document::new("icestats");
    write(&mut document, facts::server(house, request));
    let all = only.map_or_else(|| house.registry.all(), |entry| vec![entry.clone()]);
    for entry in all {
        if let Some(facts) = facts::source(&entry.handle, request) {
            document.begin("source", &[("mount", entry.handle.settings.path.as_str())]);
            write(&mut document, facts);
            document.end();
        }
    }
    xml(document)
}

/// What everybody may know.
fn public_stats(request: &HttpRequest, house: &House, form: Form) -> HttpResponse {
    if form == Form::Json {
        return json(StatusCode::OK, &status::document(request, house));
    }
    let mut document = Document::new("icestats");
    write(&mut document, status::public_server(facts::server(house, request)));
    for entry in house.registry.all().iter().filter(|entry| !entry.handle.settings.profile.hidden) {
        if let Some(facts) = facts::source(&entry.handle, request) {
            document.begin("source", &[("mount", entry.handle.settings.path.as_str())]);
            write(&mut document, status::public_source(facts));
            document.end();
        }
    }
    xml(document)
}

/// The mounts that are on air, one a line: for servers that mirror all of them.
fn stream_list(house: &House) -> HttpResponse {
    let shown = house.registry.all().into_iter().filter(|entry| entry.handle.status().up && !entry.handle.settings.profile.hidden);
    let lines: String = shown.map(|entry| format!("{}\r\n", entry.handle.settings.path)).collect();
    answer(StatusCode::OK, "text/plain; charset=utf-8", lines)
}

/// The mounts that are on air, but for one; hidden ones for those who may know of them.
fn mounts(house: &House, but: Option<&Entry>, hidden_too: bool) -> Document {
    let mut document = Document::new("icestats");
    let but = but.map(|entry| entry.handle.settings.path.as_str());
    if let Some(path) = but {
        document.leaf("current_source", path);
    }
    for entry in house.registry.all() {
        let (path, status) = (entry.handle.settings.path.as_str(), entry.handle.status());
        if !status.up || but == Some(path) || (entry.handle.settings.profile.hidden && !hidden_too) {
            continue;
        }
        document.begin("source", &[("mount", path)]);
        document.leaf("fallback", entry.handle.settings.fallback.mount().map_or("", MountPath::as_str));
        document.leaf("listeners", entry.handle.listeners());
        document.leaf("Connected", seconds_since(status.up_since));
        document.leaf("content-type", facts::media_type(&entry.handle));
        document.end();
    }
    document
}

fn seconds_since(moment: Option<SystemTime>) -> u64 {
    moment.and_then(|moment| moment.elapsed().ok()).unwrap_or(Duration::ZERO).as_secs()
}

async fn list_clients(house: &House, entry: &Entry, form: Form) -> HttpResponse {
    let handle = &entry.handle;
    let Some(_turn) = house.lists.turn(true).await else { return error(StatusCode::SERVICE_UNAVAILABLE, shards::BUSY) };
    let listeners = match shards::listeners(house.registry.crew(), handle.broadcast.slot).await {
        Ok(listeners) => listeners,
        Err(silent) => return error(StatusCode::SERVICE_UNAVAILABLE, &silent.to_string()),
    };
    if form == Form::Page {
        return pages::listeners(entry, &listeners);
    }
    let mut document = Document::new("icestats");
    document.begin("source", &[("mount", handle.settings.path.as_str())]);
    document.leaf("Listeners", listeners.len());
    for ListenerView { id, peer, user_agent, user, stayed, lag, .. } in &listeners {
        document.begin("listener", &[]);
        document.leaf("IP", facts::address(*peer));
        document.leaf("UserAgent", if user_agent.is_empty() { "Unknown" } else { &**user_agent });
        document.leaf("Connected", stayed.as_secs());
        document.leaf("ID", id.0);
        document.leaf("lag", lag.bytes);
        if let Some(user) = user {
            document.leaf("username", &**user);
        }
        document.end();
    }
    xml(document)
}

async fn kill_client(house: &House, entry: &Entry, parameters: &Parameters, form: Form) -> HttpResponse {
    let Some(text) = parameters.text("id") else { return bad("Missing parameter") };
    // What is no number is the number 0, which nobody has.
    let digits = text.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let id: u64 = digits.parse().unwrap_or(0);
    match shards::kick(house.registry.crew(), entry.handle.broadcast.slot, ListenerId(id)).await {
        Ok(true) => response(form, &format!("Client {id} removed"), true),
        Ok(false) => response(form, &format!("Client {id} not found"), false),
        Err(silent) => error(StatusCode::SERVICE_UNAVAILABLE, &silent.to_string()),
    }
}

/// Where listeners go from now on while the source is away; a new configuration says it anew.
fn set_fallback(house: &House, entry: &Entry, parameters: &Parameters) -> HttpResponse {
    let Some(text) = parameters.text("fallback") else { return bad("Missing parameter") };
    let Ok(to) = text.parse::<MountPath>() else { return bad("the fallback is no path of a mount") };
    let mount = &entry.handle.settings.path;
    // Icecast takes it, and looks at it when it is too late.
    if house.registry.chain(&to).contains(mount) && to != *mount {
        return bad("the fallback leads back to the mount");
    }
    let mut settings = entry.handle.settings.clone();
    (settings.fallback.to, settings.fallback.ordered) = (Some(Refuge::Mount(to)), true);
    house.registry.settle(settings);
    success("Fallback configured")
}

fn set_metadata(entry: &Entry, parameters: &Parameters, form: Form) -> HttpResponse {
    match parameters.bytes("mode") {
        None => return bad("Missing parameter"),
        Some(b"updinfo") => {}
        Some(_) => return response(form, "No such action", false),
    }
    if let Some(metadata) = metadata::update(parameters, entry.handle.settings.charset) {
        tracing::info!(mount = %entry.handle.settings.path, artist = metadata.artist.as_deref(), title = metadata.title.as_deref(), "metadata");
        entry.handle.set_metadata(metadata);
    }
    response(form, "Metadata update successful", true)
}

async fn move_clients(house: &House, entry: &Entry, parameters: &Parameters, form: Form) -> HttpResponse {
    let Some(destination) = parameters.text("destination") else { return xml(mounts(house, Some(entry), true)) };
    let Some(to) = house.registry.find(&destination) else { return bad("No such destination") };
    let from = &entry.handle.settings.path;
    if *from == to.handle.settings.path {
        return bad("supplied mountpoints are identical");
    }
    if !to.handle.status().up {
        return bad("Destination not running");
    }
    let (here, there) = (facts::media_type(&entry.handle), facts::media_type(&to.handle));
    if here != there {
        return bad(&format!("a player of {here} cannot go on with {there}"));
    }
    let moved = match move_listeners(house.registry.crew(), &entry.handle, &to.handle, &Movers::All).await {
        Ok(moved) => moved,
        Err(silent) => return error(StatusCode::SERVICE_UNAVAILABLE, &silent.to_string()),
    };
    tracing::info!(mount = %from, destination, moved = moved.moved, stayed = moved.stayed, "moveclients");
    let mut message = format!("Clients moved from {from} to {destination}");
    if moved.stayed > 0 {
        message.push_str(&format!(", but for {} for whom it has no place", moved.stayed));
    }
    response(form, &message, true)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
