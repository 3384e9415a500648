//! `[[server.tls]]`: sockets that speak TLS, and their certificates: files, or an authority that gives them.
//!
//! A relative path counts from the file that it is written in, for that is where certificates are put beside.

use super::address::{self, Claim, Claims};
use super::error::{ConfigError, Place};
use super::reader::{Parsed, Reader, Wrong, all};
use super::tree::{Node, Table, Value};
use super::value::{boolean, line, path, texts};
use crate::acme::{self, DOMAINS_MOST};
use crate::door::ListenAddress;
use crate::door::certificate::{self, Files, Which};
use crate::door::tls::TlsSettings;

const LISTEN_REMEDY: &str = "write listen = [\"0.0.0.0:8443\"]";
const PAIRS_REMEDY: &str = "write certificates = [{ cert = \"fullchain.pem\", key = \"key.pem\" }]";

/// Reads every section; each of their addresses joins the claims. Beside them, the certificates that an authority is asked for.
pub(super) fn read(
    sections: Vec<(Place, Table)>,
    claims: &mut Claims,
    errors: &mut Vec<ConfigError>,
) -> (Vec<TlsSettings>, Vec<acme::Settings>) {
    let mut wanted: Vec<acme::Settings> = Vec::new();
    let sections = sections.into_iter().enumerate();
    let sections = sections.map(|(i, (place, table))| section(i, place, table, claims, &mut wanted, errors)).collect();
    (sections, wanted)
}

fn section(
    i: usize,
    place: Place,
    table: Table,
    claims: &mut Claims,
    wanted: &mut Vec<acme::Settings>,
    errors: &mut Vec<ConfigError>,
) -> TlsSettings {
    let name = format!("server.tls[{i}]");
    let mut reader = Reader::new(name.clone(), place, table, errors);
    let listen = reader.take("listen", address::inets).unwrap_or_default();
    if listen.is_empty() && !reader.failed("listen") {
        reader.wrong("listen", "leaves nowhere to listen", LISTEN_REMEDY);
    }
    let auto = reader.take("auto", boolean).unwrap_or(false);
    let pairs = reader.take("certificates", pairs).unwrap_or_default();
    let acme = reader.take_table("acme");
    if pairs.is_empty() && acme.is_none() && !reader.failed("certificates") && !reader.failed("acme") {
        reader.wrong("certificates", "leaves no certificate to show", PAIRS_REMEDY);
    }
    reader.finish();
    let certificates = pairs.into_iter().enumerate().filter_map(|(j, (place, table))| {
        let mut reader = Reader::new(format!("{name}.certificates[{j}]"), place, table, errors);
        let files = files(&mut reader);
        reader.finish();
        files
    });
    let mut certificates: Vec<_> = certificates.collect();
    if let Some((place, table)) = acme {
        let mut reader = Reader::new(format!("{name}.acme"), place, table, errors);
        let order = order(&mut reader, wanted);
        reader.finish();
        if let Some(order) = order {
            certificates.push(order.files());
            if !wanted.contains(&order) {
                wanted.push(order);
            }
        }
    }
    let addresses = listen.iter().map(|claim| claim.address).collect();
    for (j, Claim { address, place, shown }) in listen.into_iter().enumerate() {
        claims.add(&format!("{name}.listen[{j}]"), Claim { address: ListenAddress::Inet(address), place, shown }, errors);
    }
    TlsSettings { listen: addresses, auto, certificates }
}

/// The tables of a list of pairs, and where each stands.
fn pairs(node: &Node) -> Parsed<Vec<(Place, Table)>> {
    let wrong = |node: &Node, item| {
        let wrong = Wrong::new(format!("is {}, where {item} belongs", node.kind()), PAIRS_REMEDY);
        vec![wrong]
    };
    let Value::List(items) = &node.value else { return Err(wrong(node, "a list of certificates with their keys")) };
    all(items.iter().enumerate().map(|(i, item)| match &item.value {
        Value::Table(table) => Ok((item.place.clone(), table.clone())),
        _ => Err(wrong(item, "a certificate with its key").into_iter().map(|wrong| wrong.at(i, item)).collect()),
    }))
}

