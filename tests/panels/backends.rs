//! Backends that are asked, and behave or do not. What one is told is compared with what icecast2 itself tells it, where that is installed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::support::{MP3, Server, Stream, body_of_request, free_port, until};
use super::{ANNA, SECOND, SOURCE, WRONG, get, listen, publish, server, status};

/// What a panel is told, field by field.
type Fields = BTreeMap<String, String>;

/// A panel: what it is told, and what it answers.
struct Panel {
    port: u16,
    heard: Arc<Mutex<Vec<Fields>>>,
}

impl Panel {
    /// `answer` gives the whole answer to the fields that it is told.
    fn start(answer: impl Fn(&Fields) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let (told, answer) = (Arc::clone(&heard), Arc::new(answer));
        std::thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                let (told, answer) = (Arc::clone(&told), Arc::clone(&answer));
                std::thread::spawn(move || Self::serve(peer, &told, &*answer));
            }
        });
        Self { port, heard }
    }

    fn serve(mut peer: TcpStream, told: &Mutex<Vec<Fields>>, answer: &dyn Fn(&Fields) -> String) {
        while let Some(body) = body_of_request(&mut peer) {
            let fields = fields(&body);
            let text = answer(&fields);
            told.lock().expect("no panic").push(fields);
            if peer.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/panel?key=1", self.port)
    }

    /// What it was told with this action.
    fn told(&self, action: &str) -> Vec<Fields> {
        let heard = self.heard.lock().expect("no panic");
        heard.iter().filter(|fields| fields["action"] == action).cloned().collect()
    }
}

fn fields(form: &str) -> Fields {
    let decoded = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    form.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

const YES: &str = "HTTP/1.1 200 OK\r\nicecast-auth-user: 1\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 200 OK\r\nicecast-auth-message: your account is empty\r\nContent-Length: 0\r\n\r\n";

fn by_password(fields: &Fields) -> String {
    match (fields["action"].as_str(), fields.get("pass").map(String::as_str)) {
        ("listener_add", Some("right")) => YES.replace("Content", "icecast-auth-timelimit: 3600\r\nContent"),
        ("listener_add", Some("brief")) => YES.replace("Content", "icecast-auth-timelimit: 1\r\nContent"),
        ("listener_add", _) => NO.to_owned(),
        _ => YES.to_owned(),
    }
}

#[test]
fn a_panel_decides_who_may_listen_and_always_hears_who_has_left() {
    let panel = Panel::start(by_password);
    let mut server = server(&format!("listen_auth = {{ url = \"{}\" }}", panel.url()));
    let refused = get(&server, "GET", "/radio.mp3", WRONG);
    assert_eq!((refused.status, refused.body_text().trim()), (401, "your account is empty"));
    let mut anna = listen(&server, "/radio.mp3?x=1", ANNA);
    anna.read(1000);
    let id = panel.told("listener_add")[1]["client"].clone();
    let listed = server.get("/api/v1/mounts/radio.mp3/listeners").body_text();
    assert!(listed.contains(&format!("\"id\":{id},")) && listed.contains("\"user\":\"anna\""), "{listed}");
    std::thread::sleep(SECOND * 2);
    drop(anna);
    assert!(until(SECOND * 10, || panel.told("listener_remove").len() == 1));
    let gone = &panel.told("listener_remove")[0];
    let (client, mount, user) = (&gone["client"], &gone["mount"], &gone["user"]);
    assert_eq!((client, mount.as_str(), user.as_str()), (&id, "/radio.mp3?x=1", "anna"));
    assert!(gone["duration"].parse::<u64>().is_ok_and(|seconds| (1..20).contains(&seconds)), "{gone:?}");
    // A limit of the panel's ends a session.
    let mut brief = listen(&server, "/radio.mp3", "Authorization: Basic YW5uYTpicmllZg==\r\n"); // anna:brief
    assert!(brief.head.status == 200 && brief.ends_within(SECOND * 15));
    assert!(until(SECOND * 5, || server.metric("flumen_listener_departures_total", &["session_limit"]) == 1.0));
    // Whoever is there when the server stops is counted out as well, and so is who was there for a head only.
    assert_eq!(get(&server, "HEAD", "/radio.mp3", ANNA).status, 200);
    let many: Vec<_> = (0..20).map(|_| listen(&server, "/radio.mp3", ANNA)).collect();
    assert!(many.iter().all(|one| one.head.status == 200));
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 30), Some(0), "{}", server.log());
    let admitted = panel.told("listener_add").iter().filter(|fields| fields["pass"] != "wrong").count();
    assert_eq!((admitted, panel.told("listener_remove").len()), (23, 23), "{}", server.log());
}

