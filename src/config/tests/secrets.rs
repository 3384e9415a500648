//! What no error may tell: whoever mistypes a setting posts the answer in a chat, and it is in the journal.

use super::outside::launched;
use super::*;

/// What every case below has for a secret, as one word or a part of one.
const WORD: &str = "Sw0rdfish";

/// Loads what an operator wrote, with the word in place of `§`; says every error.
fn answer(text: &str, variables: &[(&str, &str)], set: Option<&str>) -> String {
    let put = |text: &str| text.replace('§', WORD);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, put(value))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let result = match set {
        Some(set) => launched(&[&put(set)], &variables),
        None => load_with(&put(text), &variables),
    };
    result.map_or_else(|errors| errors.to_string(), |_| "it loads".to_owned())
}

#[test]
fn no_error_of_a_file_tells_a_secret() {
    let mount = |lines: &str| format!("[[mount]]\npath = \"/a\"\n{lines}\n");
    let mut told = Vec::new();
    for (text, part) in [
        // What is no TOML.
        ("[admin]\npassword = §\n".to_owned(), ":2: `password = …`"),
        ("[admin]\npassword = \"§\nuser = \"chief\"\n".to_owned(), ":2: `password = …`"),
        ("[admin]\npassword = \"a\"§\"\n".to_owned(), ":2: `password = …`"),
        ("[admin]\npassword =\n§\n".to_owned(), ":2: "),
        ("[admin]\npassword: §\n".to_owned(), ":2: `…`"),
        ("[admin]\npassword \"§\"\n".to_owned(), ":2: `…`"),
        ("[admin] password = \"§\"\n".to_owned(), ":1: `[admin] …`"),
        ("[admin]\npassword = \"\"\"\n§ = \n".to_owned(), "multi-line"),
        ("[admin]\npassword = '''\n§".to_owned(), ": …: "),
        ("admin = { password = \"§\", user = chief }\n".to_owned(), ":1: `admin = …`"),
        ("[admin]\npassword = \"x\"\npassword = \"§\"\n".to_owned(), ":3: `password = …`: duplicate key"),
        (mount("relay = \"http://user:§@host/live\" \"x\""), ":3: `relay = …`"),
        (mount("relay = [\n\"http://user:§@host/live\"\n\"http://other/\"\n]"), "each key once"),
        (mount("listen_auth = { url = \"http://u:§@h/\", password = \"§\" user = 5 }"), "`listen_auth = …`"),
        // Keys that nobody knows.
        ("[admin]\nPassword = \"§\"\n".to_owned(), "admin.Password = …"),
        ("[admin]\nPASSWD = \"§\"\n".to_owned(), "admin.PASSWD = …"),
        ("[admin]\npw = \"§\"\n".to_owned(), "admin.pw = …"),
        ("[admin]\npassphrase = \"§\"\n".to_owned(), "admin.passphrase = …"),
        ("[admin]\napi_key = \"§\"\n".to_owned(), "admin.api_key = …"),
        ("[admin]\npaswd = [\"§\"]\n".to_owned(), "admin.paswd = …"),
        ("[admni]\npassword = \"§\"\n".to_owned(), "admni = {…}"),
        ("[server]\nupstream = \"http://user:§@host/\"\n".to_owned(), "server.upstream = \"http://…@host/\""),
        // Addresses with a login in them.
        (mount("relay = \"htp://user:§@host/live\""), "mount[0].relay = \"htp://…@host/live\""),
        (mount("relay = [\"http://fine/\", \"user:§@host\"]"), "mount[0].relay[1] = \"…@host\""),
        (mount("relay = \"http://user:§ §@host/live\""), "mount[0].relay = \"http://…@host/live\""),
        (mount("relay = \"http://user:§/x@host/\"\npipeline = \"x\""), "mount[0].relay"),
        (mount("relay = \"http://user:§@host/\"\npipeline = \"x\""), "mount[0].relay = \"http://…@host/\""),
        (mount("redirect_on_overflow = \"user:§@host\""), "redirect_on_overflow = \"…@host\""),
        (mount("mount_add = \"ftp://user:§@host\""), "mount[0].mount_add = \"ftp://…@host\""),
        (mount("url = \"ftp://user:§@host\""), "mount[0].url = \"ftp://…@host\""),
        (mount("fallback = \"http://user:§@host/a\""), "mount[0].fallback = \"http://…@host/a\""),
        (mount("name = \"http://user:§@host/\\u0007\""), "mount[0].name"),
        (mount("tcp = \"user:§@9000\""), "mount[0].tcp = \"…@9000\""),
        (mount("burst = \"user:§@5s\""), "mount[0].burst = \"…@5s\""),
        (mount(&format!("relay = \"ftp://{}:§@host/\"", "u".repeat(120))), "ftp://…@host/"),
        (mount("pipeline = \"nosuch location=http://user:§@host/ ! a\""), "nosuch location=http://…@host/ ! a"),
        (mount("pipeline = \"nosuch user-id=u user-pw=§ ! a\""), "user-pw=… ! a"),
        ("[[mirror]]\nfrom = \"http://user:§@host:8000\"\n".to_owned(), "mirror[0].from = \"http://…@host:8000\": has a user in it"),
        ("[[mirror]]\nfrom = \"http://user:§@host:8000/x\"\n".to_owned(), "mirror[0].from = \"http://…@host:8000/x\": has a path"),
        ("[[webhook]]\nurl = \"user:§@host\"\n".to_owned(), "webhook[0].url = \"…@host\""),
        ("[[webhook]]\nurl = \"http://host/?token=§ \"\n".to_owned(), "webhook[0].url = \"http://host/?token=…"),
        ("[[directory]]\nurl = \"https://user:§@host/\"\nserver = \"http://a/\"\n".to_owned(), "directory[0].url = \"https://…@host/\""),
        ("[server]\nredirect_peers = [\"http://user:§@host\"]\n".to_owned(), "\"http://…@host\": is more than a server"),
        ("[server]\nlisten = [\"user:§@host:8000\"]\n".to_owned(), "server.listen[0] = \"…@host:8000\""),
        ("[server]\nlisten = [\"user:§@host\"]\n".to_owned(), "server.listen[0] = \"…@host\": has no number for a port"),
        // A password beside the name.
        (mount("relay = \"http://host/\"\nrelay_user = \"name:§\"\nrelay_password = \"x\""), "relay_user = \"name:…\""),
        ("[admin]\nuser = \"name:§\"\n".to_owned(), "admin.user = \"name:…\""),
        (mount("listen_auth = { url = \"http://a/\", password = \"§\" }"), "password without a user"),
        (mount("listen_auth = { url = \"http://a/\", user = \"u\", password = \"§\", password_file = \"/no/such\" }"), "cannot be read"),
        (mount("listen_auth = { url = \"http://a/\", user = \"u\", password = \"§\\u0007\" }"), "in password: it is no password"),
        (mount("listen_auth = { url = \"http://u:§@h/\", timeout = \"1h\" }"), "in timeout"),
        (mount("listen_auth = { url = \"ftp://u:§@h/\" }"), "in url"),
        (mount("listen_auth = \"http://u:§@h/\""), "listen_auth = \"http://…@h/\""),
    ] {
        let answer = answer(&text, &[], None);
        if answer.contains(WORD) || !answer.contains(part) {
            told.push(format!("{text}\n{answer}\nwanted: {part}\n"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn no_error_of_the_environment_or_the_command_line_tells_a_secret() {
    const MOUNT: &str = "[[mount]]\npath = \"/a\"\n";
    let mut told = Vec::new();
    for (name, value, part) in [
        ("FLUMEN_NOSUCH__PASSWORD", "§", "FLUMEN_NOSUCH__PASSWORD: …"),
        ("FLUMEN_NOSUCH__PASSPHRASE", "§", "FLUMEN_NOSUCH__PASSPHRASE: …"),
        ("FLUMEN_NOSUCH__API_KEY", "§", "FLUMEN_NOSUCH__API_KEY: …"),
        ("FLUMEN_NOSUCH__TOKEN", "§", "FLUMEN_NOSUCH__TOKEN: …"),
        ("FLUMEN_ADMIN_PASSWORD", "§", "one underscore"),
        ("FLUMEN_ADMIN__PASWORD", "§", "did you mean"),
        ("FLUMEN_NOSUCH__FROM", "http://u:§@h", "FLUMEN_NOSUCH__FROM: \"http://…@h\""),
        ("FLUMEN_MOUNT__7__RELAY", "http://u:§@h", "there is no mount 7"),
        ("FLUMEN_MOUNT__0__RELAY", "http://u:§@h/,ftp://u:§@h/", "mount[0].relay"),
        ("FLUMEN_MOUNT_DEFAULTS__LISTEN_AUTH", "{ url = \"http://h/\", password = \"§\" }", "password = …"),
        ("FLUMEN_MOUNT_DEFAULTS__LISTEN_AUTH", "{ url = \"http://u:§@h/\" ", "is no table"),
        ("FLUMEN_WEBHOOK__0__URL", "http://u:§@h/", "there is no webhook 0"),
    ] {
        let answer = answer(MOUNT, &[(name, value)], None);
        if answer.contains(WORD) || !answer.contains(part) {
            told.push(format!("{name} = {value}\n{answer}\nwanted: {part}\n"));
        }
    }
    for (set, part) in [
        ("admin.pasword=§", "--set admin.pasword: admin.pasword = …"),
        ("admin.user=name:§", "--set admin.user: admin.user = \"name:…\""),
        ("admn.password=§", "--set admn.password: admn.password = …"),
        ("admin.password_hash=§", "--set admin.password_hash: admin.password_hash = …"),
        ("relay=ftp://u:§@h", "--set relay: "),
        ("admn.url=http://u:§@h", "--set admn.url: admn.url = \"http://…@h\""),
        ("admin.password:§", "--set admin.password…: has no key, or no value behind it"),
        ("admin.password §", "--set admin.password…: has no key, or no value behind it"),
        ("=§", "--set …: has no key, or no value behind it"),
    ] {
        let answer = answer(set, &[], Some(set));
        if answer.contains(WORD) || !answer.contains(part) {
            told.push(format!("--set {set}\n{answer}\nwanted: {part}\n"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}
