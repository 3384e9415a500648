//! In what two configurations differ, in the words of the file.
//!
//! Keys are compared as `describe` writes them, so a key that can be described cannot be forgotten here.

use std::collections::{BTreeMap, HashMap};

use super::Config;
use super::describe::{describe_mount, describe_pattern, describe_settings};
use crate::mount::{Pattern, Settings};
use crate::units::MountPath;

/// In what one configuration differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Mounts that only the new one has.
    pub added: Vec<Settings>,
    /// Mounts that only the old one has.
    pub removed: Vec<MountPath>,
    /// Mounts that both have, with their new settings and the keys that say something else now.
    pub changed: Vec<(Settings, Vec<String>)>,
    /// Patterns, as written.
    pub patterns: Patterns,
    /// Such keys of all other sections: `server.max_listeners`.
    pub sections: Vec<String>,
}

/// In what the patterns differ that publishers make mounts of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Those that only the new configuration has.
    pub added: Vec<String>,
    /// Those that only the old one has.
    pub removed: Vec<String>,
    /// Those that both have, with the keys that say something else now.
    pub changed: Vec<(String, Vec<String>)>,
}

/// Stands for keys that are not shown.
pub const SECRET: &str = "a secret";

/// In what `new` differs from `old`.
pub fn difference(old: &Config, new: &Config) -> Difference {
    let before: HashMap<_, _> = old.mounts.iter().map(|mount| (&mount.path, mount)).collect();
    let after: HashMap<_, _> = new.mounts.iter().map(|mount| (&mount.path, mount)).collect();
    let changed = new.mounts.iter().filter_map(|mount| {
        let was = before.get(&mount.path).filter(|was| **was != mount)?;
        let text = |mount: &Settings| described(|text| describe_mount(text, mount.path.as_str(), mount));
        Some((mount.clone(), keys_or_secret(&text(was), &text(mount))))
    });
    let mut sections = changed_keys(&sections(old), &sections(new));
    // What opens doors is not described.
    if old.admin.password != new.admin.password {
        sections.push("admin.password".to_owned());
        sections.sort();
    }
    if old.admin.relay.password != new.admin.relay.password {
        sections.push("relay.password".to_owned());
        sections.sort();
    }
    let logins = |config: &Config| {
        config.mirrors.iter().filter_map(|mirror| Some((mirror.address(), mirror.server.login.clone()?))).collect::<Vec<_>>()
    };
    if logins(old) != logins(new) {
        sections.push("mirror.password".to_owned());
        sections.sort();
    }
    Difference {
        added: new.mounts.iter().filter(|mount| !before.contains_key(&mount.path)).cloned().collect(),
        removed: old.mounts.iter().map(|mount| &mount.path).filter(|path| !after.contains_key(path)).cloned().collect(),
        changed: changed.collect(),
        patterns: patterns(&old.patterns, &new.patterns),
        sections,
    }
}

fn patterns(old: &[Pattern], new: &[Pattern]) -> Patterns {
    let twin = |among: &[Pattern], pattern: &Pattern| among.iter().find(|other| other.paths == pattern.paths).cloned();
    let only = |here: &[Pattern], there: &[Pattern]| {
        here.iter().filter(|pattern| twin(there, pattern).is_none()).map(|pattern| pattern.paths.to_string()).collect()
    };
    let text = |pattern: &Pattern| described(|text| describe_pattern(text, pattern));
    let changed = new.iter().filter_map(|pattern| {
        let was = twin(old, pattern).filter(|was| was != pattern)?;
        Some((pattern.paths.to_string(), keys_or_secret(&text(&was), &text(pattern))))
    });
    Patterns { added: only(new, old), removed: only(old, new), changed: changed.collect() }
}

fn described(describe: impl FnOnce(&mut String)) -> String {
    let mut text = String::new();
    describe(&mut text);
    text.replace("[[mount]]", "") // the keys go without the section's name
}