#[test]
fn a_panel_that_does_not_answer_keeps_nobody_waiting_for_long() {
    let answers =
        ["slow", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /panel\r\nContent-Length: 0\r\n\r\n"];
    for answer in answers {
        let panel = Panel::start(move |fields| match (answer, fields["action"].as_str()) {
            ("slow", "listener_add") => {
                std::thread::sleep(SECOND * 3);
                YES.to_owned()
            }
            ("slow", _) => YES.to_owned(),
            _ => answer.to_owned(),
        });
        let mount = |path: &str, on_error: &str| {
            let rule = format!("listen_auth = {{ url = \"{}\", timeout = \"1s\", on_error = \"{on_error}\" }}\n", panel.url());
            MP3.replace("/radio.mp3", path) + &rule
        };
        let server = Server::start(&format!("{}{}{}", mount("/closed.mp3", "deny"), mount("/open.mp3", "allow"), MP3));
        let start = Instant::now();
        let closed = get(&server, "GET", "/closed.mp3", ANNA);
        assert!(closed.status == 503 && closed.header("retry-after").is_some(), "{answer}: {}", closed.head);
        assert_eq!(status(&server, "/open.mp3", ANNA), 200, "{answer}");
        assert!(start.elapsed() < SECOND * 8, "{answer}: {:?}", start.elapsed());
        // Others do not wait for it.
        let (waiting, start) = (listen_later(&server, "/closed.mp3"), Instant::now());
        assert_eq!(status(&server, "/radio.mp3", ""), 200);
        assert!(start.elapsed() < SECOND, "{answer}");
        drop(waiting);
    }
    // Nobody there at all: after a few tries it is given a rest, which is said once.
    let server = server(&format!("listen_auth = {{ url = \"http://127.0.0.1:{}/\" }}", free_port()));
    for _ in 0..10 {
        assert_eq!(status(&server, "/radio.mp3", ""), 503);
    }
    assert!(until(SECOND * 5, || server.log().matches("authentication backend does not answer").count() == 1), "{}", server.log());
    assert!(server.metric("flumen_auth_requests_total", &["spared"]) >= 4.0);
}

/// Asks, and does not wait for the answer.
fn listen_later(server: &Server, path: &str) -> Vec<TcpStream> {
    let ask = |_| {
        let mut stream = server.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        stream
    };
    (0..50).map(ask).collect()
}

/// icecast2 with one mount that asks this panel.
struct Icecast {
    child: Child,
    dir: std::path::PathBuf,
    port: u16,
}

impl Drop for Icecast {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Icecast {
    fn start(panel: &Panel) -> Self {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("flumen-panels-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("set");
        let root = fs::metadata("/proc/self").is_ok_and(|itself| std::os::unix::fs::MetadataExt::uid(&itself) == 0);
        let owner = if root { "<changeowner><user>icecast2</user><group>icecast</group></changeowner>" } else { "" };
        let options: String = ["listener_add", "listener_remove", "mount_add", "mount_remove", "stream_auth"]
            .iter()
            .map(|name| format!("<option name=\"{name}\" value=\"{}\"/>", panel.url()))
            .collect();
        let headers = "<option name=\"headers\" value=\"x-token,x-none\"/><option name=\"header_prefix\" value=\"ClientHeader.\"/>";
        let text = format!(
            "<icecast><hostname>radio.example</hostname><limits><clients>100</clients><sources>5</sources></limits>\
             <authentication><source-password>only-on-loopback</source-password><admin-user>admin</admin-user>\
             <admin-password>only-on-loopback</admin-password></authentication>\
             <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\
             <mount><mount-name>/live.mp3</mount-name><authentication type=\"url\">{options}{headers}</authentication></mount>\
             <paths><basedir>/usr/share/icecast2</basedir><logdir>{}</logdir><webroot>/usr/share/icecast2/web</webroot>\
             <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
             <logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>2</loglevel></logging><security>{owner}</security></icecast>",
            dir.display()
        );
        let config = dir.join("icecast.xml");
        fs::write(&config, text).expect("written");
        let mut command = Command::new("/usr/bin/icecast2");
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let icecast = Self { child: command.spawn().expect("icecast2"), dir, port };
        assert!(until(SECOND * 10, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "icecast2 does not listen");
        icecast
    }
}

/// One encoder that may not publish and one that may, one listener that may not listen and one that does and leaves; what the panel was
/// told of it.
fn a_visit(port: u16, panel: &Panel) -> BTreeMap<&'static str, Fields> {
    assert_eq!(publish(port, ANNA).head.status, 401, "the panel does not know this encoder");
    let encoder = publish(port, SOURCE);
    assert_eq!(encoder.head.status, 200);
    assert!(until(SECOND * 10, || panel.told("mount_add").len() == 1));
    let listen = |login: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_read_timeout(Some(SECOND * 10)).expect("set");
        write!(stream, "GET /live.mp3?a=b&c=%20d HTTP/1.0\r\nUser-Agent: VLC & <co>/3\r\nX-Token: a b&c\r\n{login}\r\n").expect("sent");
        Stream::open(stream)
    };
    assert_eq!(listen(WRONG).head.status, 401);
    let listener = listen(ANNA);
    assert_eq!(listener.head.status, 200);
    drop(listener);
    // Some servers see that a listener has left when they send to it.
    assert!(until(SECOND * 15, || {
        let _ = (&encoder.socket).write_all(&[0; 1000]);
        panel.told("listener_remove").len() == 1
    }));
    drop(encoder);
    assert!(until(SECOND * 15, || panel.told("mount_remove").len() == 1));
    ["stream_auth", "mount_add", "listener_add", "listener_remove", "mount_remove"]
        .into_iter()
        .map(|action| (action, panel.told(action).pop().expect(action)))
        .collect()
}

#[test]
fn a_panel_is_told_what_icecast_tells_it() {
    let start = || {
        Panel::start(|fields| match fields["action"].as_str() {
            "stream_auth" if fields["pass"] != "s3cret" => NO.to_owned(),
            _ => by_password(fields),
        })
    };
    let ours = start();
    let url = ours.url();
    let server = Server::start(&format!(
        "[admin]\nhostname = \"radio.example\"\n[[mount]]\npath = \"/live.mp3\"\nlisten_auth = {{ url = \"{url}\", \
         headers = [\"x-token\", \"x-none\"], header_prefix = \"ClientHeader.\" }}\n\
         stream_auth = {{ url = \"{url}\" }}\nmount_add = \"{url}\"\nmount_remove = \"{url}\"\non_source_end = \"close\"\n"
    ));
    let told = a_visit(server.port, &ours);
    for (action, names) in [
        ("stream_auth", "action ip mount pass port server user"),
        ("mount_add", "action mount port server"),
        ("listener_add", "ClientHeader.x-token action agent client ip mount pass port server user"),
        ("listener_remove", "action agent client duration ip mount pass port server user"),
        ("mount_remove", "action mount port server"),
    ] {
        let found: Vec<_> = told[action].keys().map(String::as_str).collect();
        assert_eq!(found.join(" "), names);
    }
    if !Path::new("/usr/bin/icecast2").is_file() {
        eprintln!("icecast2 is not installed: nothing is compared");
        return;
    }
    let theirs = start();
    let icecast = Icecast::start(&theirs);
    let wanted = a_visit(icecast.port, &theirs);
    // What is different each time: numbers, ports, and how long it took.
    let masked = |mut fields: Fields, port: u16| {
        for name in ["client", "duration"] {
            fields
                .entry(name.to_owned())
                .and_modify(|value| *value = if value.parse::<u64>().is_ok() { "N".to_owned() } else { format!("{value}?") });
        }
        fields
            .entry("port".to_owned())
            .and_modify(|value| *value = if *value == port.to_string() { "PORT".to_owned() } else { format!("{value}?") });
        fields
    };
    for (action, fields) in wanted {
        let (want, found) = (masked(fields, icecast.port), masked(told[action].clone(), server.port));
        for (name, value) in &want {
            assert_eq!(found.get(name), Some(value), "{action}: {name}; icecast2 tells {want:?}, flumen {found:?}");
        }
    }
}
