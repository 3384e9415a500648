//! A connection to another server: plain, or by TLS with its certificate checked.
//!
//! - Whoever vouches for the certificate is known to the system, or named in a file that is read for each connection: it may be
//!   another one by then. The system's are read once.
//! - What goes wrong is said in words for people, with what would mend it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Upstream;

/// The largest file of certificates: some hundred of them.
const CA_BYTES_MOST: u64 = 4 << 20;

/// A connection, whatever it is made of.
pub(super) trait Link: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Link for T {}

/// Connects.
///
/// # Errors
/// Says why that does not succeed.
pub(super) async fn connect(upstream: &Upstream) -> Result<Box<dyn Link>, Arc<str>> {
    let told = |error: io::Error| Arc::<str>::from(error.to_string());
    let host = upstream.bare_host();
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, upstream.port)).await.map_err(told)?.collect();
    let stream = TcpStream::connect(&*addresses).await.map_err(told)?;
    if !upstream.secure {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its name is none that a certificate can be for")?;
    let ca = upstream.ca.clone();
    let config = tokio::task::spawn_blocking(move || config(ca.as_deref())).await.map_err(|error| error.to_string())??;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(in_words(&error).into()),
    }
}

/// What TLS is spoken with. Blocks: it reads files.
fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let Some(ca) = ca else {
        if let Some(known) = SYSTEM.get() {
            return Ok(Arc::clone(known));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine trusts no certificate at all: install ca-certificates, or write relay_ca".to_owned());
        }
        let made = trusting(roots)?;
        return Ok(Arc::clone(SYSTEM.get_or_init(|| made)));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| format!("relay_ca {}: {error}", ca.display()))?;
    }
    trusting(roots)
}

/// The certificates in a file, at least one.
///
/// # Errors
/// Says what is wrong with the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    use io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(CA_BYTES_MOST).read_to_end(&mut bytes));
    read.map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("the file {} holds no certificate in PEM", path.display())),
    }
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Why a handshake failed.
fn in_words(error: &io::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
        return format!("the TLS handshake failed: {error}");
    };
    match cause {
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "nobody whom this machine trusts vouches for its certificate: if it is a private one, name it in relay_ca".to_owned()
        }
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "its certificate has expired".to_owned(),
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: is the clock right here, and there?".to_owned()
        }
        InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "its certificate is for another name than the one in relay".to_owned()
        }
        InvalidCertificate(other) => format!("its certificate is not accepted: {other}"),
        InvalidMessage(_) => "it does not speak TLS at this port: write http:// in place of https://, or another port".to_owned(),
        AlertReceived(alert) => format!("it ended the TLS handshake: {alert:?}"),
        other => format!("the TLS handshake failed: {other}"),
    }
}
