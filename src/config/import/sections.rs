//! The TOML that is written, section by section, and the list of what was left out.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::net::Ipv6Addr;

use super::super::describe::quoted;
use super::Imported;
use super::elements::Element;
use crate::access::{Password, Unfit};
use crate::door::certificate::{self, Files};
use crate::mount::PathPattern;
use crate::units::MountPath;

/// A section on its way to its text.
#[derive(Debug)]
pub(super) struct Section {
    header: String,
    /// The section as a whole would not load.
    commented: bool,
    /// Where it is, if it is a mount.
    path: Option<String>,
    lines: Vec<String>,
    written: HashSet<String>,
}

impl Section {
    pub(super) fn new(header: &str) -> Self {
        Self { header: header.to_owned(), commented: false, path: None, lines: Vec::new(), written: HashSet::new() }
    }

    /// Whether it is the one of a mount at this path.
    pub(super) fn is_of(&self, path: &str) -> bool {
        self.path() == Some(path)
    }

    /// Where it is, if it is a mount.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// It is a mount at this path.
    pub(super) fn place(&mut self, path: &str) {
        self.text("path", path);
        self.path = Some(path.to_owned());
    }

    /// All of it stands there as a comment.
    pub(super) fn comment_out(&mut self) {
        self.commented = true;
    }

    /// Writes a key, if it has not been written yet.
    pub(super) fn set(&mut self, key: &str, value: impl fmt::Display, remark: &str) {
        if !self.written.insert(key.to_owned()) {
            return;
        }
        self.lines.push(if remark.is_empty() { format!("{key} = {value}") } else { format!("{key} = {value}   # {remark}") });
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.set(key, quoted(text), "");
    }

    /// A line of text for people, if it is one.
    pub(super) fn line(&mut self, element: &Element<'_>, key: &str, longest: usize, left_out: &mut Vec<String>) {
        let text = element.text();
        if text.is_empty() {
            return;
        }
        if text.len() > longest || text.chars().any(char::is_control) {
            left_out.push(format!("{}: it is not one line of at most {longest} bytes", element.place()));
            return;
        }
        self.text(key, text);
    }

    /// A password, unless it protects nothing.
    pub(super) fn password(&mut self, element: &Element<'_>, key: &str, left_out: &mut Vec<String>) {
        match Password::plain(element.text()) {
            Ok(_) => self.text(key, element.text()),
            Err(unfit) => {
                if self.written.insert(key.to_owned()) {
                    self.lines.push(format!("# {key} = \"…\"   # Icecast's {unfit}: choose another"));
                }
                if unfit != Unfit::Empty {
                    left_out.push(format!("{}: it {unfit}: choose another", element.place()));
                }
            }
        }
    }

    /// A remark on a line of its own.
    pub(super) fn remark(&mut self, text: &str) {
        self.lines.push(format!("# {text}"));
    }

    fn write(&self, out: &mut String) {
        if self.lines.is_empty() {
            return;
        }
        out.push('\n');
        for line in std::iter::once(&self.header).chain(&self.lines) {
            let mark = if self.commented && !line.starts_with('#') { "# " } else { "" };
            // Writing to a String does not fail.
            let _ = writeln!(out, "{mark}{line}");
        }
    }
}

/// What falls back to what so far: a circle, which Icecast would follow, is left out.
#[derive(Debug, Default)]
pub(super) struct Fallbacks(Vec<(Option<String>, MountPath)>);

