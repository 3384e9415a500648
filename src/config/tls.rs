//! `[[server.tls]]`: sockets that speak TLS, and their certificates.
//!
//! A relative path counts from the file that it is written in, for that is where certificates are put beside.

use super::address::{self, Claim, Claims};
use super::error::{ConfigError, Place};
use super::reader::{Parsed, Reader, Wrong, all};
use super::tree::{Node, Table, Value};
use super::value::{boolean, path};
use crate::door::ListenAddress;
use crate::door::certificate::{self, Files, Which};
use crate::door::tls::TlsSettings;

const LISTEN_REMEDY: &str = "write listen = [\"0.0.0.0:8443\"]";
const PAIRS_REMEDY: &str = "write certificates = [{ cert = \"fullchain.pem\", key = \"key.pem\" }]";

/// Reads every section; each of their addresses joins the claims.
pub(super) fn read(sections: Vec<(Place, Table)>, claims: &mut Claims, errors: &mut Vec<ConfigError>) -> Vec<TlsSettings> {
    sections.into_iter().enumerate().map(|(i, (place, table))| section(i, place, table, claims, errors)).collect()
}

fn section(i: usize, place: Place, table: Table, claims: &mut Claims, errors: &mut Vec<ConfigError>) -> TlsSettings {
    let name = format!("server.tls[{i}]");
    let mut reader = Reader::new(name.clone(), place, table, errors);
    let listen = reader.take("listen", address::inets).unwrap_or_default();
    if listen.is_empty() && !reader.failed("listen") {
        reader.wrong("listen", "leaves nowhere to listen", LISTEN_REMEDY);
    }
    let auto = reader.take("auto", boolean).unwrap_or(false);
    let pairs = reader.take("certificates", pairs).unwrap_or_default();
    if pairs.is_empty() && !reader.failed("certificates") {
        reader.wrong("certificates", "leaves no certificate to show", PAIRS_REMEDY);
    }
    reader.finish(&[]);
    let certificates = pairs.into_iter().enumerate().filter_map(|(j, (place, table))| {
        let mut reader = Reader::new(format!("{name}.certificates[{j}]"), place, table, errors);
        let files = files(&mut reader);
        reader.finish(&[]);
        files
    });
    let certificates = certificates.collect();
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
