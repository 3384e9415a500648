//! Beside icecast2 itself: the same questions to both, and the answers compared; and its configuration taken over.
//!
//! The comparison needs the package icecast2 (`make test` installs it); where it is missing the test says so and compares nothing.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::icecast::{Icecast, PASSWORD, installed};
use support::{Response, Server, until};

const SECOND: Duration = Duration::from_secs(1);
/// `admin:only-on-loopback`.
const ADMIN: &str = "Authorization: Basic YWRtaW46b25seS1vbi1sb29wYmFjaw==\r\n";
/// `relay:only-on-loopback`.
const RELAY: &str = "Authorization: Basic cmVsYXk6b25seS1vbi1sb29wYmFjaw==\r\n";
/// `admin:wrong`.
const WRONG: &str = "Authorization: Basic YWRtaW46d3Jvbmc=\r\n";
const AGENT: &str = "User-Agent: beside & <b>\r\n";

/// icecast2 with two mounts on air.
fn icecast() -> Icecast {
    let mut icecast = Icecast::start("");
    ["/a.mp3", "/b.mp3"].iter().for_each(|path| icecast.encode(path));
    let on_air = || ask(icecast.port, "GET", "/status-json.xsl", "").body_text().matches("listenurl").count() == 2;
    assert!(until(SECOND * 15, on_air), "its sources do not come up");
    icecast
}

fn flumen() -> Server {
    let mut mounts = format!("[admin]\npassword = \"{PASSWORD}\"\n[relay]\npassword = \"{PASSWORD}\"\n");
    for path in ["/a.mp3", "/b.mp3"] {
        mounts.push_str(&support::MP3.replace("/radio.mp3", path));
        mounts.push_str("name = \"Name & <b>\"\ngenre = \"Talk\"\ndescription = \"All day\"\nurl = \"https://example.org/\"\n");
    }
    mounts.push_str("[[mount]]\npath = \"/silent.mp3\"\n");
    Server::start(&mounts)
}

/// Asks a server, as HTTP/1.0 does.
fn ask(port: u16, method: &str, path: &str, fields: &str) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(SECOND * 10)).expect("set");
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    Response::parse(&answer).unwrap_or_else(|| panic!("no HTTP: {:?}", String::from_utf8_lossy(&answer)))
}

/// A body without what is different each time: the server's port, and what these elements hold.
fn masked(response: &Response, port: u16, elements: &[&str]) -> String {
    let mut text = response.body_text().replace(&format!(":{port}"), ":PORT");
    for name in elements {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let mut rest = text.as_str();
        let mut masked = String::new();
        while let Some((before, behind)) = rest.split_once(&open) {
            masked.push_str(before);
            masked.push_str(&format!("{open}…{close}"));
            rest = behind.split_once(&close).map_or("", |(_, behind)| behind);
        }
        masked.push_str(rest);
        text = masked;
    }
    text
}

/// Both answers: status, media type, body.
fn compared(theirs: &Response, ours: &Response, ports: [u16; 2], elements: &[&str], about: &str) {
    let kind = |response: &Response| response.header("content-type").unwrap_or_default().to_ascii_lowercase();
    assert_eq!((ours.status, kind(ours)), (theirs.status, kind(theirs)), "{about}\n{}\n{}", ours.body_text(), theirs.body_text());
    assert_eq!(masked(ours, ports[1], elements), masked(theirs, ports[0], elements), "{about}");
}

/// The numbers of the listeners that a list has.
fn numbers(list: &str) -> Vec<u64> {
    list.split("<ID>").skip(1).filter_map(|rest| rest.split('<').next()?.parse().ok()).collect()
}

/// The names of the elements in a part of a document, in order, each once.
fn names(text: &str) -> Vec<&str> {
    let mut names: Vec<_> =
        text.split('<').skip(1).filter(|tag| !tag.starts_with(['/', '?'])).filter_map(|tag| tag.split(['>', ' ', '/']).next()).collect();
    names.dedup();
    names
}

