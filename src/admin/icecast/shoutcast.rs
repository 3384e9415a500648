//! What SHOUTcast's encoders and widgets ask for.
//!
//! Its servers know streams by number: `sid` counts the mounts that are not hidden, from 1, in the order of their paths;
//! `?mount=/path` names one. Without either it is the first that is on air.

use std::fmt::Write;

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::super::admission;
use super::super::answers::{answer, json, readable};
use super::super::{House, SERVER};
use super::command::{error, not_by, refuse_order, success};
use super::facts::{self, Fact, Facts};
use super::metadata;
use super::pages::escaped;
use super::query::Parameters;
use super::status::Object;
use crate::access::Secret;
use crate::fanout::stats::read;
use crate::mount::registry::Entry;
use crate::units::MountPath;

/// Where Icecast expects a SHOUTcast encoder that names no mount.
const USUAL_MOUNT: &str = "/stream";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/admin.cgi")
                .route(web::get().to(update))
                .route(web::post().to(update))
                .default_service(web::to(|| async { not_by("GET, POST", "This can be asked with GET or POST.") })),
        )
        .service(readable("/7.html", seven))
        .service(readable("/currentsong", current_song))
        .service(readable("/stats", stats));
}

/// `/admin.cgi?pass=…&mode=updinfo&song=…`; the mount by `mount`, by `pass=/mount:password`, or the usual one.
async fn update(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let bad = |why| error(StatusCode::BAD_REQUEST, why);
    let parameters = Parameters::of(request.query_string());
    let Some(pass) = parameters.text("pass") else { return bad("missing pass parameter") };
    let settings = house.settings();
    let within = pass.split_once(':').filter(|(mount, _)| mount.starts_with('/'));
    let (mount, password) = match (parameters.text("mount"), within) {
        (Some(mount), _) => (mount, pass.as_str()),
        (None, Some((mount, password))) => (mount.to_owned(), password),
        (None, None) => {
            let usual = settings.shoutcast_mount.as_ref().map_or(USUAL_MOUNT, MountPath::as_str);
            (usual.to_owned(), pass.as_str())
        }
    };
    let entry = house.registry.find(&mount);
    let source = entry.as_ref().and_then(metadata::source_of).map(|(_, password)| password);
    let accepted: Vec<_> = source.into_iter().chain(settings.password.as_ref()).collect();
    if let Err(denied) = admission::check_nameless(&request, &house, &Secret::new(password), &accepted).await {
        return admission::refusal(denied);
    }
    let Some(entry) = entry else { return bad("Source does not exist") };
    if !entry.handle.status().up {
        return bad("Source is not available");
    }
    let (Some(mode), Some(_)) = (parameters.bytes("mode"), parameters.bytes("song")) else { return bad("Missing parameter") };
    if mode != b"updinfo" {
        return bad("No such action");
    }
    if let Some(refusal) = refuse_order(&request) {
        return refusal;
    }
    if let Some(metadata) = metadata::update(&parameters, entry.handle.settings.charset) {
        tracing::info!(
            mount,
            by = admission::asker(&request),
            connection = admission::connection(&request),
            title = metadata.title.as_deref(),
            "metadata"
        );
        entry.handle.set_metadata(metadata);
    }
    success("Metadata update successful")
}

/// The stream that is asked about.
fn stream(request: &HttpRequest, house: &House) -> Option<(usize, Entry)> {
    let parameters = Parameters::of(request.query_string());
    let shown = house.registry.all().into_iter().filter(|entry| !entry.handle.settings.profile.hidden);
    let mut shown = shown.enumerate().map(|(i, entry)| (i + 1, entry));
    match (parameters.text("mount"), parameters.text("sid")) {
        (Some(mount), _) => shown.find(|(_, entry)| entry.handle.settings.path.as_str() == mount),
        (None, Some(sid)) => shown.find(|(number, _)| sid.parse() == Ok(*number)),
        (None, None) => shown.find(|(_, entry)| entry.handle.status().up),
    }
}

fn no_stream() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "There is no such stream")
}

/// What is told of a stream, by SHOUTcast's names and in its order.
fn told(entry: &Entry, house: &House) -> Facts {
    let (handle, profile) = (&entry.handle, &entry.handle.profile());
    let (status, listeners) = (handle.status(), handle.listeners());
    let text = |text: &Option<String>| Fact::Text(text.clone().unwrap_or_default());
    let up_since = status.up_since.filter(|_| status.up);
    let uptime = up_since.and_then(|since| since.elapsed().ok()).unwrap_or_default().as_secs();
    vec![
        ("currentlisteners", listeners.into()),
        ("peaklisteners", handle.places.peak().max(listeners).into()),
        ("maxlisteners", handle.settings.max_listeners.unwrap_or_else(|| house.registry.places().most()).into()),
        ("uniquelisteners", listeners.into()),
        ("servergenre", text(&profile.genre)),
        ("serverurl", text(&profile.url)),
        ("servertitle", text(&profile.name)),
        ("songtitle", facts::song(handle).into()),
        ("streamhits", read(&handle.broadcast.counters.joins).into()),
        ("streamstatus", u64::from(status.up).into()),
        ("streamlisted", u64::from(profile.public).into()),
        ("streampath", handle.settings.path.as_str().into()),
        ("streamuptime", uptime.into()),
        ("bitrate", facts::bitrate(handle).unwrap_or(0).into()),
        ("content", facts::media_type(handle).into()),
        ("version", SERVER.into()),
    ]
}

