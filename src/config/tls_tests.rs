//! What an operator writes of TLS, and what the answer says.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tests::{COSTS, assert_refused, check_pipeline};
use super::*;

/// A configuration in a folder of its own, with certificates beside it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flumen-config-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).expect("a certificate");
            folder.write(&format!("{name}.pem"), &made.cert.pem());
            folder.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("written");
    }

    fn load(&self, text: &str) -> Result<Config, ConfigErrors> {
        self.write("flumen.toml", text);
        load(&Source::File(self.0.join("flumen.toml")), &Environment::default(), &check_pipeline)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = "[[server.tls]]\nlisten = [\"127.0.0.1:8443\"]\ncertificates = [{ cert = \"a.pem\", key = \"a.key\" }]\n";

#[test]
fn certificates_are_found_beside_the_configuration() {
    let folder = Folder::new();
    let config = folder.load(GOOD).expect("good");
    let [section] = config.door.tls.as_slice() else { panic!("one section") };
    assert_eq!(section.listen, ["127.0.0.1:8443".parse().expect("an address")]);
    assert!(!section.auto);
    assert_eq!(section.certificates[0].cert, folder.0.join("a.pem"));
    assert_eq!(section.certificates[0].key, folder.0.join("a.key"));
}

#[test]
fn a_bad_section_is_answered_with_line_key_value_and_remedy() {
    let folder = Folder::new();
    folder.write("empty.pem", "");
    let listen = "listen = [\"127.0.0.1:8443\"]";
    let pair = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]";
    let pairs = |items: &str| format!("{listen}\ncertificates = [{items}]");
    for (keys, parts) in [
        (pair.to_owned(), &[":1: server.tls[0].listen", "nowhere to listen", "0.0.0.0:8443"] as &[_]),
        (format!("listen = []\n{pair}"), &["server.tls[0].listen", "nowhere to listen"]),
        (format!("listen = [\"unix:/a\"]\n{pair}"), &[":2: server.tls[0].listen[0] = \"unix:/a\"", "host:port"]),
        (format!("listen = [\"0.0.0.0:8000\"]\n{pair}"), &[":2: server.tls[0].listen[0]", "already by server.listen[0]"]),
        (format!("listen = [\"[::1]:1\", \"[::1]:1\"]\n{pair}"), &["server.tls[0].listen[1]", "already by server.tls[0].listen[0]"]),
        (listen.to_owned(), &[":1: server.tls[0].certificates", "no certificate to show", "fullchain.pem"]),
        (pairs(""), &["server.tls[0].certificates", "no certificate to show"]),
        (format!("{listen}\ncertificates = \"a.pem\""), &["server.tls[0].certificates = \"a.pem\": is a text, where a list", "{ cert ="]),
        (pairs("\"a.pem\""), &["server.tls[0].certificates[0] = \"a.pem\"", "a certificate with its key", "{ cert ="]),
        (pairs("{ cert = \"a.pem\" }"), &[":3: server.tls[0].certificates[0].key: is missing", "key = \"key.pem\""]),
        (pairs("{ key = \"a.key\" }"), &["server.tls[0].certificates[0].cert: is missing", "cert = \"fullchain.pem\""]),
        (
            pairs("{ cert = \"\", key = \"a.key\" }"),
            &["server.tls[0].certificates[0].cert = \"\": is no path", "configuration's own folder"],
        ),
        (
            pairs("{ cert = \"no.pem\", key = \"a.key\" }"),
            &[":3: server.tls[0].certificates[0].cert = \"no.pem\": cannot be read: No such"],
        ),
        (pairs("{ cert = \"a.pem\", key = \"no.key\" }"), &["server.tls[0].certificates[0].key = \"no.key\": cannot be read: No such"]),
        (pairs("{ cert = \"empty.pem\", key = \"a.key\" }"), &["certificates[0].cert = \"empty.pem\": holds no certificate", "BEGIN CERT"]),
        (
            pairs("\n  { cert = \"a.pem\", key = \"a.key\" },\n  { cert = \"a.pem\", key = \"b.key\" },\n"),
            &[":5: server.tls[0].certificates[1].key = \"b.key\": is not the key of", "a.pem", "without a passphrase"],
        ),
        (pairs("{ cert = \"a.pem\", keys = \"a.key\", key = \"a.key\" }"), &["certificates[0].keys", "did you mean"]),
        (format!("{listen}\n{pair}\nauto = \"yes\""), &[":4: server.tls[0].auto = \"yes\"", "true or false"]),
        (format!("{listen}\n{pair}\nciphers = 1"), &[":4: server.tls[0].ciphers = 1", "the keys here are listen, auto, certificates"]),
    ] {
        assert_refused(folder.load(&format!("[[server.tls]]\n{keys}\n")), parts, &keys);
    }
    assert_refused(folder.load("[server]\ntls = true"), &["server.tls = true", "write [[server.tls]]"], "no list");
    let twice = format!("{GOOD}{}", GOOD.replace("127.0.0.1", "0.0.0.0"));
    assert_refused(folder.load(&twice), &[":5: server.tls[1].listen[0]", "server.tls[0].listen[0]"], "the same port twice");
}

