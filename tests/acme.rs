//! Certificates from an authority: Pebble, the test server of those who run Let's Encrypt, gives one for a name it has looked up and asked.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{MP3, Server, free_port, until};

/// Ends its child when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Ended {
    Ended(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
}

/// An authority which looks every name up as this machine, and asks for proofs at this port.
struct Authority {
    folder: PathBuf,
    port: u16,
    _parts: [Ended; 2],
}

impl Authority {
    fn new(http_port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("flumen-authority-{}-{http_port}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (port, dns, others) = (free_port(), free_port(), [free_port(), free_port()]);
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        fs::write(folder.join("own.crt"), own.cert.pem()).expect("written");
        fs::write(folder.join("own.key"), own.signing_key.serialize_pem()).expect("written");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{}", others[0]),
            "certificate": folder.join("own.crt"),
            "privateKey": folder.join("own.key"),
            "httpPort": http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(folder.join("pebble.json"), config.to_string()).expect("written");
        let names = spawn(Command::new("pebble-challtestsrv").args([
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &format!("127.0.0.1:{}", others[1]),
        ]));
        let pebble = spawn(
            Command::new("pebble")
                .args(["-dnsserver", &format!("127.0.0.1:{dns}"), "-config"])
                .arg(folder.join("pebble.json"))
                .env("PEBBLE_VA_NOSLEEP", "1"),
        );
        let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(until(Duration::from_secs(20), up), "the authority does not answer");
        Self { folder, port, _parts: [names, pebble] }
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn section(tls_port: u16, directory: &str, ca: &Path) -> String {
    format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{tls_port}\"]\n[server.tls.acme]\ndomains = [\"radio.example\", \"www.radio.example\"]\n\
         folder = \"certificates\"\ncontact = \"me@radio.example\"\nagree = true\ndirectory = \"{directory}\"\nca = \"{}\"\n",
        ca.display()
    )
}

/// Who signed the certificate that is shown, and for which names.
fn shown(tls_port: u16) -> String {
    let look = format!(
        "openssl s_client -connect 127.0.0.1:{tls_port} -servername radio.example </dev/null 2>/dev/null \
         | openssl x509 -noout -issuer -ext subjectAltName"
    );
    let out = Command::new("sh").args(["-c", &look]).output().expect("openssl");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn an_authority_gives_a_certificate_and_who_listens_meanwhile_stays() {
    let (port, tls_port) = (free_port(), free_port());
    let authority = Authority::new(port);
    let tls = section(tls_port, &authority.directory(), &authority.folder.join("own.crt"));
    let server = Server::spawn(&format!("listen = [\"127.0.0.1:{port}\"]"), &format!("{tls}{MP3}"), &[]);
    // Somebody listens from the first moment on, with the stand-in for a certificate.
    let mut listener = None;
    let listens = until(Duration::from_secs(30), || {
        let url = format!("https://127.0.0.1:{tls_port}/radio.mp3");
        let heard = server.dir.join("heard");
        let mut curl = Command::new("curl").args(["-sk", "--fail", "-o"]).arg(&heard).arg(&url).spawn().expect("curl");
        let begun = until(Duration::from_secs(3), || fs::metadata(&heard).is_ok_and(|file| file.len() > 0));
        if begun {
            listener = Some(Ended(curl));
        } else {
            let _ = curl.kill();
            let _ = curl.wait();
        }
        begun
    });
    assert!(listens, "nobody can listen; log:\n{}", server.log());

    let given = until(Duration::from_secs(60), || shown(tls_port).contains("Pebble"));
    let shown = shown(tls_port);
    assert!(given, "shown: {shown}; log:\n{}", server.log());
    assert!(shown.contains("DNS:radio.example") && shown.contains("DNS:www.radio.example"), "{shown}");
    let Ended(curl) = &mut listener.as_mut().expect("one who listens");
    assert_eq!(curl.try_wait().expect("it runs"), None, "the listener was lost");
    // Nothing is left of the proofs, and who reads the folder is only us.
    let url = format!("http://127.0.0.1:{port}/.well-known/acme-challenge/x");
    let answer = Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]).output().expect("curl").stdout;
    assert_eq!(answer, b"404");
    let folder = server.dir.join("certificates");
    for file in fs::read_dir(&folder).expect("the folder") {
        use std::os::unix::fs::PermissionsExt;
        let file = file.expect("a file");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o077, 0, "{:?} can be read by others", file.path());
    }
    // A reload with the same settings asks for nothing; the certificate is kept.
    let before = fs::read(folder.join("radio.example.crt")).expect("a certificate");
    server.signal("-HUP");
    assert!(until(Duration::from_secs(20), || server.log().contains("configuration reloaded")), "{}", server.log());
    assert_eq!(fs::read(folder.join("radio.example.crt")).expect("a certificate"), before);
}

#[test]
fn an_authority_that_does_not_answer_costs_nothing_but_a_line_in_the_log() {
    let (tls_port, nobody) = (free_port(), free_port());
    let folder = std::env::temp_dir().join(format!("flumen-no-authority-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("ca.crt"), own.cert.pem()).expect("written");
    let tls = section(tls_port, &format!("https://127.0.0.1:{nobody}/dir"), &folder.join("ca.crt"));
    let server = Server::start(&format!("{tls}{MP3}"));
    assert!(until(Duration::from_secs(20), || server.log().contains("no certificate from the authority")), "{}", server.log());
    assert_eq!(server.log().matches("no certificate from the authority").count(), 1, "{}", server.log());
    let out =
        Command::new("curl").args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"]).arg(format!("https://127.0.0.1:{tls_port}/")).output();
    assert_eq!(out.expect("curl").stdout, b"200", "the stand-in serves");
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn what_an_authority_cannot_be_asked_is_a_clear_error_at_the_start() {
    for (keys, complaint) in [
        ("domains = [\"*.radio.example\"]\nfolder = \"x\"\nagree = true", "no host name that can be proved"),
        ("domains = [\"radio.example\"]\nagree = true", "folder"),
        ("domains = [\"radio.example\"]\nfolder = \"x\"", "terms of service"),
        ("domains = [\"radio.example\"]\nfolder = \"x\"\nagree = true\ndirectory = \"http://a/\"", "no address of an authority"),
        ("domains = [\"radio.example\"]\nfolder = \"x\"\nagree = true\ncontact = \"nobody\"", "no mail address"),
        ("domains = []\nfolder = \"x\"\nagree = true", "nothing to ask a certificate for"),
    ] {
        let path = std::env::temp_dir().join(format!("flumen-acme-wrong-{}.toml", std::process::id()));
        fs::write(&path, format!("[[server.tls]]\nlisten = [\"127.0.0.1:1\"]\n[server.tls.acme]\n{keys}\n")).expect("written");
        let out = Command::new(env!("CARGO_BIN_EXE_flumen")).args(["check", "-c"]).arg(&path).output().expect("flumen");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{keys}: {told}");
        assert!(told.contains(complaint) && told.contains("flumen-acme-wrong"), "{keys}: {told}");
        fs::remove_file(path).expect("removed");
    }
}