/// `listeners,status,peak,max,unique,kbit/s,title`, as SHOUTcast 1 has it.
async fn seven(request: HttpRequest, house: Data<House>) -> HttpResponse {
    const ORDER: [&str; 7] =
        ["currentlisteners", "streamstatus", "peaklisteners", "maxlisteners", "uniquelisteners", "bitrate", "songtitle"];
    let Some((_, entry)) = stream(&request, &house) else { return no_stream() };
    let told = told(&entry, &house);
    let one = |name| told.iter().find(|(known, _)| *known == name).map(|(_, fact)| escaped(&fact.to_string()));
    let values: Vec<_> = ORDER.into_iter().filter_map(one).collect();
    let body = format!("<HTML><meta http-equiv=\"Pragma\" content=\"no-cache\"></head><body>{}</body></html>", values.join(","));
    answer(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// The title, and nothing else.
async fn current_song(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let Some((_, entry)) = stream(&request, &house) else { return no_stream() };
    answer(StatusCode::OK, "text/plain; charset=utf-8", facts::song(&entry.handle))
}

/// SHOUTcast 2's document, in XML, or with `json=1` in JSON.
async fn stats(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let Some((number, entry)) = stream(&request, &house) else { return no_stream() };
    let mut told = told(&entry, &house);
    if Parameters::of(request.query_string()).bytes("json") == Some(b"1") {
        told.insert(0, ("streamid", (number as u64).into()));
        return json(StatusCode::OK, &Object::of(told));
    }
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\" ?><SHOUTCASTSERVER>");
    for (name, fact) in told {
        let name = name.to_ascii_uppercase();
        // Writing to a String does not fail.
        let _ = write!(body, "<{name}>{}</{name}>", escaped(&fact.to_string()));
    }
    body.push_str("</SHOUTCASTSERVER>");
    answer(StatusCode::OK, "text/xml; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use crate::access::Password;
    use crate::admin::Settings;
    use crate::admin::testing::Town;

    #[test]
    fn a_widget_is_told_of_the_stream_it_asks_for() {
        let town = Town::with(&["/a.mp3", "/b.mp3", "/hidden.mp3"]);
        for path in ["/7.html", "/currentsong", "/stats"] {
            assert_eq!(town.get(path).0, 404, "{path}: nothing is on air");
        }
        town.on_air("/b.mp3", "audio/mpeg");
        let _ends = town.listen("/b.mp3", 2);
        town.registry().find("/b.mp3").expect("a mount").handle.set_metadata(crate::mount::Metadata::new(Some("A&B"), Some("<C>"), None));
        for query in ["", "?sid=2", "?mount=/b.mp3"] {
            assert_eq!(town.get(&format!("/currentsong{query}")), (200, "A&B - <C>".into()), "{query}");
        }
        let body = town.get("/7.html?sid=2").1;
        assert!(body.contains("<body>2,1,2,10000,2,80,A&#38;B - &#60;C&#62;</body>"), "{body}");
        assert!(town.get("/7.html?sid=1").1.contains("<body>0,0,0,10000,0,0,</body>"));
        let body = town.get("/stats?sid=2").1;
        for part in ["<CURRENTLISTENERS>2</", "<SONGTITLE>A&#38;B - &#60;C&#62;</", "<STREAMPATH>/b.mp3</", "<CONTENT>audio/mpeg</"] {
            assert!(body.contains(part), "{body}");
        }
        assert!(town.get("/stats?sid=2&json=1").1.starts_with("{\"streamid\":2,\"currentlisteners\":2,"));
        assert_eq!(town.get("/stats?sid=3").0, 404, "hidden mounts are not counted");
    }

    #[test]
    fn an_encoder_with_the_password_sets_the_title() {
        let admin = Settings { password: Some(Password::plain("s3cret").expect("a password")), ..Settings::default() };
        let town = Town::of(admin, &["/stream", "/b.mp3"]);
        town.on_air("/stream", "audio/mpeg");
        for (query, status, part) in [
            ("mode=updinfo&song=X", 400, "400 - missing pass parameter"),
            ("pass=wrong&mode=updinfo&song=X", 401, "wrong"),
            ("pass=s3cret&mode=updinfo", 400, "400 - Missing parameter"),
            ("pass=s3cret&mode=other&song=X", 400, "400 - No such action"),
            ("pass=s3cret&mode=updinfo&song=X&mount=/b.mp3", 400, "400 - Source is not available"),
            ("pass=s3cret&mode=updinfo&song=X&mount=/c.mp3", 400, "400 - Source does not exist"),
            ("pass=s3cret&mode=updinfo&song=Gr%FC%DFe", 200, "<p>Metadata update successful</p>"),
        ] {
            let (found, body) = town.get(&format!("/admin.cgi?{query}"));
            assert!(found == status && body.contains(part), "{query}: {found} {body}");
        }
        let title = || town.registry().find("/stream").expect("a mount").handle.metadata().title.clone();
        assert_eq!(title().as_deref(), Some("Grüße"));
        assert_eq!(town.get("/admin.cgi?pass=/stream:s3cret&mode=updinfo&song=Y").0, 200);
        assert_eq!(title().as_deref(), Some("Y"));
    }
}