/// A certificate and its key, if both are there and belong together.
fn files(reader: &mut Reader<'_>) -> Option<Files> {
    let (cert, key) = (reader.take("cert", path), reader.take("key", path));
    for (name, found, remedy) in [("cert", &cert, "write cert = \"fullchain.pem\""), ("key", &key, "write key = \"key.pem\"")] {
        if found.is_none() && !reader.failed(name) {
            reader.wrong(name, "is missing: a certificate is nothing without its key, nor a key without its certificate", remedy);
        }
    }
    let files = Files { cert: cert?, key: key? };
    if let Err(flaw) = certificate::check(&files) {
        let name = if flaw.which == Which::Cert { "cert" } else { "key" };
        reader.wrong(name, flaw.problem, flaw.remedy);
        return None;
    }
    Some(files)
}

/// A certificate that an authority is asked for.
fn order(reader: &mut Reader<'_>, others: &[acme::Settings]) -> Option<acme::Settings> {
    const DOMAINS: &str = "write domains = [\"radio.example\"]";
    let domains = reader.take("domains", domains).unwrap_or_default();
    if domains.is_empty() && !reader.failed("domains") {
        reader.wrong("domains", "leaves nothing to ask a certificate for", DOMAINS);
    }
    if domains.len() > DOMAINS_MOST {
        reader.wrong("domains", format!("are more than the {DOMAINS_MOST} of one certificate"), "share them out over several sections");
    }
    let folder = reader.take("folder", path);
    if folder.is_none() && !reader.failed("folder") {
        reader.wrong("folder", "is missing: certificates have to be kept", "write folder = \"/var/lib/flumen/acme\"");
    }
    let directory = reader.take("directory", directory).unwrap_or_else(|| acme::LETS_ENCRYPT.to_owned());
    let contact = reader.take("contact", contact);
    let ca = reader.take("ca", path);
    if let Some(ca) = ca.as_deref().filter(|ca| !ca.is_file()) {
        reader.wrong("ca", format!("is no file: {}", ca.display()), "name the PEM file of who vouches for the authority");
    }
    if reader.take("agree", boolean) != Some(true) && !reader.failed("agree") {
        let remedy = "read the authority's terms of service, and write agree = true";
        reader.wrong("agree", "does not say that you agree to the authority's terms of service", remedy);
    }
    let order = acme::Settings { domains, folder: folder?, directory, contact, ca };
    if let Some(other) = others.iter().find(|other| other.files() == order.files() && **other != order) {
        let problem = format!("begins with {} as another section's does, which asks for something else", other.domains[0]);
        reader.wrong("domains", problem, "ask for the same in both, or keep them in different folders");
        return None;
    }
    (!order.domains.is_empty()).then_some(order)
}

/// Host names as they stand in a certificate, in small letters.
fn domains(node: &Node) -> Parsed<Vec<String>> {
    texts(node, "[\"radio.example\"]", |text, _| {
        let label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label) && text.parse::<std::net::IpAddr>().is_err() {
            return Ok(text.to_ascii_lowercase());
        }
        let remedy = "write a host name such as radio.example; for *.radio.example and the like, have certificates from elsewhere";
        Err(vec![Wrong::new("is no host name that can be proved over HTTP", remedy)])
    })
}

fn directory(node: &Node) -> Parsed<String> {
    let url = line(1024)(node)?;
    let whole = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '@', '#']));
    whole.then_some(url).ok_or_else(|| {
        let remedy = format!("leave it out for Let's Encrypt ({}), or write an address with https://", acme::LETS_ENCRYPT);
        vec![Wrong::new("is no address of an authority's directory", remedy)]
    })
}

fn contact(node: &Node) -> Parsed<String> {
    let address = line(254)(node)?;
    let whole = address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let plain = address.bytes().all(|b| b.is_ascii_graphic()) && !address.contains([',', '?', '%', ':']);
    (whole && plain).then_some(address).ok_or_else(|| vec![Wrong::new("is no mail address", "write one such as me@radio.example")])
}