#[test]
fn no_error_repeats_what_is_in_a_key() {
    let folder = Folder::new();
    let key = fs::read_to_string(folder.0.join("a.key")).expect("a key");
    folder.write("a.key", &key.replace("-----END", "?-----END"));
    let errors = folder.load(GOOD).expect_err("broken").to_string();
    assert!(key.lines().filter(|line| !line.starts_with('-')).all(|line| !errors.contains(line)), "{errors}");
}

#[test]
fn a_section_is_described_and_loads_to_the_same() {
    let folder = Folder::new();
    let text = format!(
        "{GOOD}[[server.tls]]\nlisten = [\"[::1]:8443\", \"127.0.0.1:9443\"]\nauto = true\ncertificates = [\n  {{ cert = \"b.pem\", key = \"b.key\" }},\n  \
         {{ cert = \"{0}/a.pem\", key = \"{0}/a.key\" }},\n]\n",
        folder.0.display()
    );
    let first = folder.load(&text).expect("good");
    assert_eq!(first.door.tls.len(), 2);
    let described = describe(&first, COSTS);
    let second = Folder::new().load(&described).unwrap_or_else(|errors| panic!("{described}\n{errors}"));
    assert_eq!(first.door, second.door, "{described}");
}

#[test]
fn a_certificate_from_an_authority_is_described_loads_to_the_same_and_is_named_when_it_changes() {
    let folder = Folder::new();
    let order = |domains: &str| {
        format!(
            "[[server.tls]]\nlisten = [\"127.0.0.1:8443\"]\n[server.tls.acme]\ndomains = {domains}\nfolder = \"kept\"\nca = \"a.pem\"\n\
             contact = \"me@a.example\"\nagree = true\n"
        )
    };
    let first = folder.load(&order("[\"A.example\", \"b.example\"]")).expect("good");
    let [wanted] = first.acme.as_slice() else { panic!("one order") };
    assert_eq!((wanted.domains.len(), wanted.directory.as_str()), (2, acme::LETS_ENCRYPT));
    assert_eq!(first.door.tls[0].certificates, [wanted.files()]);
    assert_eq!(wanted.files().cert, folder.0.join("kept/a.example.crt"), "in small letters");
    let described = describe(&first, COSTS);
    let second = Folder::new().load(&described).unwrap_or_else(|errors| panic!("{described}\n{errors}"));
    assert_eq!((&first.door, &first.acme), (&second.door, &second.acme), "{described}");
    let other = folder.load(&order("[\"a.example\"]")).expect("good");
    assert_eq!(difference(&first, &other).sections, ["server.tls.acme"]);
}

#[test]
fn the_worst_case_of_memory_has_tls_in_it_where_tls_is_spoken() {
    let folder = Folder::new();
    let guests = |config: &Config| {
        let described = describe(config, COSTS);
        described.lines().find(|line| line.starts_with("# guests")).expect("guests").to_owned()
    };
    let (plain, tls) = (folder.load("").expect("good"), folder.load(GOOD).expect("good"));
    let each = |of_tls: u64| {
        crate::units::ByteCount(COSTS.connection_bytes + 4 * (8 << 10) + crate::door::portion::ANSWER_BYTES + of_tls).to_string()
    };
    assert!(guests(&plain).contains(&format!("× {:>8} ", each(0))), "{}", guests(&plain));
    assert!(guests(&tls).contains(&format!("× {:>8} ", each(crate::door::tls::SESSION_BYTES))), "{}", guests(&tls));
    assert!(describe(&tls, COSTS).contains("# of that, TLS: 32KiB of each listener"), "{}", describe(&tls, COSTS));
}
