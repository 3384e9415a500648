//! Becoming a source of an Icecast server: `PUT` with `Expect: 100-continue`, as libshout does it, and then plain bytes.
//!
//! The address is resolved once; the password goes nowhere else. What the server answers is read up to the end of its head.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::{self, Parsed};
use crate::net;
use crate::target::{Protocol, Target};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// `http://user:password@HOST:PORT/mount`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    target: Target,
    credentials: String,
}

/// Passwords stay out of what is printed.
impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("target", &self.target).finish_non_exhaustive()
    }
}

impl FromStr for Mount {
    type Err = anyhow::Error;

    fn from_str(typed: &str) -> anyhow::Result<Self> {
        let wanted = "http://user:password@HOST:PORT/mount is wanted";
        let (credentials, rest) = typed.strip_prefix("http://").and_then(|rest| rest.split_once('@')).context(wanted)?;
        if !credentials.contains(':') || credentials.contains('/') {
            bail!(wanted);
        }
        Ok(Self { target: Target::resolve(&format!("http://{rest}"))?, credentials: credentials.to_owned() })
    }
}

impl Mount {
    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address
    }

    fn request(&self, content_type: &str) -> String {
        let Protocol::Http { host, path } = &self.target.protocol else { return String::new() };
        let login = STANDARD.encode(&self.credentials);
        let agent = concat!("flumen-loadtest/", env!("CARGO_PKG_VERSION"));
        format!(
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {login}\r\nUser-Agent: {agent}\r\n\
             Content-Type: {content_type}\r\nIce-Public: 0\r\nExpect: 100-continue\r\n\r\n"
        )
    }

    /// Connects and is accepted as the mount's source.
    pub(crate) fn open(&self, content_type: &str, patience: Duration) -> anyhow::Result<TcpStream> {
        let mut socket = net::connect_patiently(self.address(), patience)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_write_timeout(Some(ANSWER))?;
        socket.write_all(self.request(content_type).as_bytes())?;
        let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
        loop {
            match http::parse_head(&answer) {
                Parsed::Partial => {}
                Parsed::Nonsense => bail!("the answer is not HTTP"),
                Parsed::Whole(head) if head.status == 100 || head.status == 200 => return Ok(socket),
                Parsed::Whole(head) => bail!("the server answered {}", head.status),
            }
            match socket.read(&mut piece)? {
                0 => bail!("the server hung up"),
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_asked_for_with_its_password_which_debug_output_hides() {
        let mount: Mount = "http://source:hackme@127.0.0.1:8000/live".parse().expect("fine");
        let request = mount.request("audio/mpeg");
        assert!(request.starts_with("PUT /live HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Basic c291cmNlOmhhY2ttZQ==\r\n"), "{request}");
        assert!(!format!("{mount:?}").contains("hackme"));
    }

    #[test]
    fn what_lacks_scheme_or_password_is_refused() {
        for typed in ["127.0.0.1:80/a", "http://127.0.0.1:80/a", "http://source@127.0.0.1:80/a", "https://a:b@127.0.0.1/c"] {
            assert!(typed.parse::<Mount>().is_err(), "{typed}");
        }
    }

    #[test]
    fn an_answer_decides_whether_the_mount_is_ours() {
        for (answer, accepted) in
            [("HTTP/1.1 100 Continue\r\n\r\n", true), ("HTTP/1.0 200 OK\r\n\r\n", true), ("HTTP/1.1 401 No\r\n\r\n", false), ("", false)]
        {
            let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let mount: Mount = format!("http://a:b@{}/c", door.local_addr().expect("bound")).parse().expect("fine");
            let server = std::thread::spawn(move || {
                let mut socket = door.accept().expect("accepts").0;
                let _ = socket.read(&mut [0; 1024]).expect("reads");
                socket.write_all(answer.as_bytes()).expect("sends");
            });
            assert_eq!(mount.open("x/y", Duration::from_secs(1)).is_ok(), accepted, "{answer:?}");
            server.join().expect("ends");
        }
    }
}
