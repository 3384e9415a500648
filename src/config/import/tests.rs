//! What becomes of Debian's sample, of a panel's template, and of what nobody should write.

use super::*;
use crate::config::{Config, Environment, Source, load};

const DEBIAN: &str = include_str!("../../../tests/data/icecast/debian.xml");
const PANEL: &str = include_str!("../../../tests/data/icecast/panel.xml");

fn imported(xml: &str) -> Imported {
    import("icecast.xml", xml).unwrap_or_else(|(line, problem)| panic!("{line}: {problem}"))
}

/// The configuration that a result is; it must be one.
fn loaded(imported: &Imported) -> Config {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("flumen-import-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, &imported.toml).expect("written");
    let result = load(&Source::File(path.clone()), &Environment::default(), &|_| Ok(()));
    std::fs::remove_file(path).expect("removed");
    result.unwrap_or_else(|errors| panic!("{}\n{errors}", imported.toml))
}

fn below(xml: &str) -> Imported {
    imported(&format!("<icecast>{xml}</icecast>"))
}

#[test]
fn debians_sample_loads_without_the_passwords_that_everybody_knows() {
    let result = imported(DEBIAN);
    let config = loaded(&result);
    assert_eq!((config.max_listeners, config.admin.password.clone(), config.mounts.len()), (100, None, 0));
    let anywhere: Vec<_> = config.patterns.iter().map(|pattern| (pattern.paths.as_str(), pattern.most)).collect();
    assert_eq!(anywhere, [("/*", 2)], "as many mounts as there may be sources, wherever they ask for one");
    assert_eq!(config.door.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:8000"]);
    assert!(
        result.toml.contains("# password = \"…\"   # Icecast's is one of the defaults that everybody knows: choose another"),
        "{}",
        result.toml
    );
    let said = result.left_out.join("\n");
    for part in ["<source-password>: it is one of the defaults", "<admin-password>: it is one", "<fileserve>: flumen serves no files"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("not known here"), "{said}");
    assert!(
        said.lines().all(|line| line.starts_with("icecast.xml:") && line.split(':').nth(1).is_some_and(|n| n.parse::<usize>().is_ok())),
        "{said}"
    );
}

#[test]
fn a_panels_template_keeps_what_flumen_has_and_lists_the_rest() {
    let result = imported(PANEL);
    let config = loaded(&result);
    assert_eq!((config.max_listeners, config.admin.user.as_str()), (2500, "chief"));
    assert!(config.admin.password.as_ref().expect("a password").verify("adm1n'\\word"));
    assert!(config.admin.relay.user == "relay" && config.admin.relay.password.as_ref().is_some_and(|password| password.verify("r3lay")));
    assert_eq!((config.admin.hostname.as_deref(), config.admin.contact.as_str()), (Some("radio.example"), "chief@radio.example"));
    let listen: Vec<_> = config.door.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen[..2], ["0.0.0.0:8000", "[::1]:8010"], "the address that another covers is left out");
    let patterns: Vec<_> = config.patterns.iter().map(|pattern| (pattern.paths.as_str(), pattern.mounts.push.as_ref())).collect();
    assert_eq!(patterns.iter().map(|(paths, _)| *paths).collect::<Vec<_>>(), ["/live/*", "/*"]);
    assert!(patterns[0].1.and_then(|push| push.password.as_ref()).is_some_and(|password| password.verify("dj-w0rd")));
    let paths: Vec<_> = config.mounts.iter().map(|mount| mount.path.as_str()).collect();
    assert_eq!(paths, ["/radio.mp3", "/autodj.mp3", "/relayed.ogg"], "what no mount can be called is a comment");
    let radio = &config.mounts[0];
    assert_eq!(radio.profile.name.as_deref(), Some("Radio \"Example\" & friends"));
    assert_eq!((radio.profile.public, radio.max_listeners, radio.content_type.as_deref()), (true, Some(500), Some("audio/mpeg")));
    assert_eq!(radio.rules.wish.burst.to_string(), "\"32KiB\"", "the default mount wins over the limits");
    assert_eq!(radio.rules.limits.hard.to_string(), "\"1MiB\"");
    assert_eq!(radio.rules.max_duration.map(|span| span.as_secs()), Some(3600));
    assert_eq!(config.shoutcast.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:8011"]);
    assert_eq!(&*config.mounts[2].relay.upstreams[0], "http://upstream.example:8000/other.ogg");
    assert!(radio.push.as_ref().and_then(|push| push.password.as_ref()).is_some_and(|password| password.verify("mount-w0rd")));
    assert!(
        config.mounts[1].push.as_ref().and_then(|push| push.password.as_ref()).is_some_and(|password| password.verify("s0urce&\"word"))
    );
    assert!(config.mounts[1].profile.hidden && !config.mounts[1].profile.public);
    assert_eq!(config.mounts[2].profile.name.as_deref(), Some("Relayed"), "a mount and its relay are one");
    for part in [
        "relay = [\"http://upstream.example:8000/other.ogg\"]",
        "relay_on_demand = true",
        "fallback = \"/autodj.mp3\"",
        "override = true",
        "fallback_when_full = true",
        "listen_auth = { url = \"http://panel.example/auth\", remove_url = \"http://panel.example/auth\", auth_header",
        "mount_add = \"http://panel.example/mount\"",
        "push_password = \"mount-w0rd\"",
        "password = \"s0urce&\\\"word\"",
        "shoutcast = [\"0.0.0.0:8011\"]",
        "source_timeout = \"10s\"",
        "trusted_proxies = [\"127.0.0.1\"]",
        "access = \"/var/log/icecast2/access.log\"",
        "certificates = [{ cert = \"/etc/ssl/radio.pem\", key = \"/etc/ssl/radio.pem\" }]",
        "shoutcast_mount = \"/radio.mp3\"",
    ] {
        assert!(result.toml.contains(part), "{part}:\n{}", result.toml);
    }
    let said = result.left_out.join("\n");
    for part in [
        "TLS is a comment: /etc/ssl/radio.pem",
        "<intro>: /usr/share/icecast2/web/welcome.mp3 cannot be read",
        "<dump-file>",
        "/listen → /radio.mp3",
        "<changeowner>",
        "<errorlog>",
        "<surprise>: it is not known here",
        "<mount>: its path is taken by flumen's own pages",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for silent in ["<chroot>", "<basedir>", "/status.xsl", "auth_header"] {
        assert!(!said.contains(silent), "{silent} has nothing to say: {said}");
    }
}

/// The rule of a mount with this `<authentication>`, and what was left out.
fn authenticated(inner: &str) -> (Option<String>, String) {
    let result = below(&format!("<mount><mount-name>/a</mount-name>{inner}</mount>"));
    let config = loaded(&result);
    (config.mounts[0].listen_auth.as_deref().map(crate::config::auth::described), result.left_out.join("\n"))
}

#[test]
fn a_mount_that_asked_goes_on_asking_or_is_closed() {
    let users = std::env::temp_dir().join(format!("flumen-import-{}-users", std::process::id()));
    let option = |name: &str, value: &str| format!("<option name=\"{name}\" value=\"{value}\"/>");
    let file = |kind: &str| format!("<authentication type=\"{kind}\">{}</authentication>", option("filename", &users.to_string_lossy()));
    std::fs::write(&users, "a:$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC\n").expect("written");
    let (rule, said) = authenticated(&file("htpasswd"));
    assert_eq!((rule, said.as_str()), (Some(format!("{{ htpasswd = \"{}\" }}", users.display())), ""));
    let nobody = Some("{ deny = [\"0.0.0.0/0\", \"::/0\"] }");
    std::fs::write(&users, "a:5ebe2294ecd0e0f08eab7690d2a6ee69\n").expect("written"); // MD5, as Icecast's own pages write it
    for (inner, part) in [
        (file("htpasswd"), "MD5"),
        (file("command"), "no equivalent"),
        ("<authentication type=\"htpasswd\"/>".to_owned(), "names no file"),
        (format!("<authentication type=\"url\">{}</authentication>", option("listener_add", "ftp://a")), "listener_add is no web address"),
    ] {
        let (rule, said) = authenticated(&inner);
        assert!(rule.as_deref() == nobody && said.contains(part), "{inner}: {rule:?} {said}");
    }
    std::fs::remove_file(&users).expect("removed");
    let url = |options: &[(&str, &str)]| {
        let options: String = options.iter().map(|(name, value)| option(name, value)).collect();
        authenticated(&format!("<authentication type=\"url\">{options}</authentication>"))
    };
    let (rule, said) = url(&[
        ("listener_add", "http://a/add"),
        ("username", "u"),
        ("password", "p&amp;w"),
        ("headers", "x-a, x-b"),
        ("timelimit_header", "x-limit:"),
    ]);
    let rule = rule.expect("a rule");
    assert!(rule.contains("url = \"http://a/add\", remove_url = \"none\"") && rule.contains("user = \"u\""), "{rule}");
    assert!(rule.contains("timelimit_header = \"x-limit\", headers = [\"x-a\", \"x-b\"]"), "{rule}");
    assert_eq!(said, "");
    let single = below(&format!(
        "<mount><mount-name>/a</mount-name><authentication type=\"url\">{}{}</authentication></mount>",
        option("listener_add", "http://a/"),
        option("allow_duplicate_users", "0")
    ));
    assert_eq!(loaded(&single).mounts[0].limits.per_user, Some(1), "a user listens once where Icecast said so");
    assert_eq!(url(&[("mount_add", "http://a/"), ("stream_auth", "http://a/")]), (None, String::new()));
}

#[test]
fn whatever_it_says_the_result_loads() {
    for xml in [
        "",
        "<limits><clients>0</clients><header-timeout>9999</header-timeout><queue-size>-5</queue-size><burst-size>x</burst-size></limits>",
        "<limits><burst-on-connect>0</burst-on-connect><burst-size>5</burst-size></limits>",
        "<limits><clients>99999999999999999999</clients><queue-size>99999999999999</queue-size></limits>",
        "<hostname>a b</hostname><location></location><admin>\n</admin>",
        "<listen-socket><port>99999</port></listen-socket><listen-socket/><port>80</port>",
        "<listen-socket><port>1</port><bind-address>a\"b</bind-address></listen-socket>",
        "<mount><mount-name>a</mount-name><stream-url>javascript:1</stream-url><type>mp3</type><max-listeners>x</max-listeners></mount>",
        "<mount><mount-name>/a</mount-name></mount><mount><mount-name>/a</mount-name><hidden>1</hidden></mount>",
        "<mount><mount-name>/a\"\n[server]</mount-name><stream-name>a&#10;b</stream-name></mount>",
        "<mount><mount-name>/a.m3u</mount-name></mount><mount/><mount><mount-name>/metrics</mount-name></mount>",
        "<mount><mount-name>/a</mount-name><burst-size>0</burst-size><max-listener-duration>-1</max-listener-duration></mount>",
        "<relay/><relay><server>::1</server><mount>/a</mount></relay><relay><upstream><uri>http://a/b</uri></upstream><local-mount>/c</local-mount></relay>",
        "<authentication><admin-user>a:b</admin-user><admin-password></admin-password><source-password>changeme</source-password></authentication>",
        "<authentication><admin-user>source</admin-user><admin-password>s3cretively</admin-password></authentication>",
        "<mount><mount-name>/a</mount-name><authentication type=\"url\"><option name=\"listener_add\" value=\"http://a/\"/><option name=\"headers\" value=\"a b,,c,d,e,f,g,h,i,j,k\"/><option name=\"header_prefix\" value=\"&amp;\"/></authentication></mount>",
        "<directory><yp-url>http://dir.example/yp</yp-url><yp-url-timeout>15</yp-url-timeout></directory><directory/><hostname>a</hostname>",
        "<paths><alias/><x-forwarded-for>1, 2</x-forwarded-for></paths><logging><accesslog><name>x</name></accesslog></logging>",
    ] {
        loaded(&below(xml));
    }
    let circles = below(
        "<mount type=\"default\"><fallback-mount>/x</fallback-mount></mount>\
         <mount><mount-name>/x</mount-name><fallback-mount>/y</fallback-mount></mount>\
         <mount><mount-name>/a</mount-name><fallback-mount>/b</fallback-mount></mount>\
         <mount><mount-name>/b</mount-name><fallback-mount>/live/1</fallback-mount></mount>\
         <mount><mount-name>/live/*</mount-name><fallback-mount>/a</fallback-mount></mount>\
         <relay><server>a</server><mount>/live/*</mount></relay>",
    );
    assert_eq!(loaded(&circles).settings_of_mounts().filter(|mount| mount.fallback.mount().is_some()).count(), 5, "{}", circles.toml);
    let said = circles.left_out.join("\n");
    assert!(said.matches("round in a circle").count() == 2 && said.contains("not a pattern"), "{said}");
    let twice = loaded(&below("<mount><mount-name>/a</mount-name></mount><mount><mount-name>/a</mount-name><hidden>1</hidden></mount>"));
    assert!(twice.mounts.len() == 1 && twice.mounts[0].profile.hidden);
    let masters = "<relay><local-mount>/s</local-mount><server>a.example</server><master><port>8010</port><mount>/a</mount></master>\
                   <master><server>b.example</server><mount>/b</mount></master></relay>";
    let relay = below(masters).toml;
    assert!(relay.contains("relay = [\"http://a.example:8010/a\", \"http://b.example:8000/b\"]"), "each master in turn: {relay}");
    let relay = below("<relay><server>::1</server><mount>/a</mount></relay>").toml;
    assert!(relay.contains("relay = [\"http://[::1]:8000/a\"]"), "{relay}");
}

#[test]
fn relays_keep_their_name_and_password_where_these_are_nobody_elses() {
    let named = |user: &str| format!("<relay-user>{user}</relay-user><relay-password>r3lay</relay-password>");
    for (inner, user, right, said) in [
        (named("edge"), "edge", true, ""),
        ("<relay-password>r3lay</relay-password>".to_owned(), "relay", true, ""),
        ("<relay-password>hackme</relay-password>".to_owned(), "relay", false, "<relay-password>: it is one of the defaults"),
        ("<relay-user>edge</relay-user>".to_owned(), "edge", false, ""),
        (named("a:b"), "relay", true, "<relay-user>: a user name cannot have a colon in it"),
        (named("source"), "relay", false, "<relay-password>: an operator or a source has the name"),
        (named("admin"), "relay", false, "<relay-user>: an operator or a source has the name"),
        (named("chief") + "<admin-user>chief</admin-user>", "relay", false, "<relay-password>: an operator"),
        (
            "<relay-password>r3lay</relay-password><admin-user>relay</admin-user>".to_owned(),
            "relay",
            false,
            "<relay-password>: an operator",
        ),
        (named("admin") + "<admin-user>a:b</admin-user>", "relay", false, "<relay-user>: an operator"),
    ] {
        let result = below(&format!("<authentication>{inner}</authentication>"));
        let relay = loaded(&result).admin.relay;
        let known = relay.password.is_some_and(|password| password.verify("r3lay"));
        assert_eq!((relay.user.as_str(), known), (user, right), "{inner}: {}", result.toml);
        let left_out = result.left_out.join("\n");
        assert!(if said.is_empty() { left_out.is_empty() } else { left_out.contains(said) }, "{inner}: {left_out}");
    }
}

#[test]
fn a_mounts_charset_is_carried_over() {
    let mount = |charset: &str| below(&format!("<mount><mount-name>/a</mount-name><charset>{charset}</charset></mount>"));
    for (charset, want) in [("windows-1251", "windows-1251"), ("ISO8859-1", "windows-1252"), ("UTF8", "windows-1252")] {
        let result = mount(charset);
        assert_eq!(loaded(&result).mounts[0].charset.to_string(), want, "{charset}");
        assert_eq!(result.left_out, Vec::<String>::new());
    }
    assert!(mount("klingon").left_out[0].contains("no charset that is known here"));
}

#[test]
fn what_is_no_configuration_of_icecast_is_refused_with_its_line() {
    for (text, line, part) in [
        ("", 1, "is no XML"),
        ("<icecast>\n<limits>\n</icecast>", 3, "is no XML"),
        ("<icy/>", 1, "its root is <icy>"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]>\n<icecast>&b;</icecast>", 1, "is no XML"),
    ] {
        let (found, problem) = import("x", text).expect_err(text);
        assert!(found == line && problem.contains(part), "{text}: {found} {problem}");
    }
    let error = import_icecast(Path::new("/no/such.xml")).expect_err("missing").to_string();
    assert!(error.contains("/no/such.xml: cannot be read"), "{error}");
}
