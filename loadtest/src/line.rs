//! What a listener listens through: a socket, or a TLS session on one.
//!
//! - Whose certificate it is does not matter to a load test: every one is taken.
//! - No session is resumed: each join costs the server a whole handshake.
//! - What nobody looks at is not decrypted either. The kernel drops it, sealed as it is; so what such a listener counts is a little more
//!   than the stream: the heads of records.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::net;

/// How TLS is spoken, by all listeners of a run.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let anybody = Arc::new(Anybody(provider.signature_verification_algorithms));
        let config = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

/// Believes every certificate; that its owner has the key is checked all the same.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// The request stands in the session, or has been sent.
    asked: bool,
}

impl Line {
    pub(crate) fn new(socket: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        let peer = |tls: &Tls| ClientConnection::new(Arc::clone(&tls.0), ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        let session = tls.map(peer).transpose().map_err(io::Error::other)?.map(Box::new);
        Ok(Self { socket, session, asked: false })
    }

    /// Sends the request if the socket takes it already. `false`: to be tried again when writable.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<bool> {
        if let Some(session) = &mut self.session {
            if !self.asked {
                session.writer().write_all(request)?; // kept until the handshake is done
                self.asked = true;
            }
            return flush(session, &self.socket);
        }
        if !self.asked && !request.is_empty() {
            match rustix::net::send(&self.socket, request, rustix::net::SendFlags::NOSIGNAL) {
                // A request is shorter than any empty send buffer.
                Ok(_) => self.asked = true,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOTCONN) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    /// Whether more will have to be written than the request.
    pub(crate) fn talks(&self) -> bool {
        self.session.is_some()
    }

    /// Reads into `into`; 0 is the end of the stream.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return net::read(&self.socket, into) };
        loop {
            match session.reader().read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            session.read_tls(&mut &self.socket)?;
            session.process_new_packets().map_err(io::Error::other)?;
            flush(session, &self.socket)?;
        }
    }

    /// Drops up to `scratch.len()` received bytes and says how many; 0 is the end of the stream.
    pub(crate) fn discard(&self, scratch: &mut [u8]) -> io::Result<usize> {
        net::discard(&self.socket, scratch)
    }
}

/// `false`: the socket takes no more for now, or is not connected yet.
fn flush(session: &mut ClientConnection, socket: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut &*socket) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