impl Fallbacks {
    /// Takes another, from a path or pattern (`None`: from everywhere). Returns whether it closes no circle.
    pub(super) fn take(&mut self, from: Option<&str>, to: &MountPath) -> bool {
        let fits = |from: Option<&str>, path: &MountPath| {
            from.is_none_or(|from| from == path.as_str() || from.parse().is_ok_and(|pattern: PathPattern| pattern.matches(path)))
        };
        // Whatever can be reached from there, by whichever of them.
        let mut reached = vec![to.clone()];
        let mut looked = 0;
        while let Some(here) = reached.get(looked).cloned() {
            looked += 1;
            for (_, next) in self.0.iter().filter(|(from, _)| fits(from.as_deref(), &here)) {
                if !reached.contains(next) {
                    reached.push(next.clone());
                }
            }
        }
        let sound = from.is_none() || !reached[1..].iter().any(|path| fits(from, path));
        if sound {
            self.0.push((from.map(str::to_owned), to.clone()));
        }
        sound
    }
}

/// Where no mount is declared.
const ANYWHERE: &str = "/*";

/// All of it.
#[derive(Debug)]
pub(super) struct Sections {
    name: String,
    pub(super) server: Section,
    pub(super) log: Section,
    pub(super) admin: Section,
    pub(super) relay: Section,
    pub(super) push: Section,
    pub(super) defaults: Section,
    pub(super) directories: Vec<Section>,
    pub(super) mounts: Vec<Section>,
    pub(super) left_out: Vec<String>,
    /// Where Icecast listens: address and port, and whether with TLS.
    sockets: Vec<(String, u64, bool)>,
    /// Ports of SHOUTcast encoders.
    shoutcast: Vec<u16>,
    /// What falls back to what.
    pub(super) fallbacks: Fallbacks,
    /// Most sources at a time.
    pub(super) sources: Option<u64>,
    /// What the certificates are called.
    certificate: Option<(String, String)>,
    /// Where files of mounts lie.
    pub(super) webroot: String,
    /// Where log files lie.
    pub(super) log_folder: String,
}

