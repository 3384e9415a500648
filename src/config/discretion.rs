//! What of a configuration may be repeated to whoever reads its errors: everything but secrets.
//!
//! - What is a secret is told by the name before it, and by its place in front of an `@`. Both err on the side of silence: an
//!   operator who reads `…` still has the place and the key, and looks there.
//! - Hiding comes before shortening: half a login is still half a password.

/// What stands where a secret was.
pub(super) const HIDDEN: &str = "…";

/// Whether a name is that of a secret, also when it is mistyped (`pasword`, `Passwd`, `ADMIN_PW`).
pub(super) fn is_secret(name: &str) -> bool {
    const WITHIN: [&str; 6] = ["pas", "pwd", "secret", "hash", "token", "credential"];
    let name = name.to_ascii_lowercase();
    WITHIN.iter().any(|word| name.contains(word)) || ["pw", "key"].iter().any(|word| name.ends_with(word))
}

/// A text without the secrets in it.
pub(super) fn discreet(text: &str) -> String {
    without_logins(&without_settings(text))
}

/// A user's name, as [`discreet`] shows it in quotes, up to a colon: what follows that is a password by mistake.
pub(super) fn name_only(shown: &str) -> String {
    match shown.split_once(':') {
        Some((name, _)) => format!("{name}:{HIDDEN}\""),
        None => shown.to_owned(),
    }
}

/// `http://user:word@host` becomes `http://…@host`, whatever the scheme, and without one as well. What is in front of the last `@`
/// goes, for an `@`, a slash or a blank may be a part of the word.
fn without_logins(text: &str) -> String {
    const SCHEME: &str = "://";
    let mut shown = String::with_capacity(text.len());
    for (i, part) in text.split(SCHEME).enumerate() {
        if i > 0 {
            shown.push_str(SCHEME);
        }
        match part.rsplit_once('@') {
            // Without a scheme a colon tells a login from the address of a mailbox.
            Some((login, host)) if i > 0 || login.contains(':') => {
                shown.push_str(HIDDEN);
                shown.push('@');
                shown.push_str(host);
            }
            _ => shown.push_str(part),
        }
    }
    shown
}

/// `password=word` becomes `password=…`: in a pipeline, in a query, in a table that the environment gives.
fn without_settings(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        shown.push_str(before);
        shown.push('=');
        let named = before.trim_end().trim_end_matches(['"', '\'']);
        let name = &named[named.trim_end_matches(is_name).len()..];
        rest = if is_secret(name) {
            shown.push_str(&after[..after.len() - after.trim_start().len()]);
            shown.push_str(HIDDEN);
            behind_value(after.trim_start())
        } else {
            after
        };
    }
    shown + rest
}

/// What follows a value: behind its closing quote, or from the next blank on.
fn behind_value(text: &str) -> &str {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return text.find(char::is_whitespace).map_or("", |end| &text[end..]);
    };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return &text[at + 1..];
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}

/// As much of a line that is no TOML as cannot be a value: the key in front of a `=`, or the head of a section. A word that stands by
/// itself may be what was meant for the line above.
pub(super) fn beginning(line: &str) -> String {
    let line = line.trim();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '[' | ']');
    let (name, rest) = line.split_at(line.find(|c| !is_name(c)).unwrap_or(line.len()));
    match rest.trim_start() {
        "" if name.starts_with('[') => name.to_owned(),
        _ if name.starts_with('[') => format!("{name} {HIDDEN}"),
        value if !name.is_empty() && value.starts_with('=') && !value.starts_with("==") => format!("{name} = {HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_name() {
        for name in [
            "password",
            "Password",
            "ADMIN_PASSWORD",
            "pasword",
            "passwd",
            "passphrase",
            "push_password_hash",
            "user-pw",
            "pwd",
            "client_secret",
            "api_token",
            "apikey",
            "API_KEY",
            "credentials",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["user", "path", "keyframe", "key-int-max", "burst", "url", "max_listeners", "listen", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_text_is_shown_without_its_logins_and_secrets() {
        for (text, want) in [
            ("http://radio.example:8000/live.ogg", "http://radio.example:8000/live.ogg"),
            ("http://user:word@host:1/a", "http://…@host:1/a"),
            ("http://word@host/a", "http://…@host/a"),
            ("htp://user:word@host", "htp://…@host"),
            ("user:word@host", "…@host"),
            ("http:/user:word@host", "…@host"),
            ("http://user:w@r/d x@host", "http://…@host"),
            ("[\"http://a:word@b/1\", \"https://c:word@d/2\"]", "[\"http://…@b/1\", \"https://…@d/2\"]"),
            ("me@radio.example", "me@radio.example"),
            ("souphttpsrc location=http://h/ user-id=u user-pw=word ! x", "souphttpsrc location=http://h/ user-id=u user-pw=… ! x"),
            ("http://h/a?token=word&x=1", "http://h/a?token=…"),
            ("{ url = \"http://h/\", password = \"w \\\" rd\", user = \"u\" }", "{ url = \"http://h/\", password = …, user = \"u\" }"),
            ("{ \"password\" = 'wo rd', x = 1", "{ \"password\" = …, x = 1"),
            ("password = \"word", "password = …"),
            ("x264enc key-int-max=60 ! a", "x264enc key-int-max=60 ! a"),
            ("a = b = c", "a = b = c"),
        ] {
            assert_eq!(discreet(text), want, "{text}");
        }
    }

    #[test]
    fn a_line_is_shown_up_to_its_value() {
        for (line, want) in [
            ("  burst = 5s", "burst = …"),
            ("burst=5s # word", "burst = …"),
            ("[[mount]", "[[mount]"),
            ("[admin] password = \"word\"", "[admin] …"),
            ("password \"word\"", "…"),
            ("password: word", "…"),
            ("word", "…"),
            ("\"word\",", "…"),
            ("\"word\" = 5", "…"),
            ("d29yZA=", "…"),
            ("word==", "…"),
            ("= word", "…"),
            ("", "…"),
        ] {
            assert_eq!(beginning(line), want, "{line}");
        }
    }
}