/// The keys that say something else, or that what does is not to be seen.
fn keys_or_secret(old: &str, new: &str) -> Vec<String> {
    let keys = changed_keys(old, new);
    if keys.is_empty() { vec![SECRET.to_owned()] } else { keys }
}

fn sections(config: &Config) -> String {
    let mut text = String::new();
    describe_settings(&mut text, config);
    text
}

/// Every key in a text as `describe` writes it, with all that is written for it, section by section.
fn keys(text: &str) -> BTreeMap<String, Vec<&str>> {
    let (mut section, mut found) = (String::new(), BTreeMap::<_, Vec<_>>::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.entry(format!("{section}{key}")).or_default().push(value);
        }
    }
    found
}

fn changed_keys(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (keys(old), keys(new));
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let other = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, _)| key);
    let mut changed: Vec<_> = gone.chain(other).cloned().collect();
    changed.sort();
    changed
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::super::{Environment, Place, Source, load, mirror, mount, nowhere, server};
    use super::*;

    fn config(name: &str, text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("flumen-difference-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        let config =
            load(&Source::File(path.clone()), &Environment::from([("PATH", "")]), &|_| Ok(())).unwrap_or_else(|errors| panic!("{errors}"));
        std::fs::remove_file(path).expect("removed");
        config
    }

    fn known(read: impl FnOnce(&mut Reader<'_>)) -> Vec<&'static str> {
        let mut errors = Vec::new();
        let mut reader = Reader::new("", Place::Argument("".into()), BTreeMap::new(), &mut errors);
        read(&mut reader);
        reader.known().to_vec()
    }

    #[test]
    fn every_key_of_a_mount_is_named_when_it_changes_and_no_other() {
        let secret = std::env::temp_dir().join(format!("flumen-difference-{}-secret", std::process::id()));
        std::fs::write(&secret, "s3cretively").expect("written");
        let file = format!("push_password_file = \"{}\"", secret.display());
        let heard = std::env::temp_dir().join(format!("flumen-difference-{}-intro.ogg", std::process::id()));
        std::fs::write(&heard, b"OggS").expect("written");
        let intro = format!("intro = \"file:{}\"", heard.display());
        const HASH: &str = "push_password_hash = \"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\"";
        const RELAY: &str = "relay = [\"http://a/x\"]";
        let with_relay = |line: &str| format!("{RELAY}\n{line}");
        let on_demand = with_relay("relay_on_demand = true");
        let authority = std::env::temp_dir().join(format!("flumen-difference-{}-ca.pem", std::process::id()));
        let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate").cert.pem();
        std::fs::write(&authority, pem).expect("written");
        let ca = with_relay(&format!("relay_ca = \"{}\"", authority.display()));
        let asked = with_relay("relay_password = \"x\"");
        let asked_from_file = with_relay(&format!("relay_password_file = \"{}\"", secret.display()));
        let asked_as = with_relay("relay_password = \"x\"\nrelay_user = \"u\"");
        // What is there before, what is there then, and the keys that are named where they are not the one.
        let steps = [
            ("", "pipeline = \"fakesrc\"", "pipeline source_timeout takeover"),
            ("", RELAY, "relay relay_on_demand source_timeout takeover"),
            (RELAY, &on_demand, "relay_on_demand"),
            (RELAY, &ca, "relay_ca"),
            (RELAY, &asked, SECRET),
            (RELAY, &asked_from_file, SECRET),
            (RELAY, &asked_as, SECRET),
            ("", "push_password = \"s3cretively\"", SECRET),
            ("", &file, SECRET),
            ("", HASH, SECRET),
            ("", "source_timeout = \"11s\"", ""),
            ("", "takeover = true", ""),
            ("", "content_type = \"audio/ogg\"", ""),
            ("", "name = \"N\"", ""),
            ("", "description = \"D\"", ""),
            ("", "genre = \"G\"", ""),
            ("", "url = \"http://example.org/\"", ""),
            ("", "public = true", ""),
            ("", "hidden = true", ""),
            ("", "tcp = [\"127.0.0.1:9000\"]", ""),
            ("", "sync = \"latest\"", ""),
            ("", "burst = \"1s\"", ""),
            ("", "burst_max = \"1MiB\"", ""),
            ("", "keep = \"11s\"", ""),
            ("", "ring_max = \"32MiB\"", ""),
            ("", "soft_limit = \"11s\"", ""),
            ("", "hard_limit = \"31s\"", ""),
            ("", "recover = \"none\"", ""),
            ("", "resend_streamheader = false", ""),
            ("", "idle_timeout = \"61s\"", ""),
            ("", "coalesce = \"100ms\"", ""),
            ("", "send_buffer = \"64KiB\"", ""),
            ("", "dscp = 46", ""),
            ("", "max_listeners = 7", ""),
            ("", "max_listener_duration = \"1h\"", ""),
            ("", "max_listeners_per_address = 7", ""),
            ("", "max_listeners_per_user = 7", ""),
            ("", "max_bandwidth = \"10Mbit/s\"", ""),
            ("", "max_join_rate = 7", ""),
            ("", "redirect_on_overflow = \"https://b.example/a\"", ""),
            ("", "on_source_end = \"close\"", ""),
            ("", "linger = \"10s\"", ""),
            ("", "fallback = \"/b\"", ""),
            ("", "override = true", ""),
            ("", "fallback_when_full = true", ""),
            ("", &intro, ""),
            ("", "allow_query = true", ""),
            ("", "half_close = \"keep\"", ""),
            ("", "icy_metadata = \"off\"", ""),
            ("", "icy_metaint = 8192", ""),
            ("", "charset = \"koi8-r\"", ""),
            ("", "ogg_chaining = \"hide\"", ""),
            ("", "cors = \"none\"", ""),
            ("", "listen_auth = { allow = [\"10.0.0.0/8\"] }", ""),
            ("", "stream_auth = { url = \"http://a/\" }", ""),
            ("", "mount_add = \"http://a/\"", ""),
            ("", "mount_remove = \"http://a/\"", ""),
        ];
        let with = |lines: &str| config("mount", &format!("[[mount]]\npath = \"/a\"\n{lines}\n[[mount]]\npath = \"/b\"\n"));
        let mut walked = Vec::new();
        for (before, after, named) in steps {
            let key = after.lines().last().and_then(|line| line.split(' ').next()).expect("a key");
            walked.push(key);
            let (before, then) = (with(before), with(after));
            for (old, new) in [(&before, &then), (&then, &before)] {
                let found = difference(old, new);
                let changed: Vec<_> = found.changed.iter().map(|(mount, keys)| (mount.path.as_str(), keys.join(" "))).collect();
                assert!(found.added.is_empty() && found.removed.is_empty(), "{after}");
                assert_eq!(changed, [("/a", if named.is_empty() { key } else { named }.to_owned())], "{after}");
            }
        }
        for file in [secret, authority, heard] {
            std::fs::remove_file(file).expect("removed");
        }
        let mut known = known(|reader| drop(mount::read(reader, nowhere(), &|_| Ok(()))));
        known.sort_unstable();
        walked.sort_unstable();
        assert_eq!(walked, known, "each key of a mount is walked here");
    }

    #[test]
    fn every_key_of_the_server_is_named_when_it_changes() {
        let lines = [
            "listen = [\"127.0.0.1:9000\"]",
            "shards = 3",
            "user = \"nobody\"",
            "group = \"nogroup\"\nuser = \"nobody\"",
            "max_listeners = 10001",
            "max_connections = 12001",
            "header_timeout = \"14s\"",
            "max_header_size = \"9KiB\"",
            "max_listeners_per_address = 7",
            "max_listeners_per_user = 7",
            "max_connections_per_address = 7",
            "max_bandwidth = \"1Gbit/s\"",
            "max_join_rate = 7",
            "trusted_proxies = [\"10.0.0.0/8\", \"unix\"]",
            "proxy_protocol = [\"127.0.0.1:9001\"]",
            "banned_file = \"/dev/null\"",
            "state_dir = \"/tmp\"",
            "memory_limit = \"1GiB\"",
            "redirect_peers = [\"http://b.example:8000\"]",
            "redirect_from = \"70%\"\nredirect_peers = [\"http://b.example:8000\"]",
        ];
        let base = config("server", "");
        let mut walked = Vec::new();
        for line in lines {
            let key = line.split(' ').next().expect("a key");
            walked.push(key);
            let found = difference(&base, &config("server", &format!("[server]\n{line}\n")));
            assert!(found.sections.contains(&format!("server.{key}")), "{line}: {found:?}");
        }
        let mut known = known(|reader| drop(server::read(reader)));
        known.retain(|key| *key != "tls"); // a section of its own, with files
        known.sort_unstable();
        walked.sort_unstable();
        assert_eq!(walked, known, "each key of the server is walked here");
        let ca = std::env::temp_dir().join(format!("flumen-hook-ca-{}.pem", std::process::id()));
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        std::fs::write(&ca, made.cert.pem()).expect("written");
        let by_tls = format!("[[webhook]]\nurl = \"https://a/\"\nca = \"{}\"\n", ca.display());
        for (text, keys) in [
            ("[log]\nformat = \"json\"\n", &["log.format"] as &[_]),
            (
                "[[address_group]]\nname = \"de\"\nnetworks = [\"192.0.2.0/24\"]\n",
                &["address_group.max_listeners", "address_group.name", "address_group.networks"],
            ),
            ("[log]\naccess = \"/a\"\n", &["log.access"]),
            ("[log]\naccess_format = \"json\"\n", &["log.access_format"]),
            ("[metrics]\nicecast_exporter = true\n", &["metrics.icecast_exporter"]),
            ("[[webhook]]\nurl = \"http://a/\"\n", &["webhook.events", "webhook.url"]),
            (&by_tls, &["webhook.ca", "webhook.events", "webhook.url"]),
            ("[[directory]]\nurl = \"http://a/\"\nserver = \"http://b\"\n", &["directory.server", "directory.url"]),
            ("[[mirror]]\nfrom = \"http://a\"\n", &["mirror.from", "mirror.interval", "mirror.max_mounts", "mirror.on_demand"]),
            ("[admin]\nuser = \"x\"\n", &["admin.user"]),
            ("[admin]\npassword = \"s3cret\"\n", &["admin.password"]),
            ("[admin]\ncontact = \"x\"\n", &["admin.contact"]),
            ("[admin]\nlocation = \"x\"\n", &["admin.location"]),
            ("[admin]\nhostname = \"x\"\n", &["admin.hostname"]),
        ] {
            assert_eq!(difference(&base, &config("server", text)).sections, keys, "{text}");
        }
    }

    #[test]
    fn every_key_of_the_relays_role_is_named_when_it_changes() {
        let secret = std::env::temp_dir().join(format!("flumen-difference-{}-relay", std::process::id()));
        std::fs::write(&secret, "s3cret").expect("written");
        let by_file = format!("password_file = \"{}\"", secret.display());
        let by_hash = "password_hash = \"$2b$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC\"";
        let (base, mut walked) = (config("role", ""), Vec::new());
        for (line, named) in [
            ("user = \"edge\"", "relay.user"),
            ("password = \"s3cret\"", "relay.password"),
            (&by_file, "relay.password"),
            (by_hash, "relay.password"),
        ] {
            walked.push(line.split(' ').next().expect("a key"));
            assert_eq!(difference(&base, &config("role", &format!("[relay]\n{line}\n"))).sections, [named], "{line}");
        }
        std::fs::remove_file(secret).expect("removed");
        let mut known = known(|reader| drop(server::read_relay(reader, &crate::admin::Settings::default())));
        known.sort_unstable();
        walked.sort_unstable();
        assert_eq!(walked, known, "each key of the role is walked here");
    }

    #[test]
    fn every_key_of_a_mirror_is_named_when_it_changes() {
        let file = |name: &str| std::env::temp_dir().join(format!("flumen-difference-{}-mirror-{name}", std::process::id()));
        let (authority, secret) = (file("ca.pem"), file("secret"));
        let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate").cert.pem();
        std::fs::write(&authority, pem).expect("written");
        std::fs::write(&secret, "s3cret").expect("written");
        let with = |lines: &str| config("mirror", &format!("[[mirror]]\n{lines}\n"));
        const FROM: &str = "from = \"http://a\"";
        let ca = format!("{FROM}\nca = \"{}\"", authority.display());
        let from_file = format!("{FROM}\npassword_file = \"{}\"", secret.display());
        let mut walked = Vec::new();
        for (after, named) in [
            ("from = \"http://b\"", "mirror.from"),
            ("from = \"http://a\"\non_demand = true", "mirror.on_demand"),
            ("from = \"http://a\"\ninterval = \"7s\"", "mirror.interval"),
            ("from = \"http://a\"\nmax_mounts = 7", "mirror.max_mounts"),
            (&ca, "mirror.ca"),
            ("from = \"http://a\"\npassword = \"x\"", "mirror.password"),
            (&from_file, "mirror.password"),
            ("from = \"http://a\"\npassword = \"x\"\nuser = \"u\"", "mirror.password"),
        ] {
            walked.push(after.lines().last().and_then(|line| line.split(' ').next()).expect("a key"));
            assert_eq!(difference(&with(FROM), &with(after)).sections, [named], "{after}");
        }
        for path in [authority, secret] {
            std::fs::remove_file(path).expect("removed");
        }
        let defaults = config("mirror", "[[mount]]\npath = \"/a\"\n").mounts.remove(0);
        let mut known = known(|reader| drop(mirror::section(reader, &defaults)));
        known.sort_unstable();
        walked.sort_unstable();
        assert_eq!(walked, known, "each key of a mirror is walked here");
    }

    #[test]
    fn patterns_come_and_go_and_change_as_mounts_do() {
        let with = |text: &str| config("patterns", text);
        let old = with("[[mount]]\npath = \"/a/*\"\n[[mount]]\npath = \"/b/*\"\npush_password = \"s3cret\"\n[[mount]]\npath = \"/c/*\"\n");
        let new =
            with("[[mount]]\npath = \"/a/*\"\nmax_mounts = 7\ngenre = \"G\"\n[[mount]]\npath = \"/b/*\"\n[[mount]]\npath = \"/d/*\"\n");
        let found = difference(&old, &new);
        let secret = vec![SECRET.to_owned()];
        let changed = vec![("/a/*".to_owned(), vec!["genre".to_owned(), "max_mounts".to_owned()]), ("/b/*".to_owned(), secret)];
        let patterns = Patterns { added: vec!["/d/*".to_owned()], removed: vec!["/c/*".to_owned()], changed };
        assert_eq!(found, Difference { patterns, ..Difference::default() });
    }

    #[test]
    fn mounts_come_and_go_by_their_paths_whatever_their_order() {
        let old = config("order", "[[mount]]\npath = \"/a\"\n[[mount]]\npath = \"/b\"\n[[mount]]\npath = \"/c\"\n");
        let new = config("order", "[[mount]]\npath = \"/c\"\nname = \"C\"\n[[mount]]\npath = \"/d\"\n[[mount]]\npath = \"/a\"\n");
        let found = difference(&old, &new);
        let names = |mounts: &[Settings]| mounts.iter().map(|mount| mount.path.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&found.added), ["/d"]);
        assert_eq!(found.removed.iter().map(MountPath::as_str).collect::<Vec<_>>(), ["/b"]);
        assert_eq!(found.changed.iter().map(|(mount, _)| mount.path.as_str()).collect::<Vec<_>>(), ["/c"]);
        assert_eq!(difference(&new, &new), Difference::default());
    }
}
