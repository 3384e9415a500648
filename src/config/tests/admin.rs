//! Who is an operator, and what Icecast's containers say.

use super::*;

const MOUNT: &str = "[[mount]]\npath = \"/a\"\n";
/// By bcrypt, of `right`.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";

fn admin(text: &str, variables: &[(&str, &str)]) -> crate::admin::Settings {
    load_with(&format!("{text}\n{MOUNT}"), variables).unwrap_or_else(|errors| panic!("{text}\n{errors}")).admin
}

fn secret(text: &str) -> Written {
    Written::new(text)
}

#[test]
fn an_operator_has_a_password_in_one_of_three_ways() {
    let file = secret("from-a-file\n");
    let by_file = format!("[admin]\npassword_file = {:?}", file.0);
    for (text, right) in [
        ("[admin]\npassword = \"s3cret\"", "s3cret"),
        (&format!("[admin]\npassword_hash = \"{HASH}\""), "right"),
        (&by_file, "from-a-file"),
    ] {
        let password = admin(text, &[]).password.expect("a password");
        assert!(password.verify(right) && !password.verify("hackme"), "{text}");
    }
    let none = admin("[admin]\nuser = \"chief\"\nhostname = \"radio.example\"", &[]);
    assert_eq!((none.user.as_str(), none.password, none.hostname.as_deref()), ("chief", None, Some("radio.example")));
}

#[test]
fn a_bad_operator_is_answered_without_showing_the_password() {
    for (line, parts) in [
        ("password = \"hackme\"", &["admin.password = …: is one of the defaults that everybody knows", "openssl"] as &[_]),
        ("password = \"\"", &["admin.password", "is empty"]),
        ("password = 12345", &["admin.password = …", "not a text"]),
        ("password_hash = \"s3cret\"", &["admin.password_hash = …", "htpasswd"]),
        ("password_file = \"/no/such\"", &["admin.password_file", "cannot be read", "/no/such"]),
        (
            "password = \"one-one\"\npassword_hash = \"$2b$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC\"",
            &["beside password (", ":2)"],
        ),
        ("user = \"a:b\"", &["admin.user = \"a:b\"", "colon"]),
        ("hostname = \"http://a/\"", &["admin.hostname", "radio.example.org"]),
        ("location = \"\"", &["admin.location", "is empty"]),
        ("passwort = \"x\"", &["did you mean \"admin.password\"?"]),
    ] {
        let result = load_with(&format!("[admin]\n{line}\n{MOUNT}"), &[]);
        let text = result.as_ref().map(|config| format!("{config:?}")).unwrap_or_else(ToString::to_string);
        assert!(!text.contains("12345") && !text.contains("one-one") && !text.contains("s3cret"), "{text}");
        assert_refused(result, parts, line);
    }
}

#[test]
fn the_variables_of_icecasts_containers_work() {
    let (file, place) = (secret("from-a-file"), secret("  Moon\n"));
    let path = |written: &Written| written.0.display().to_string();
    let found = admin(
        "",
        &[
            ("ICECAST_ADMIN_PASSWORD", "a&b\"c"),
            ("ICECAST_ADMIN_USERNAME", "chief"),
            ("ICECAST_ADMIN_EMAIL", "chief@radio.example"),
            ("ICECAST_HOSTNAME", "radio.example"),
            ("ICECAST_LOCATION_FILE", &path(&place)),
            ("ICECAST_SOMETHING_ELSE", "x"),
            ("ICECAST_RELAY_PASSWORD", ""),
        ],
    );
    assert!(found.password.expect("a password").verify("a&b\"c"));
    assert_eq!((found.user.as_str(), found.contact.as_str(), found.location.as_str()), ("chief", "chief@radio.example", "Moon"));
    assert_eq!(found.hostname.as_deref(), Some("radio.example"));
    let found = admin("[admin]\npassword_hash = \"$2b$04$nonsense\"", &[("ICECAST_ADMIN_PASSWORD_FILE", &path(&file))]);
    assert!(found.password.expect("a password").verify("from-a-file"), "in place of what the file says");
    let found = admin("", &[("FLUMEN_ADMIN__PASSWORD", "ours"), ("ICECAST_ADMIN_PASSWORD", "theirs"), ("ICECAST_LOCATION", "")]);
    assert!(found.password.expect("a password").verify("ours"));
    assert_eq!(found.location, "Earth", "an empty one is none");
    assert_eq!(load_with(MOUNT, &[("ICECAST_MAX_CLIENTS", "77")]).expect("good").max_listeners, 77);
    let source = load_with(MOUNT, &[("ICECAST_SOURCE_PASSWORD", "s0urce")]).expect("good");
    assert!(source.mounts[0].push.as_ref().and_then(|push| push.password.as_ref()).is_some_and(|password| password.verify("s0urce")));
    for (name, value, parts) in [
        ("ICECAST_ADMIN_PASSWORD", "hackme", &["ICECAST_ADMIN_PASSWORD: admin.password = …", "everybody knows"] as &[_]),
        ("ICECAST_ADMIN_PASSWORD_FILE", "/no/such", &["ICECAST_ADMIN_PASSWORD_FILE: admin.password_file", "cannot be read"]),
        ("ICECAST_HOSTNAME_FILE", "/no/such", &["ICECAST_HOSTNAME_FILE", "cannot be read"]),
        ("ICECAST_MAX_CLIENTS", "many", &["ICECAST_MAX_CLIENTS: server.max_listeners = \"many\""]),
    ] {
        assert_refused(load_with(MOUNT, &[(name, value)]), parts, name);
    }
}
