//! What comes from outside the file: the environment and `flumen launch`.

use super::*;

#[test]
fn variables_override_keys() {
    let text = "[[mount]]\npath = \"/a\"\nburst = \"1s\"\n[[mount]]\npath = \"/b\"\n";
    let config = load_with(
        text,
        &[
            ("FLUMEN_SERVER__MAX_LISTENERS", "500"),
            ("FLUMEN_SERVER__LISTEN", "127.0.0.1:1, unix:/a"),
            ("FLUMEN_LOG__FORMAT", "json"),
            ("FLUMEN_MOUNT_DEFAULTS__KEEP", "20s"),
            ("FLUMEN_MOUNT__0__BURST", "2s,64KiB"),
            ("FLUMEN_MOUNT__1__PUBLIC", "true"),
            ("FLUMEN_MOUNT__1__MAX_LISTENERS", "none"),
            ("FLUMEN_CONFIG", "elsewhere"),
            ("FLUMEN_LOG", "debug"),
            ("FLUMEN_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("FLUMEN_SERVER_PORT", "tcp://10.0.0.1:8000"),
            ("PATH", "/bin"),
        ],
    )
    .expect("good");
    assert_eq!((config.max_listeners, config.log.format, config.door.listen.len()), (500, LogFormat::Json, 2));
    let [a, b] = config.mounts.as_slice() else { panic!("two mounts") };
    assert_eq!(a.rules.wish.burst.to_string(), "[\"2s\", \"64KiB\"]");
    assert_eq!((a.keep.to_string(), b.keep.to_string()), ("\"20s\"".to_owned(), "\"20s\"".to_owned()));
    assert!(b.profile.public && !a.profile.public);
}

#[test]
fn a_bad_variable_is_answered_with_its_name() {
    for (name, value, parts) in [
        ("FLUMEN_SERVER__MAX_LISTENERS", "many", &["FLUMEN_SERVER__MAX_LISTENERS: server.max_listeners = \"many\"", "1 to"] as &[_]),
        ("FLUMEN_SERVER__MAX_LISTENERZ", "5", &["FLUMEN_SERVER__MAX_LISTENERZ: server.max_listenerz", "max_listeners"]),
        ("FLUMEN_SEVER__MAX_LISTENERS", "5", &["FLUMEN_SEVER__MAX_LISTENERS", "did you mean FLUMEN_SERVER__MAX_LISTENERS?"]),
        ("FLUMEN_SERVER_MAX_LISTENERS", "5", &["one underscore", "write FLUMEN_SERVER__MAX_LISTENERS"]),
        ("FLUMEN_MOUNT__7__KEEP", "5s", &["there is no mount 7: the configuration has 1"]),
        ("FLUMEN_MOUNT__KEEP", "5s", &["names no mount", "FLUMEN_MOUNT__0__KEY"]),
        ("FLUMEN_MOUNT__0__KEEP", "5", &["FLUMEN_MOUNT__0__KEEP: mount[0].keep = \"5\": is not an extent"]),
        ("FLUMEN_MOUNT__0__BURST", "", &["is empty", "write an extent"]),
        ("FLUMEN_MOUNT__0__PUBLIC", "yes", &["mount[0].public = \"yes\"", "true or false"]),
        ("FLUMEN_MOUNT_DEFAULTS__PATH", "/b", &["FLUMEN_MOUNT_DEFAULTS__PATH"]),
        ("FLUMEN_NOSUCH__PASSWORD", "x", &["no section \"nosuch\"", "…"]),
    ] {
        assert_refused(load_with("[[mount]]\npath = \"/a\"\n", &[(name, value)]), parts, name);
    }
}

#[test]
fn a_section_of_several_is_told_from_outside_by_its_number() {
    let file = Written::new("a secret word\n");
    let file = file.0.display().to_string();
    let text = "[[server.tls]]\nlisten = [\"127.0.0.1:39021\"]\n[server.tls.acme]\ndomains = [\"a.example\"]\nfolder = \"/tmp\"\nagree = true\n\
                [[webhook]]\nurl = \"http://a/\"\n[[webhook]]\nurl = \"http://b/\"\n[[directory]]\nurl = \"http://a/\"\nserver = \"http://b/\"\n\
                [[mirror]]\nfrom = \"http://a\"\npassword = \"theirs\"\n[[address_group]]\nname = \"g\"\nnetworks = [\"10.0.0.0/8\"]\n\
                [[mount]]\npath = \"/a\"\npush_password_hash = \"$2b$04$nonsense\"\n";
    let variables = [
        ("FLUMEN_WEBHOOK__1__URL", "http://c/"),
        ("FLUMEN_WEBHOOK__1__EVENTS", "source_up, source_down"),
        ("FLUMEN_DIRECTORY__0__SERVER", "http://c/"),
        ("FLUMEN_MIRROR__0__PASSWORD_FILE", &file),
        ("FLUMEN_MIRROR__0__MAX_MOUNTS", "7"),
        ("FLUMEN_ADDRESS_GROUP__0__MAX_LISTENERS", "7"),
        ("FLUMEN_SERVER__TLS__0__LISTEN", "127.0.0.1:39022"),
        ("FLUMEN_MOUNT__0__PUSH_PASSWORD", "s0urce"),
    ];
    let config = load_with(text, &variables).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.webhooks.iter().map(|hook| (hook.url.as_str(), hook.events.len())).collect::<Vec<_>>()[1], ("http://c/", 2));
    assert_eq!((config.webhooks[0].url.as_str(), config.directories[0].server.as_str()), ("http://a/", "http://c/"));
    let mirror = &config.mirrors[0];
    let password = mirror.server.login.as_ref().expect("a login").password.reveal();
    assert_eq!((mirror.most, password), (7, "a secret word"), "in place of the file's password");
    assert_eq!(config.groups[0].max_listeners, Some(7));
    assert_eq!(config.door.tls[0].listen.iter().map(|address| address.port()).collect::<Vec<_>>(), [39022]);
    let password = config.mounts[0].push.as_ref().and_then(|push| push.password.as_ref()).expect("a password");
    assert!(password.verify("s0urce"), "in place of the file's hash");
    for (name, parts) in [
        ("FLUMEN_WEBHOOK__2__URL", &["there is no webhook 2: the configuration has 2, counted from 0"] as &[_]),
        ("FLUMEN_WEBHOOK__URL", &["names no webhook by its number", "FLUMEN_WEBHOOK__0__KEY"]),
        ("FLUMEN_MIRROR__1__FROM", &["there is no mirror 1: the configuration has 1"]),
        ("FLUMEN_SERVER__TLS__LISTEN", &["names no server.tls by its number", "FLUMEN_SERVER__TLS__0__KEY"]),
        ("FLUMEN_SERVER__TLS__1__LISTEN", &["there is no server.tls 1"]),
        ("FLUMEN_ADDRESS_GRUOP__0__NAME", &["did you mean FLUMEN_ADDRESS_GROUP__0__NAME?"]),
        ("FLUMEN_DIRECTORY__0__URI", &["directory[0].uri", "did you mean \"directory[0].url\"?"]),
    ] {
        assert_refused(load_with(text, &[("FLUMEN_MOUNT__0__PUSH_PASSWORD", "s0urce"), (name, "http://a/")]), parts, name);
    }
}

