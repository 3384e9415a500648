//! The keys of a mount that another server fills: where from, who asks, and whom it believes.

use std::path::Path;
use std::sync::Arc;

use super::reader::{Parsed, Reader, Wrong};
use super::secret;
use super::tree::Node;
use super::value::{boolean, line, path, texts};
use crate::access::Secret;
use crate::ingest::relay::{Upstream, certificates};
use crate::mount::{Login, RelaySettings};

/// The longest name that asks another server.
const USER_MOST: usize = 64;

/// Reads them all.
pub(super) fn read(reader: &mut Reader<'_>) -> RelaySettings {
    let upstreams = reader.take("relay", upstreams).unwrap_or_default();
    let on_demand = reader.take("relay_on_demand", boolean).unwrap_or(false);
    let login = login(reader, "relay_user", ["relay_password", "relay_password_file"]);
    RelaySettings { upstreams, on_demand, login, ca: reader.take("relay_ca", ca), mirrored: false }
}

/// By what name and password another server is asked; not at all without a password.
pub(super) fn login(reader: &mut Reader<'_>, user: &'static str, password: [&'static str; 2]) -> Option<Login> {
    let name = reader.take_name(user, name);
    let secret: Option<Secret> = secret::shown_elsewhere(reader, password);
    if name.is_some() && secret.is_none() && !password.iter().any(|key| reader.failed(key)) {
        reader.wrong(user, "is of no use without a password", format!("write {}, or {}", password[0], password[1]));
    }
    secret.map(|password| Login { user: name.unwrap_or_else(|| Login::USER.to_owned()), password })
}

fn name(node: &Node) -> Parsed<String> {
    let name = line(USER_MOST)(node)?;
    if name.contains(':') {
        return Err(vec![Wrong::new("has a colon in it", "write the name without the password: that has a key of its own")]);
    }
    Ok(name)
}

/// Where a relay pulls from: one address, or several.
fn upstreams(node: &Node) -> Parsed<Vec<Arc<str>>> {
    let parse = |text: &str| match Upstream::parse(text) {
        Ok(_) => Ok(Arc::from(text)),
        Err(why) => Err(vec![Wrong::new(why, "write an address such as \"http://radio.example:8000/live.ogg\"")]),
    };
    texts(node, "[\"http://radio.example:8000/live.ogg\"]", |text, _| parse(text))
}

/// A file with certificates, which are looked at once here and again at each connection.
pub(super) fn ca(node: &Node) -> Parsed<Arc<Path>> {
    let path = path(node)?;
    certificates(&path).map_err(|why| {
        vec![Wrong::new(why, "name a PEM file with the certificate of who signed the other server's (-----BEGIN CERTIFICATE-----)")]
    })?;
    Ok(path.into())
}