#[test]
fn panels_are_answered_as_icecast_answers_them() {
    if !installed() {
        eprintln!("icecast2 is not installed: nothing is compared");
        return;
    }
    let (icecast, server) = (icecast(), flumen());
    let ports = [icecast.port, server.port];
    let both = |method: &str, path: &str, fields: &str| ports.map(|port| ask(port, method, path, fields));

    for path in [
        "nosuch",
        "nosuch?mount=/a.mp3",
        "listclients",
        "killsource",
        "listclients?mount=/no.mp3",
        "metadata?mount=/no.mp3&mode=updinfo&song=x",
        "listmounts?mount=/a.mp3",
        "streamlist.txt?mount=/a.mp3",
        "metadata?mount=/a.mp3",
        "metadata?mount=/a.mp3&mode=other&song=x",
        "metadata?mount=/a.mp3&mode=updinfo",
        "metadata?mount=/a.mp3&mode=updinfo&song=Hello%20%26+%3Cb%3E",
        "metadata?mount=/a.mp3&mode=updinfo&artist=A&title=B",
        "killclient?mount=/a.mp3",
        "killclient?mount=/a.mp3&id=999999",
        "killclient?mount=/a.mp3&id=x",
        "fallbacks?mount=/a.mp3",
        "manageauth?mount=/a.mp3",
        "updatemetadata?mount=/a.mp3",
        "moveclients?mount=/a.mp3&destination=/no.mp3",
        "moveclients?mount=/a.mp3&destination=/a.mp3",
        "moveclients?mount=/a.mp3",
        "moveclients?mount=/a.mp3&destination=/b.mp3",
        "fallbacks?mount=/a.mp3&fallback=/b.mp3",
        "listmounts",
        "listclients?mount=/a.mp3",
    ] {
        let [theirs, ours] = both("GET", &format!("/admin/{path}"), ADMIN);
        compared(&theirs, &ours, ports, &["Connected"], path);
    }
    for path in ["/admin.cgi", "/admin.cgi?mode=updinfo&song=x"] {
        let [theirs, ours] = both("GET", path, "");
        compared(&theirs, &ours, ports, &[], path);
    }
    for fields in ["", WRONG] {
        for path in ["/admin/stats", "/admin/listclients?mount=/a.mp3", "/admin/listclients?mount=/no.mp3"] {
            // Whoever asks by HTTP/1.0 has no rights here, as from any other machine.
            let [theirs, ours] = both("GET", path, fields);
            assert_eq!((ours.status, theirs.status), (401, 401), "{path} {fields}");
            assert!(ours.header("www-authenticate").is_some_and(|realm| realm.starts_with("Basic realm=")), "{}", ours.head);
        }
    }
    let [theirs, ours] = both("GET", "/admin/streamlist.txt", ADMIN);
    assert_eq!((ours.status, ours.body_text().as_str()), (200, "/a.mp3\r\n/b.mp3\r\n"));
    assert!(theirs.status == 401 || ours.header("content-type") == theirs.header("content-type"), "a relay's password is asked for there");
    let [theirs, ours] = both("GET", "/admin/streamlist.txt", RELAY);
    compared(&theirs, &ours, ports, &[], "a relay's list");
    for path in ["stats", "listmounts", "listclients?mount=/a.mp3"] {
        let [theirs, ours] = both("GET", &format!("/admin/{path}"), RELAY);
        assert_eq!((theirs.status, ours.status), (401, 403), "{path}: a relay may no more than that");
    }
}

#[test]
fn listeners_are_listed_and_moved_and_removed_as_by_icecast() {
    if !installed() {
        eprintln!("icecast2 is not installed: nothing is compared");
        return;
    }
    let (icecast, server) = (icecast(), flumen());
    let ports = [icecast.port, server.port];
    let listeners = ports.map(|port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        write!(stream, "GET /a.mp3 HTTP/1.0\r\nHost: 127.0.0.1\r\n{AGENT}\r\n").expect("sent");
        stream.read_exact(&mut [0; 4096]).expect("a stream");
        stream
    });
    let list = |port, mount: &str| ask(port, "GET", &format!("/admin/listclients?mount={mount}"), ADMIN);
    let [theirs, mut ours] = ports.map(|port| list(port, "/a.mp3"));
    let (body, lag) = (ours.body_text(), ours.body_text().find("<lag>").expect("ours alone says the lag"));
    let end = body.find("</lag>").expect("its end") + "</lag>".len();
    ours.body = format!("{}{}", &body[..lag], &body[end..]).into_bytes();
    compared(&theirs, &ours, ports, &["Connected", "ID"], "listclients");
    assert!(body.contains("<UserAgent>beside &amp; &lt;b&gt;</UserAgent>"), "{body}");

    let [theirs, ours] = ports.map(|port| ask(port, "GET", "/admin/moveclients?mount=/a.mp3&destination=/b.mp3", ADMIN));
    compared(&theirs, &ours, ports, &[], "moveclients");
    for port in ports {
        assert!(until(SECOND * 5, || numbers(&list(port, "/b.mp3").body_text()).len() == 1), "it is there now");
        assert_eq!(numbers(&list(port, "/a.mp3").body_text()), Vec::<u64>::new());
        let id = numbers(&list(port, "/b.mp3").body_text())[0];
        let killed = ask(port, "GET", &format!("/admin/killclient?mount=/b.mp3&id={id}"), ADMIN);
        let want = format!("<iceresponse><message>Client {id} removed</message><return>1</return></iceresponse>");
        assert!(killed.body_text().contains(&want), "{}", killed.body_text());
        assert!(until(SECOND * 5, || numbers(&list(port, "/b.mp3").body_text()).is_empty()), "it is gone");
    }
    drop(listeners);
    let [theirs, ours] = ports.map(|port| ask(port, "GET", "/admin/killsource?mount=/b.mp3", ADMIN));
    compared(&theirs, &ours, ports, &[], "killsource");
    assert!(until(SECOND * 10, || server.metric("flumen_source_restarts_total", &["/b.mp3"]) >= 1.0), "a pipeline is started anew");
    assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["/b.mp3"]) == 1.0));
}