pub(super) fn launched(set: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let launch_arguments = Launch {
        pipeline: "fakesrc".to_owned(),
        mount: "/live".to_owned(),
        listen: vec!["127.0.0.1:1".to_owned(), "[::1]:1".to_owned()],
        set: set.iter().map(ToString::to_string).collect(),
    };
    launch(&launch_arguments, &variables.iter().copied().collect(), &check_pipeline)
}

#[test]
fn a_launch_goes_by_the_same_rules() {
    let set = ["burst=2s, 64KiB", "server.max_listeners=5", "log.format=json", "mount.keep=\"7s\"", "public=true", "dscp=none"];
    let config = launched(&set, &[("FLUMEN_SERVER__LISTEN", "127.0.0.1:2"), ("FLUMEN_MOUNT__0__GENRE", "Test")]).expect("good");
    let [mount] = config.mounts.as_slice() else { panic!("one mount") };
    assert_eq!((config.max_listeners, config.log.format, config.door.listen.len()), (5, LogFormat::Json, 2));
    assert_eq!((mount.path.as_str(), mount.pipeline.as_deref(), mount.profile.genre.as_deref()), ("/live", Some("fakesrc"), Some("Test")));
    assert_eq!((mount.rules.wish.burst.to_string().as_str(), mount.keep.to_string().as_str()), ("[\"2s\", \"64KiB\"]", "\"7s\""));
    for (set, parts) in [
        ("burst=2 parsecs", &["--set burst: mount[0].burst = \"2 parsecs\"", "extent"] as &[_]),
        ("brust=2s", &["--set brust: ", "mount[0].burst"]),
        ("burst", &["--set burst: has no key, or no value behind it"]),
        ("sever.shards=2", &["--set sever.shards: ", "did you mean server.shards?"]),
        ("pipeline=nosuch", &["--set pipeline: ", "no element"]),
        ("path=/metrics", &["--set path: ", "flumen's own"]),
    ] {
        assert_refused(launched(&[set], &[]), parts, set);
    }
}