impl Sections {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            server: Section::new("[server]"),
            log: Section::new("[log]"),
            admin: Section::new("[admin]"),
            relay: Section::new("[relay]"),
            push: Section::new("[push]"),
            defaults: Section::new("[mount_defaults]"),
            directories: Vec::new(),
            mounts: Vec::new(),
            left_out: Vec::new(),
            sockets: Vec::new(),
            shoutcast: Vec::new(),
            fallbacks: Fallbacks::default(),
            sources: None,
            certificate: None,
            webroot: String::new(),
            log_folder: String::new(),
        }
    }

    /// Takes down that something has no equivalent.
    pub(super) fn leave(&mut self, element: &Element<'_>, why: &str) {
        self.left_out.push(format!("{}: {why}", element.place()));
    }

    /// The same for what Icecast itself does not know, as far as is known here.
    pub(super) fn unknown(&mut self, element: &Element<'_>) {
        self.leave(element, "it is not known here");
    }

    pub(super) fn certificate(&mut self, cert: &str, key: &str) {
        self.certificate = Some((cert.to_owned(), key.to_owned()));
    }

    /// A socket that Icecast listens on.
    pub(super) fn listen(&mut self, element: &Element<'_>) {
        let Some(port) = element.child("port").and_then(|port| port.number(1..=65_535)) else {
            return self.leave(element, "it has no port");
        };
        let address = element.text_of(&["bind-address"]).unwrap_or("0.0.0.0");
        let address = if address.parse::<Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.to_owned() };
        if address.contains(['/', ' ', '"']) {
            return self.leave(element, "its address is none");
        }
        let tls = ["ssl", "tls"].iter().find_map(|name| element.child(name)).is_some_and(|tls| {
            tls.flag() || ["auto", "auto_no_plain", "rfc2817", "rfc2818"].contains(&tls.text().to_ascii_lowercase().as_str())
        });
        self.sockets.push((address, port, tls));
        for child in element.children().filter(|_| element.name() == "listen-socket") {
            match child.name() {
                "port" | "bind-address" | "ssl" | "tls" | "shoutcast-compat" => {}
                "shoutcast-mount" => self.shoutcast(port, child.text()),
                "http-headers" => super::headers(&child, self),
                "so-sndbuf" => self.leave(&child, "the send buffer follows the bit rate; see send_buffer"),
                _ => self.unknown(&child),
            }
        }
    }

    /// SHOUTcast encoders that name no mount go to this one; they connect to the port after that of the listeners.
    pub(super) fn shoutcast(&mut self, port: u64, mount: &str) {
        self.shoutcast.extend(u16::try_from(port + 1));
        if mount.parse::<MountPath>().is_ok() {
            self.push.text("shoutcast_mount", mount);
        }
    }

    /// The sockets, each once, and none that another covers.
    fn write_sockets(&mut self) {
        let mut sockets = std::mem::take(&mut self.sockets);
        // Icecast has a socket for these as well, or opens one by itself.
        sockets.retain(|(_, port, _)| !self.shoutcast.iter().any(|shoutcast| u64::from(*shoutcast) == *port));
        self.shoutcast.sort_unstable();
        self.shoutcast.dedup();
        if !self.shoutcast.is_empty() {
            let addresses: Vec<_> = self.shoutcast.iter().map(|port| quoted(&format!("0.0.0.0:{port}"))).collect();
            self.push.set("shoutcast", format!("[{}]", addresses.join(", ")), "");
        }
        let wild = |address: &str| ["0.0.0.0", "[::]"].contains(&address);
        let (mut plain, mut tls): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut ports: HashSet<(String, u64)> = HashSet::new();
        let covers: HashSet<u64> = sockets.iter().filter(|(address, ..)| wild(address)).map(|(_, port, _)| *port).collect();
        for (address, port, with_tls) in &sockets {
            let key = if covers.contains(port) { "*".to_owned() } else { address.clone() };
            if (covers.contains(port) && !wild(address)) || !ports.insert((key, *port)) {
                continue;
            }
            let among = if *with_tls { &mut tls } else { &mut plain };
            among.push(quoted(&format!("{address}:{port}")));
        }
        let list = |addresses: &[String]| format!("[{}]", addresses.join(", "));
        if !plain.is_empty() {
            let lines = std::mem::take(&mut self.server.lines);
            self.server.set("listen", list(&plain), "");
            self.server.lines.extend(lines);
        }
        if !tls.is_empty() {
            let mut section = Section::new("[[server.tls]]");
            section.set("listen", list(&tls), "");
            let fault = match &self.certificate {
                Some((cert, key)) => {
                    section.set("certificates", format!("[{{ cert = {}, key = {} }}]", quoted(cert), quoted(key)), "");
                    certificate::check(&Files { cert: cert.into(), key: key.into() })
                        .err()
                        .map(|flaw| format!("{}: {}", flaw.path.display(), flaw.problem))
                }
                None => Some("there is no certificate".to_owned()),
            };
            if let Some(fault) = fault {
                section.comment_out();
                section.remark(&format!("its certificate has to be there and fit its key: {}", fault.replace(char::is_control, "?")));
                self.left_out.push(format!("{}: <listen-socket>: TLS is a comment: {fault}", self.name));
            }
            self.mounts.insert(0, section);
        }
    }

    pub(super) fn finish(mut self) -> Imported {
        let mut toml = format!(
            "# Made from {} by `flumen import-icecast`. What has no equivalent was listed then.\n# Keys that this version does not support are comments.\n",
            self.name.replace(char::is_control, "?")
        );
        if !self.mounts.iter().any(|section| section.is_of(ANYWHERE)) {
            let mut anywhere = Section::new("[[mount]]");
            anywhere.set("path", quoted(ANYWHERE), "Icecast makes a mount of whatever a source asks for");
            if let Some(most) = self.sources {
                anywhere.set("max_mounts", most, "");
            }
            self.mounts.push(anywhere);
        }
        self.write_sockets();
        for section in [&self.server, &self.log, &self.admin, &self.relay, &self.push, &self.defaults]
            .into_iter()
            .chain(&self.directories)
            .chain(&self.mounts)
        {
            section.write(&mut toml);
        }
        Imported { toml, left_out: self.left_out }
    }
}