#[test]
fn statistics_have_icecasts_names_in_icecasts_order() {
    if !installed() {
        eprintln!("icecast2 is not installed: nothing is compared");
        return;
    }
    let (icecast, server) = (icecast(), flumen());
    let ports = [icecast.port, server.port];
    for port in ports {
        ask(port, "GET", "/admin/metadata?mount=/a.mp3&mode=updinfo&song=Gr%FC%DFe+%26+%3Cb%3E&charset=ISO-8859-1", ADMIN);
    }
    let titled = |port| ask(port, "GET", "/status-json.xsl", "").body_text().contains("Grüße & <b>");
    assert!(
        ports.into_iter().all(|port| until(SECOND * 10, || titled(port))),
        "Icecast tells a title when the next bytes of its source come"
    );
    // What an encoder says of itself and its stream, and a pipeline does not.
    let of_encoders: BTreeSet<_> =
        ["audio_info", "ice-bitrate", "ice-channels", "ice-samplerate", "channels", "samplerate", "source_ip", "user_agent"].into();
    let [theirs, ours] = ports.map(|port| ask(port, "GET", "/admin/stats", ADMIN).body_text());
    let part = |text: &str| text.split("</source>").next().unwrap_or_default().to_owned();
    let (theirs, ours) = (part(&theirs), part(&ours));
    let (theirs, ours) = (names(&theirs), names(&ours));
    let common: Vec<_> = theirs.iter().copied().filter(|name| !of_encoders.contains(name)).collect();
    assert_eq!(
        ours.iter().copied().filter(|name| *name != "bitrate").collect::<Vec<_>>(),
        common.iter().copied().filter(|name| *name != "bitrate").collect::<Vec<_>>()
    );

    let document = |port| serde_json::from_slice::<serde_json::Value>(&ask(port, "GET", "/status-json.xsl", "").body).expect("JSON");
    let [theirs, ours] = ports.map(document);
    let keys =
        |value: &serde_json::Value| value.as_object().map(|object| object.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let (theirs, ours) = (&theirs["icestats"], &ours["icestats"]);
    assert_eq!(keys(ours), keys(theirs));
    let (theirs, ours) = (&theirs["source"][0], &ours["source"][0]);
    for key in ["genre", "listeners", "server_description", "server_name", "server_type", "server_url", "title"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    let missing: Vec<_> = keys(theirs).difference(&keys(ours)).filter(|key| !of_encoders.contains(key.as_str())).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn an_icecast_configuration_becomes_one_that_check_accepts() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/icecast");
    for (name, notes) in [("debian.xml", "<fileserve>"), ("panel.xml", "<surprise>")] {
        let run = |arguments: &[&std::ffi::OsStr]| Command::new(env!("CARGO_BIN_EXE_flumen")).args(arguments).output().expect("flumen");
        let imported = run(&["import-icecast".as_ref(), data.join(name).as_ref()]);
        assert_eq!(imported.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&imported.stderr).contains(notes), "what was left out is on stderr");
        let file = std::env::temp_dir().join(format!("flumen-imported-{}-{name}.toml", std::process::id()));
        fs::write(&file, &imported.stdout).expect("written");
        let checked = run(&["check".as_ref(), "-c".as_ref(), file.as_ref()]);
        fs::remove_file(file).expect("removed");
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_flumen")).args(["import-icecast", "/no/such.xml"]).output().expect("flumen");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
}
