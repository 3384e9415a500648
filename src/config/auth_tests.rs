//! What an operator writes of who may listen, and what the answer says.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tests::{COSTS, assert_refused, check_pipeline};
use super::*;
use crate::access::rule::{OnError, Rule};

/// By bcrypt at the least cost.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";

/// A configuration in a folder of its own, with files beside it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flumen-config-auth-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder.write("users", &format!("anna:{HASH}\n"));
        folder.write("bad-users", "anna:plain\n");
        folder.write("secret", "0123456789abcdef0123456789abcdef\n");
        folder.write("jwks.json", r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("written");
    }

    fn load_with(&self, lines: &str, environment: &Environment) -> Result<Config, ConfigErrors> {
        self.write("flumen.toml", &format!("[[mount]]\npath = \"/a\"\n{lines}\n"));
        load(&Source::File(self.0.join("flumen.toml")), environment, &check_pipeline)
    }

    fn load(&self, lines: &str) -> Result<Config, ConfigErrors> {
        self.load_with(lines, &Environment::default())
    }

    fn mount(&self, lines: &str) -> mounts::Settings {
        let config = self.load(lines).unwrap_or_else(|errors| panic!("{lines}\n{errors}"));
        config.mounts.into_iter().next().expect("a mount")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_kind_of_rule_is_read_and_described_so_that_it_reads_the_same() {
    let folder = Folder::new();
    for rule in [
        "{ htpasswd = \"users\" }",
        "{ signed = \"secret\" }",
        "{ jwt = \"jwks.json\" }",
        "{ jwt = \"jwks.json\", audience = \"radio\" }",
        "{ allow = [\"10.0.0.0/8\", \"2001:db8::/32\"] }",
        "{ allow = \"10.0.0.0/8\" }",
        "{ deny = [\"192.0.2.1\"] }",
        "{ agent = \"*curl*\" }",
        "{ agent = [\"vlc\", \"mpv\"] }",
        "{ not = { agent = \"bot\" } }",
        "{ any = [{ htpasswd = \"users\" }, { all = [{ allow = [\"10.0.0.0/8\"] }, { not = { agent = \"x\" } }] }] }",
        "{ url = \"http://127.0.0.1:1/auth\" }",
        "{ url = \"https://a/add\", remove_url = \"http://b/remove\", timeout = \"2s\", on_error = \"allow\", auth_header = \"x-ok: yes\" }",
        "{ url = \"http://a/\", remove_url = \"none\" }",
        "{ url = \"http://a/\", timelimit_header = \"x-limit\", headers = [\"x-token\", \"dnt\"], header_prefix = \"ClientHeader.\" }",
    ] {
        let lines = format!("listen_auth = {rule}\n");
        let config = folder.load(&lines).unwrap_or_else(|errors| panic!("{rule}\n{errors}"));
        let described = describe(&config, COSTS);
        let again = folder.0.join("again.toml");
        fs::write(&again, &described).expect("written");
        let again =
            load(&Source::File(again), &Environment::default(), &check_pipeline).unwrap_or_else(|errors| panic!("{described}\n{errors}"));
        assert_eq!(again.mounts, config.mounts, "{rule}\n{described}");
        assert!(described.contains("who listens:"), "the worst case has what it costs: {described}");
    }
    let open = folder.load("").expect("a configuration");
    assert!(open.mounts[0].listen_auth.is_none() && !describe(&open, COSTS).contains("who listens:"));
}

#[test]
fn a_backend_is_read_with_all_it_can_be_told_and_its_password_is_not_shown() {
    let folder = Folder::new();
    let mount = folder.mount(
        "listen_auth = { url = \"http://us%65r:s3cret@a:8080/x\" }\nstream_auth = { url = \"http://b/\", user = \"u\", password = \"s3cret\" }\n\
         mount_add = \"http://c/\"\nmount_remove = \"http://d/\"",
    );
    let Some(Rule::Url(backend)) = mount.listen_auth.as_deref() else { panic!("{mount:?}") };
    let login = backend.login.as_ref().expect("a login");
    assert_eq!((&*backend.url, login.user.as_str(), login.password.reveal()), ("http://a:8080/x", "user", "s3cret"));
    assert_eq!((backend.remove_url.as_deref(), backend.on_error), (Some("http://a:8080/x"), OnError::Deny));
    let stream = mount.push.as_ref().and_then(|push| push.stream_auth.as_ref()).expect("a backend");
    assert_eq!((&*stream.url, stream.remove_url.as_deref()), ("http://b/", None));
    assert_eq!((mount.announce.add.as_deref(), mount.announce.remove.as_deref()), (Some("http://c/"), Some("http://d/")));
    let config = folder.load("listen_auth = { url = \"http://user:s3cret@a/\" }").expect("a configuration");
    assert!(!describe(&config, COSTS).contains("s3cret") && !format!("{config:?}").contains("s3cret"));
    // From a file beside the configuration, for listeners and for encoders.
    let lines = "listen_auth = { url = \"http://a/\", user = \"u\", password_file = \"secret\" }\n\
                 stream_auth = { url = \"http://b/\", user = \"v\", password_file = \"secret\" }";
    let config = folder.load(lines).unwrap_or_else(|errors| panic!("{errors}"));
    let Some(Rule::Url(backend)) = config.mounts[0].listen_auth.as_deref() else { panic!("{config:?}") };
    let stream = config.mounts[0].push.as_ref().and_then(|push| push.stream_auth.as_ref()).expect("a backend");
    for (login, user) in [(&backend.login, "u"), (&stream.login, "v")] {
        let login = login.as_ref().expect("a login");
        assert_eq!((login.user.as_str(), login.password.reveal()), (user, "0123456789abcdef0123456789abcdef"));
    }
    let shown = describe(&config, COSTS) + &format!("{config:?}");
    assert!(shown.contains("user = \"u\"") && !shown.contains("0123456789abcdef"), "{shown}");
    // In the environment it is the same text.
    let environment = Environment::from([("FLUMEN_MOUNT_DEFAULTS__LISTEN_AUTH", "{ allow = [\"10.0.0.0/8\"] }")]);
    let config = folder.load_with("", &environment).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(matches!(config.mounts[0].listen_auth.as_deref(), Some(Rule::Allow(_))));
}

#[test]
fn a_bad_rule_is_answered_with_what_would_be_right() {
    let folder = Folder::new();
    let deep = format!("listen_auth = {}{{ agent = \"x\" }}{}", "{ not = ".repeat(9), " }".repeat(9));
    let many = format!("listen_auth = {{ any = [{}] }}", "{ agent = \"x\" }, ".repeat(40));
    for (lines, parts) in [
        ("listen_auth = \"users\"", &["mount[0].listen_auth", "not a table", "htpasswd"] as &[_]),
        ("listen_auth = {}", &["no rule in it", "htpasswd, url, signed"]),
        ("listen_auth = { htpaswd = \"users\" }", &["did you mean \"htpasswd\"?"]),
        ("listen_auth = { htpasswd = \"no-such\" }", &["cannot be read", "no-such"]),
        ("listen_auth = { htpasswd = \"bad-users\" }", &["line 1", "neither bcrypt", "htpasswd -B"]),
        ("listen_auth = { signed = \"jwks.json\", jwt = \"jwks.json\" }", &["has \"jwt\" beside \"signed\"", "{ all ="]),
        ("listen_auth = { jwt = \"users\" }", &["no set of keys"]),
        ("listen_auth = { jwt = \"jwks.json\", audiense = \"x\" }", &["did you mean \"audience\"?"]),
        ("listen_auth = { allow = [\"10.0.0.1/8\"] }", &["in allow[0]", "bits set behind"]),
        ("listen_auth = { allow = [] }", &["has 0 networks"]),
        ("listen_auth = { any = [] }", &["is no list of rules"]),
        ("listen_auth = { any = [{ agent = \"x\" }, { allow = [\"x\"] }] }", &["in any[1]: it in allow[0]: it is no address"]),
        ("listen_auth = { url = \"ftp://a\" }", &["in url", "web address"]),
        ("listen_auth = { url = \"http://a/\", timeout = \"1h\" }", &["in timeout", "out of range"]),
        ("listen_auth = { url = \"http://a/\", on_error = \"shrug\" }", &["in on_error", "\"deny\", \"allow\""]),
        ("listen_auth = { url = \"http://a/\", password = \"s3cret\" }", &["password without a user"]),
        (
            "listen_auth = { url = \"http://a/\", user = \"u\", password_file = \"no-such\" }",
            &["in password_file", "cannot be read", "no-such"],
        ),
        ("listen_auth = { url = \"http://a/\", password_file = \"secret\" }", &["password without a user"]),
        (
            "listen_auth = { url = \"http://a/\", user = \"u\", password = \"x\", password_file = \"secret\" }",
            &["beside password", "one of the two"],
        ),
        ("stream_auth = { url = \"http://a/\", user = \"u\", password_fil = \"secret\" }", &["did you mean \"password_file\"?"]),
        ("listen_auth = { htpasswd = \"users\", password_file = \"secret\" }", &["has \"password_file\" beside \"htpasswd\""]),
        ("listen_auth = { url = \"http://a/\", headers = [\"x y\"] }", &["in headers[0]", "no name of a header field"]),
        (
            "listen_auth = { url = \"http://a/\", headers = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\"] }",
            &["has 9 names"],
        ),
        ("listen_auth = { url = \"http://a/\", header_prefix = \"&user=\" }", &["in header_prefix", "that a form can carry"]),
        (&deep, &["more than 8 deep"]),
        (&many, &["has 40 rules"]),
        ("listen_auth = { agent = \"x\" }\ntcp = [\"127.0.0.1:9000\"]", &["is written beside tcp", "cannot be asked"]),
        ("stream_auth = { remove_url = \"http://a/\" }", &["has no url"]),
        ("stream_auth = { url = \"http://a/\", remove_url = \"http://a/\" }", &["has \"remove_url\" beside \"url\""]),
        ("mount_add = \"a\"", &["mount[0].mount_add", "web address"]),
    ] {
        assert_refused(folder.load(lines), parts, lines);
    }
    let errors = folder.load("listen_auth = { url = \"http://a/\", password = \"s3cret\" }").expect_err("no user").to_string();
    assert!(!errors.contains("s3cret"), "{errors}");
}
