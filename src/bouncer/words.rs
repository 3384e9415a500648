//! What a backend is told, in the words of Icecast's URL authentication, and what it answers. Pure.
//!
//! Fields and their order are those of icecast2 2.4 (`tests/panels.rs` compares both); what a client says is cut, so that nothing
//! grows with it.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::access::Credentials;

/// How much of what a client says is passed on, in bytes: its name, its password, its address with the query, its agent. A token may
/// be in each of the first three.
#[derive(Clone, Copy)]
struct Most {
    name: usize,
    asked: usize,
    agent: usize,
}

/// How much of a header field is passed on that a backend wants to know of.
const FIELD_MOST: usize = 512;
/// What its name has at most, with what is put before it and between.
const FIELD_NAME_MOST: usize = 2 * 64 + 2;
/// In a question.
const ASKING: Most = Most { name: 2048, asked: 4096, agent: 400 };
/// In a farewell, which is kept for as long as the listener is there.
const LEAVING: Most = Most { name: 256, asked: 1024, agent: 200 };
/// The longest question with so many header fields, each byte of a client written as three, and what is ours in it.
pub(super) const fn question_most(fields: usize) -> usize {
    3 * (2 * ASKING.name + ASKING.asked + ASKING.agent + fields * (FIELD_MOST + FIELD_NAME_MOST)) + 2048
}
/// The longest explanation of a refusal.
const MESSAGE_MOST: usize = 200;

/// Where this server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its name.
    pub server: String,
    /// The port of its first socket.
    pub port: u16,
}

impl Default for Whereabouts {
    fn default() -> Self {
        Self { server: "localhost".into(), port: 8000 }
    }
}

/// Who it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) number: u64,
    /// The mount, and the query as it was typed.
    pub(super) asked: &'a str,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) address: Option<IpAddr>,
    pub(super) agent: &'a str,
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A form, field by field.
struct Form(String);

impl Form {
    fn of(action: &str) -> Self {
        Self(format!("action={action}"))
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.0, "&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)); // a string takes everything
        self
    }

    fn place(self, at: &Whereabouts) -> Self {
        self.field("server", &at.server).field("port", &at.port.to_string())
    }

    fn client(self, who: &Who<'_>, most: Most) -> Self {
        self.field("client", &who.number.to_string()).field("mount", cut(who.asked, most.asked)).user(who.credentials, most)
    }

    fn from(self, who: &Who<'_>, most: Most) -> Self {
        let agent = if who.agent.is_empty() { "-" } else { who.agent };
        self.field("ip", &address(who.address)).field("agent", cut(agent, most.agent))
    }

    fn user(self, credentials: Option<&Credentials>, most: Most) -> Self {
        let (user, password) = credentials.map_or(("", ""), |given| (&*given.user, given.password.reveal()));
        self.field("user", cut(user, most.name)).field("pass", cut(password, most.name))
    }
}

/// Who comes from this machine by a unix socket has no address; backends expect one.
fn address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_canonical().to_string())
}

/// May this listener come? Besides, what its request has of the header fields that the backend wants to know of, after a prefix.
pub(super) fn listener_add(who: &Who<'_>, at: &Whereabouts, (prefix, fields): (&str, &[(&str, &str)])) -> String {
    let form = Form::of("listener_add").place(at).client(who, ASKING).from(who, ASKING);
    fields.iter().fold(form, |form, (name, value)| form.field(&format!("{prefix}{name}"), cut(value, FIELD_MOST))).0
}

/// This listener has gone: what is said before and after how long it was here.
pub(super) fn listener_remove(who: &Who<'_>, at: &Whereabouts) -> (String, String) {
    let before = Form::of("listener_remove").place(at).client(who, LEAVING).0 + "&duration=";
    (before, Form(String::new()).from(who, LEAVING).0)
}

/// May this encoder publish to the mount, or say what it plays (`admin`)?
pub(super) fn stream_auth(who: &Who<'_>, admin: bool, at: &Whereabouts) -> String {
    let form = Form::of("stream_auth").field("mount", cut(who.asked, ASKING.asked)).field("ip", &address(who.address)).place(at);
    let form = form.user(who.credentials, ASKING);
    if admin { form.field("admin", "1").0 } else { form.0 }
}

/// A mount has a source, or has none any more.
pub(super) fn mount_changed(up: bool, mount: &str, at: &Whereabouts) -> String {
    Form::of(if up { "mount_add" } else { "mount_remove" }).field("mount", mount).place(at).0
}

/// What a backend says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Yes, perhaps for a while only.
    Yes(Option<Duration>),
    /// No, perhaps with an explanation.
    No(Option<String>),
    /// Nothing that means anything.
    Nonsense,
}

