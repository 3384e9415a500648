//! Sockets before they have a purpose: accepting, and the hull that lets a routed connection leave actix-web with its socket.

pub mod acceptor;
pub mod answers;
pub mod bound;
pub mod certificate;
pub mod claim;
mod hull;
pub mod inherited;
mod io;
mod ledger;
pub mod origin;
pub mod patrol;
pub mod portion;
pub mod proxied;
mod service;
pub mod tls;

pub use io::Io;
pub use service::{Door, Greet, Lender};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::units::ByteCount;

/// Where connections are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An internet address. `[::]` takes v4 peers as well.
    Inet(SocketAddr),
    /// A unix socket; a left-over of an earlier run at this path is replaced.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The checked settings of the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where connections are accepted.
    pub listen: Vec<ListenAddress>,
    /// Sockets that speak TLS.
    pub tls: Vec<tls::TlsSettings>,
    /// The longest that a request head may take, and a newcomer waits for a source.
    pub header_timeout: Duration,
    /// The largest request head.
    pub max_header_size: ByteCount,
    /// Most connections of every kind.
    pub max_connections: u64,
    /// Who may come in.
    pub patrol: patrol::Settings,
}
