//! Who is an operator, who is a relay, and what Icecast's containers say.

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
        ("user = \"a:b\"", &["admin.user = \"a:…\"", "colon"]),
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
fn relays_have_a_name_of_their_own_and_no_password_unless_one_is_written() {
    let file = secret("from-a-file\n");
    let by_file = format!("[relay]\npassword_file = {:?}", file.0);
    for (text, user, right) in [
        ("[relay]\npassword = \"s3cret\"", "relay", "s3cret"),
        (&format!("[relay]\nuser = \"edge\"\npassword_hash = \"{HASH}\""), "edge", "right"),
        (&by_file, "relay", "from-a-file"),
    ] {
        let relay = admin(text, &[]).relay;
        assert_eq!(relay.user, user, "{text}");
        let password = relay.password.expect("a password");
        assert!(password.verify(right) && !password.verify("hackme"), "{text}");
    }
    let none = admin("[admin]\nuser = \"relay\"\npassword = \"s3cret\"\n[relay]\nuser = \"relay\"", &[]);
    assert_eq!((none.user.as_str(), none.relay.password), ("relay", None), "where there are no relays, their name is free");
    for (variable, value) in [("ICECAST_RELAY_PASSWORD", "r3lay"), ("FLUMEN_RELAY__PASSWORD", "r3lay")] {
        assert!(admin("", &[(variable, value)]).relay.password.expect(variable).verify("r3lay"));
    }
    for (text, parts) in [
        ("[relay]\npassword = \"hackme\"", &["relay.password = …: is one of the defaults that everybody knows"] as &[_]),
        ("[relay]\npasword = \"s3cret\"", &["did you mean \"relay.password\"?"]),
        (
            "[relay]\nuser = \"source\"\npassword = \"s3cret\"",
            &[":2: relay.user = \"source\": is the name of encoders", "such as user = \"relay\""],
        ),
        ("[admin]\nuser = \"source\"", &["admin.user = \"source\": is the name of encoders", "such as user = \"admin\""]),
        ("[relay]\nuser = \"admin\"\npassword = \"s3cret\"", &["relay.user = \"admin\": is the operator's name (admin.user)"]),
        ("[relay]\npassword = \"s3cret\"\n[admin]\nuser = \"relay\"", &["relay.user: is the operator's name", "such as user = \"edge\""]),
    ] {
        let result = load_with(&format!("{text}\n{MOUNT}"), &[]);
        let shown = result.as_ref().map(|config| format!("{config:?}")).unwrap_or_else(ToString::to_string);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_refused(result, parts, text);
    }
    assert_refused(load_with(MOUNT, &[("FLUMEN_RELAY_PASSWORD", "x")]), &["FLUMEN_RELAY__PASSWORD, with two"], "one underscore");
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