/// Understands an answer: its status, and the values of its fields by name. `yes` is the field that says so, as `name: value`; without
/// a colon its being there is enough. `limit` is the field that says for how many seconds.
pub(super) fn understand<'a>(status: u16, (yes, limit): (&str, &str), field: impl Fn(&str) -> Option<&'a str>) -> Said {
    let (name, wanted) = yes.split_once(':').map_or((yes, None), |(name, value)| (name, Some(value.trim())));
    if field(name.trim()).is_some_and(|found| wanted.is_none_or(|wanted| found.trim().starts_with(wanted))) {
        let seconds = field(limit).and_then(|text| text.trim().parse().ok()).filter(|seconds| *seconds > 0);
        return Said::Yes(seconds.map(Duration::from_secs));
    }
    match status {
        200..=299 | 400..=499 if status != 408 && status != 429 => {
            let message =
                field("icecast-auth-message").map(|text| text.chars().filter(|c| !c.is_control()).take(MESSAGE_MOST).collect::<String>());
            Said::No(message.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
        _ => Said::Nonsense, // out of order, or an address that has moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Secret;

    fn at() -> Whereabouts {
        Whereabouts { server: "radio.example".into(), port: 8000 }
    }

    #[test]
    fn a_backend_is_told_what_icecast_tells() {
        let credentials = Credentials { user: "anna & co".into(), password: Secret::new("p=ß") };
        let who = Who {
            number: 7,
            asked: "/live.ogg?x=1&y",
            credentials: Some(&credentials),
            address: Some("::ffff:192.0.2.1".parse().expect("an address")),
            agent: "VLC/3",
        };
        let (place, user) = ("server=radio%2Eexample&port=8000", "user=anna%20%26%20co&pass=p%3D%C3%9F");
        let mount = "mount=%2Flive%2Eogg%3Fx%3D1%26y";
        let tail = "ip=192%2E0%2E2%2E1&agent=VLC%2F3";
        assert_eq!(
            listener_add(&who, &at(), ("ClientHeader.", &[("x-token", "a b"), ("dnt", "1")])),
            format!("action=listener_add&{place}&client=7&{mount}&{user}&{tail}&ClientHeader.x-token=a%20b&ClientHeader.dnt=1")
        );
        assert_eq!(listener_add(&who, &at(), ("", &[])), format!("action=listener_add&{place}&client=7&{mount}&{user}&{tail}"));
        let (before, after) = listener_remove(&who, &at());
        assert_eq!(format!("{before}60{after}"), format!("action=listener_remove&{place}&client=7&{mount}&{user}&duration=60&{tail}"));
        let asked = format!("action=stream_auth&{mount}&ip=192%2E0%2E2%2E1&{place}&{user}");
        assert_eq!((stream_auth(&who, false, &at()), stream_auth(&who, true, &at())), (asked.clone(), asked + "&admin=1"));
        assert_eq!(mount_changed(true, "/a", &at()), format!("action=mount_add&mount=%2Fa&{place}"));
        assert_eq!(mount_changed(false, "/a", &at()), format!("action=mount_remove&mount=%2Fa&{place}"));
        let nobody = Who { credentials: None, address: None, agent: "", ..who };
        assert!(listener_add(&nobody, &at(), ("", &[])).ends_with("&user=&pass=&ip=127%2E0%2E0%2E1&agent=%2D"));
    }

    #[test]
    fn what_a_client_says_does_not_grow() {
        let long = "é".repeat(100_000);
        let credentials = Credentials { user: long.clone(), password: Secret::new(&long) };
        let who = Who { number: u64::MAX, asked: &long, credentials: Some(&credentials), address: None, agent: &long };
        let (before, after) = listener_remove(&who, &at());
        assert!(before.len() + after.len() + 2 * LEAVING.name < super::super::FAREWELL_MOST, "{}", before.len() + after.len());
        let server = Whereabouts { server: "é".repeat(127), port: u16::MAX };
        let (prefix, name) = ("_".repeat(64), "-".repeat(64));
        for fields in [0, 1, 8] {
            let told = vec![(name.as_str(), long.as_str()); fields];
            for question in [listener_add(&who, &server, (&prefix, &told)), stream_auth(&who, true, &server)] {
                assert!(question.len() <= question_most(fields), "{fields}: {}", question.len());
            }
        }
    }

    #[test]
    fn an_answer_is_yes_no_or_nonsense() {
        const YES: &str = "icecast-auth-user: 1";
        let yes = |seconds: Option<u64>| Said::Yes(seconds.map(Duration::from_secs));
        for (status, yes_field, fields, want) in [
            (200, YES, vec![("icecast-auth-user", "1")], yes(None)),
            (200, YES, vec![("icecast-auth-user", " 1 ")], yes(None)),
            (401, YES, vec![("icecast-auth-user", "1")], yes(None)),
            (200, YES, vec![("icecast-auth-user", "1"), ("icecast-auth-timelimit", "60")], yes(Some(60))),
            (200, YES, vec![("icecast-auth-user", "1"), ("icecast-auth-timelimit", "0")], yes(None)),
            (200, YES, vec![("icecast-auth-user", "1"), ("icecast-auth-timelimit", "-5")], yes(None)),
            (200, YES, vec![("icecast-auth-user", "0")], Said::No(None)),
            (200, YES, vec![], Said::No(None)),
            (200, YES, vec![("icecast-auth-message", "no\u{7} credit")], Said::No(Some("no credit".into()))),
            (403, YES, vec![("icecast-auth-message", "  ")], Said::No(None)),
            (200, "x-ok", vec![("x-ok", "whatever")], yes(None)),
            (200, "x-ok: yes", vec![("x-ok", "no")], Said::No(None)),
            (500, YES, vec![], Said::Nonsense),
            (302, YES, vec![], Said::Nonsense),
            (429, YES, vec![], Said::Nonsense),
        ] {
            let found = understand(status, (yes_field, "icecast-auth-timelimit"), |name| {
                fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
            });
            assert_eq!(found, want, "{status} {yes_field} {fields:?}");
        }
    }
}
